# SPDX-License-Identifier: Apache-2.0
"""``/dev/fuse``: the file system mounted by it, the descriptors by which it is served, and its end."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import loop, mountinfo
from lamella.block.system import explain, explaining
from lamella.closing import Closing
from lamella.errors import BusyError, MissingError, PermissionDeniedError
from lamella.fs.mounted import mount
from lamella.services.fuse import protocol

if TYPE_CHECKING:
    from lamella.block.mountinfo import Mount

log = logs.logger(__name__)

DEVICE = Path("/dev/fuse")
FILESYSTEM = loop.FUSE_FILESYSTEM
"""The type that ``findmnt`` shows; the kernel's is what is before the point."""
_CONTROL = Path("/sys/fs/fuse/connections")
_BACKGROUND = 256
"""Asynchronous requests that the kernel may send before any is answered: as many as loop devices queue."""
_MNT_FORCE = 1
_STALE = (errno.ENOTCONN, errno.ECONNABORTED)
"""What is mounted answers so when its server has ended without unmounting it."""
_STALE_MOUNTS = 16
"""Stale mounts, one over the other, that are detached at most."""
_PR_SET_IO_FLUSHER = 57


class Connection(Closing):
    """A file system at *point*, a path without links, that is served by *descriptor*.

    :meth:`mounted` mounts one. The folder is made if it is missing. Raises :class:`MissingError` without
    FUSE, :class:`PermissionDeniedError` without root, and :class:`BusyError` where a living server's file
    system is mounted.
    """

    def __init__(
        self, point: Path, descriptor: int, number: tuple[int, int] | None, agreed: protocol.Agreed
    ) -> None:
        self.point = point
        self.number = number
        """The (major, minor) of what is mounted; None where the kernel does not show it."""
        self.agreed = agreed
        self._descriptors = [descriptor]

    @classmethod
    def mounted(cls, point: Path) -> Connection:
        """A new one, mounted now."""
        descriptor = _open_device()
        try:
            _make_free(point)
            options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0"
            # Modes decide who may open a file, as elsewhere: root. Without allow_other a program that gives
            # up being root could not even use the one that it has opened.
            options += ",default_permissions,allow_other,nosuid,nodev,noexec"
            mount.mount("lamella", point, FILESYSTEM, options=[options])
            try:
                number = mounted_number(point)
                with explaining("serve", str(point)):
                    agreed = _agree(descriptor)
            except BaseException:
                with suppress(OSError):
                    _umount(point, _MNT_FORCE | mount.MNT_DETACH)
                raise
        except BaseException:
            os.close(descriptor)
            raise
        log.info("FUSE file system mounted at %s: %s", point, agreed)
        return cls(point, descriptor, number, agreed)

    def clone(self) -> int:
        """Another descriptor of the same file system. Requests read from it are answered by it."""
        try:
            descriptor = _open_device()
            self._descriptors.append(descriptor)
            fcntl.ioctl(descriptor, protocol.DEV_IOC_CLONE, struct.pack("=I", self._descriptors[0]))
        except OSError as error:
            raise explain(error, "share", str(DEVICE)) from error
        return descriptor

    def notify(self, message: bytes) -> None:
        """Tell the kernel something. That it does not know the node is no error."""
        try:
            os.write(self._descriptors[0], message)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise explain(error, "notify the kernel of", str(self.point)) from error

    def abort(self) -> None:
        """Unmount it, whoever uses it: requests end with an error, and so does reading from descriptors."""
        found = _mounted_at(self.point)
        if found is not None and (self.number is None or (found.major, found.minor) == self.number):
            try:
                _umount(self.point, _MNT_FORCE | mount.MNT_DETACH)
            except OSError as error:
                log.info("cannot unmount %s: %s", self.point, error.strerror)
            else:
                log.info("unmounted %s", self.point)
        elif self.number is not None:
            # Something else has unmounted it. Where it was in use, the kernel still keeps it.
            with suppress(OSError):
                (_CONTROL / str(self.number[1]) / "abort").write_text("1")

    @property
    def descriptor(self) -> int:
        """The one that the file system lives by."""
        return self._descriptors[0]

    def release(self) -> int:
        """The descriptor that the file system lives by, for whoever serves it next; it is the caller's.

        Requests that a thread has read and not answered are failed, and others wait. Closing does nothing
        afterwards.
        """
        first = self._descriptors.pop(0)
        self._close_descriptors()
        return first

    def close(self) -> None:
        """Unmount it if it is mounted. Nobody may use the descriptors any more."""
        if self._descriptors:
            self.abort()
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        for descriptor in self._descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self._descriptors = []


def available() -> bool:
    """Whether we may serve a file system here: root, and a kernel with FUSE."""
    return os.geteuid() == 0 and DEVICE.exists()


def mounted_number(point: Path) -> tuple[int, int] | None:
    """The (major, minor) of the file system of ours at *point*, if one is mounted there."""
    found = _mounted_at(point)
    return (found.major, found.minor) if found is not None and found.filesystem == FILESYSTEM else None


def is_alive(descriptor: int) -> bool:
    """Whether the file system of a descriptor of ``/dev/fuse`` has neither been aborted nor ended."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return not poll.poll(0)


def abort_at(point: Path) -> None:
    """End the service of what is mounted at *point*, without detaching it if somebody uses it."""
    if mounted_number(point) is None:
        return
    try:
        _umount(point, _MNT_FORCE)
    except OSError as error:
        if error.errno != errno.EBUSY:  # as it is when it is aborted, and a file of it is open
            raise explain(error, "unmount", str(point)) from error


def flush_without_throttling() -> None:
    """Mark this thread as one that the kernel's write-back waits for (``PR_SET_IO_FLUSHER``, Linux 5.6).

    What is mounted on our files is written back through this thread. If the thread then waited for memory to
    come free, or was slowed down for having made too many dirty pages, it would wait for that write-back:
    for itself. Not permitted without CAP_SYS_RESOURCE; the mark is then missing.
    """
    if mount.libc().prctl(_PR_SET_IO_FLUSHER, *(ctypes.c_ulong(number) for number in (1, 0, 0, 0))):
        log.debug("cannot set PR_SET_IO_FLUSHER: %s", os.strerror(ctypes.get_errno()))


def _agree(descriptor: int) -> protocol.Agreed:
    while True:  # the kernel has sent INIT when mount(2) returns
        request = protocol.Request.parse(os.read(descriptor, protocol.PAGE * 4))
        agreed, body = protocol.agree(request, _BACKGROUND)
        os.write(descriptor, protocol.answer(request.unique, body))
        if agreed is not None:
            return agreed


def _open_device() -> int:
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(
            f"{DEVICE} is missing: FUSE file systems cannot be served",
            hint="load the module (modprobe fuse), or give the container the device (--device /dev/fuse)",
        ) from error
    except PermissionError as error:
        raise PermissionDeniedError(
            f"cannot open {DEVICE}: {error.strerror}", hint="run as root, with the device allowed"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO):
            raise MissingError("this kernel has no FUSE", hint="load it: modprobe fuse") from error
        raise explain(error, "open", str(DEVICE)) from error


def _mounted_at(point: Path) -> Mount | None:
    """What is mounted at *point*, a path without links, the uppermost. Asks nothing of what is mounted."""
    where = str(point)
    return next((each for each in reversed(mountinfo.mounts()) if each.point == where), None)


def _make_free(point: Path) -> None:
    """Detach stale mounts of ours at *point*."""
    for _ in range(_STALE_MOUNTS):
        found = _mounted_at(point)
        try:
            os.stat(point)
        except FileNotFoundError:
            with explaining("create", str(point)):
                point.mkdir(parents=True, mode=0o700)
            return
        except OSError as error:
            if error.errno not in _STALE or found is None or found.filesystem != FILESYSTEM:
                raise explain(error, "mount at", str(point)) from error
            log.info("detach what is mounted at %s: its server has ended", point)
            with explaining("unmount", str(point)):
                _umount(point, mount.MNT_DETACH)
        else:
            if found is not None and found.filesystem == FILESYSTEM:
                raise BusyError(
                    f"{point} is served by another process", hint=f"stop it first, or: umount {point}"
                )
            return
    raise BusyError(f"{point} is still mounted by a server that has ended", hint=f"umount --lazy {point}")


def _umount(point: Path, flags: int) -> None:
    if mount.libc().umount2(os.fsencode(point), flags | mount.UMOUNT_NOFOLLOW):
        raise mount.last_error(str(point))
