# SPDX-License-Identifier: Apache-2.0
"""Loop devices: files as block devices of the kernel's, by its ioctls.

A file is attached once: attaching it again gives the same device. While it is attached, the
loop device holds the file's lock (``flock``) that :class:`lamella.block.file.FileDevice` wants too, so
that the kernel and a program never write one file at the same time. Numbers and structures are
those of ``linux/loop.h``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import mountinfo
from lamella.block.sysfs import SYS_BLOCK, attribute, holders, number_attribute
from lamella.block.system import explain, explaining
from lamella.block.udev_lock import lock_holders
from lamella.closing import Closing
from lamella.errors import (
    BusyError,
    LamellaError,
    MissingError,
    NotFoundError,
    PermissionDeniedError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logs.logger(__name__)

CONTROL = Path("/dev/loop-control")
MAJOR = 7
FUSE_FILESYSTEM = "fuse.lamella"
"""The type of the FUSE file systems of :mod:`lamella.services.fuse`."""

LOOP_SET_FD = 0x4C00
LOOP_CLR_FD = 0x4C01
LOOP_SET_STATUS64 = 0x4C04
LOOP_GET_STATUS64 = 0x4C05
LOOP_SET_CAPACITY = 0x4C07
LOOP_SET_DIRECT_IO = 0x4C08
LOOP_SET_BLOCK_SIZE = 0x4C09
LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_ADD = 0x4C80
LOOP_CTL_GET_FREE = 0x4C82

LO_FLAGS_READ_ONLY = 1
LO_FLAGS_AUTOCLEAR = 4
LO_FLAGS_DIRECT_IO = 16

_INFO = struct.Struct("=5Q4I64s64s32s16x")
"""struct loop_info64: device, inode, rdevice, offset, sizelimit, number, two of encryption, flags, names."""
_FLAGS = 8
"""The index of the flags in it."""
_CONFIG = struct.Struct(f"=II{_INFO.size}s64x")
"""struct loop_config: descriptor, block size, struct loop_info64, reserved."""
_TRIES = 64
"""How often another process may take the free device that we were just given."""
UDEV_TIMEOUT = 10.0
"""Seconds to wait for udev, which opens every device that has changed."""
_ATTACH_TIMEOUT = 10.0
"""Seconds to wait for another process that attaches; beyond that, something else holds the lock."""
_SERVER_GONE = (errno.ENOTCONN, errno.ECONNABORTED)
"""The kernel asks the file for its status, and this is a FUSE file system's answer without a server."""
_RELEASE_TIMEOUT = 2.0
"""Seconds that the kernel may need to release a file whose device was detached."""


@dataclass(frozen=True, slots=True)
class LoopInfo:
    """What the kernel reports of an attached loop device. *offset* and *size_limit* (0: none) in bytes."""

    number: int
    path: str
    backing: str
    """The file's path when it was attached, as far as the kernel still knows it."""
    device: int
    inode: int
    """With *device* the file's, or 0 where it cannot be asked."""
    offset: int
    size_limit: int
    read_only: bool
    autoclear: bool
    direct_io: bool
    deleted: bool
    """The file has no name any more, or is on a FUSE file system that was unmounted or whose server ended."""


@dataclass(slots=True)
class LoopDevice(Closing):
    """A loop device that this process has open. Closing it detaches an autoclear device, if nothing else
    (a table of device-mapper, a mount) has it open."""

    path: str
    number: int
    fd: int

    @property
    def device(self) -> tuple[int, int]:
        """Its (major, minor)."""
        found = os.fstat(self.fd).st_rdev
        return os.major(found), os.minor(found)

    def set_capacity(self) -> None:
        """Read the file's new size."""
        set_capacity(self)

    def close(self) -> None:
        """Close it; twice is harmless."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def available() -> bool:
    """Whether we may attach files here: root, and a kernel with loop devices."""
    return os.geteuid() == 0 and CONTROL.exists()


def attach(
    path: str | os.PathLike[str],
    *,
    read_only: bool = False,
    direct_io: bool = False,
    autoclear: bool = True,
    sector_size: int = 0,
    locked: int | None = None,
) -> LoopDevice:
    """The loop device over a file: the one that it is attached to already, or a new one.

    *autoclear*: it goes when its last user closes it; keep the result open until there is another.
    *direct_io* passes the file's page cache by, where its file system can. *sector_size* in bytes, 0 for
    the usual 512. *locked* is a descriptor with which the caller has the file open and locked: the loop
    device shares that lock. Raises :class:`BusyError` where another program has the file locked or attached
    it in another way, :class:`MissingError` without loop devices, :class:`PermissionDeniedError` without
    root.
    """
    name = os.fspath(path)
    backing = _open_backing(name, read_only=read_only) if locked is None else os.dup(locked)
    try:
        for info in _attached_to(backing):
            device = _reopened(info, name, backing, read_only=read_only)
            if device is not None:
                return device
        control = _open_control()
        try:
            _lock_control(control)
            for info in _attached_to(backing):  # by the process that had the lock before us
                device = _reopened(info, name, backing, read_only=read_only)
                if device is not None:
                    return device
            _lock(name, backing, read_only=read_only)
            flags = _flags(read_only=read_only, autoclear=autoclear, direct_io=direct_io)
            return _attach_new(control, name, backing, flags, sector_size)
        finally:
            os.close(control)
    finally:
        os.close(backing)


def attach_new(
    path: str | os.PathLike[str], *, read_only: bool = False, direct_io: bool = False
) -> LoopDevice:
    """An autoclear loop device over a file that only the caller attaches, and that cannot be locked.

    Raises as :func:`attach` does.
    """
    name = os.fspath(path)
    backing = _open_backing(name, read_only=read_only)
    try:
        control = _open_control()
        try:
            _lock_control(control)
            flags = _flags(read_only=read_only, autoclear=True, direct_io=direct_io)
            return _attach_new(control, name, backing, flags, 0)
        finally:
            os.close(control)
    finally:
        os.close(backing)


def find(path: str | os.PathLike[str]) -> list[LoopInfo]:
    """The loop devices over a file; also over one of that name that was deleted since."""
    name = os.fspath(path)
    try:
        found = os.stat(name)
    except FileNotFoundError:
        where = os.path.abspath(name)
        return [info for info in attached() if info.deleted and info.backing == where]
    except OSError as error:
        raise explain(error, "look at", name) from error
    return [info for info in attached() if _is_over(info, found, name)]


def attached() -> list[LoopInfo]:
    """Every attached loop device. As an ordinary user, what ``/sys`` shows of them."""
    infos = []
    silent = _silent_folders()
    for number in _numbers():
        info = _look(number, silent)
        if info is not None:
            infos.append(info)
    return infos


def look(number: int) -> LoopInfo | None:
    """What loop device *number* is attached to; None if to nothing."""
    return _look(number, _silent_folders())


def _look(number: int, silent: tuple[str, ...]) -> LoopInfo | None:
    folder = SYS_BLOCK / f"loop{number}" / "loop"
    backing = attribute(folder, "backing_file")
    if not backing:
        return None
    deleted = backing.endswith(" (deleted)")
    backing = backing.removesuffix(" (deleted)") if deleted else backing
    path = f"/dev/loop{number}"
    if backing.startswith(silent):
        return _info_from_sysfs(number, folder, path, backing, deleted=deleted, ask=False)
    try:
        descriptor = _open_node(number, os.O_RDONLY)
    except LamellaError:
        return _info_from_sysfs(number, folder, path, backing, deleted=deleted)
    try:
        fields = _status(descriptor)
    except OSError as error:
        if error.errno == errno.ENXIO:  # detached in the meantime
            return None
        if error.errno in _SERVER_GONE:
            return _info_from_sysfs(number, folder, path, backing, deleted=True)
        raise explain(error, "look at", path) from error
    finally:
        os.close(descriptor)
    device, inode, _, offset, limit, _, _, _, flags = fields[:9]
    return LoopInfo(
        number,
        path,
        backing,
        _kernels_device(device),
        inode,
        offset,
        limit,
        bool(flags & LO_FLAGS_READ_ONLY),
        bool(flags & LO_FLAGS_AUTOCLEAR),
        bool(flags & LO_FLAGS_DIRECT_IO),
        deleted,
    )


def attached_below(folder: str) -> list[int]:
    """The numbers of the loop devices over files in *folder*, by the paths that ``/sys`` shows. Asks the
    file system nothing, which may have no server that answers."""
    start = f"{folder}/"
    return [number for number in _numbers() if (_backing_path(number) or "").startswith(start)]


def reopen(number: int, backing: str, *, read_only: bool) -> LoopDevice | None:
    """Loop device *number*, if it is attached to the file *backing*. Asks the file nothing, likewise."""
    if _backing_path(number) != backing:
        return None
    try:
        descriptor = _open_node(number, os.O_RDONLY if read_only else os.O_RDWR)
    except NotFoundError:
        return None
    if _backing_path(number) != backing:  # detached, and given to another, before it was open
        os.close(descriptor)
        return None
    return LoopDevice(f"/dev/loop{number}", number, descriptor)


def set_autoclear(loop: LoopDevice, *, autoclear: bool) -> None:
    """Whether it goes when its last user closes it. The file has to answer."""
    with explaining("change", loop.path):
        fields = list(_status(loop.fd))
        flags = fields[_FLAGS] & ~LO_FLAGS_AUTOCLEAR
        fields[_FLAGS] = flags | (LO_FLAGS_AUTOCLEAR if autoclear else 0)
        fcntl.ioctl(loop.fd, LOOP_SET_STATUS64, _INFO.pack(*fields))


def detach(loop: LoopInfo) -> bool:
    """Detach the file. Returns whether it is detached now; else that happens when its last user closes it.

    One that is attached to nothing, or to another file by now, is not an error.
    """
    try:
        descriptor = _open_node(loop.number, os.O_RDONLY)
    except NotFoundError:
        return True
    try:
        if not _is_still(loop, descriptor):
            return True
        fcntl.ioctl(descriptor, LOOP_CLR_FD)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return True
        raise explain(error, "detach", loop.path) from error
    finally:
        os.close(descriptor)
    log.debug("detached %s from %s", loop.backing, loop.path)
    now = look(loop.number)
    return now is None or (now.device, now.inode) != (loop.device, loop.inode)


def _is_still(loop: LoopInfo, descriptor: int) -> bool:
    """Whether the open device is attached to the file that it was attached to. Raises ``OSError``."""
    try:
        fields = _status(descriptor)
    except OSError as error:
        if error.errno not in _SERVER_GONE:
            raise
        return attribute(SYS_BLOCK / f"loop{loop.number}" / "loop", "backing_file") == loop.backing
    return (_kernels_device(fields[0]), fields[1]) == (loop.device, loop.inode)


def wait_until_free(*paths: str | os.PathLike[str], timeout: float = UDEV_TIMEOUT) -> bool:
    """Wait until loop devices over files are gone that something has open for a moment, such as udev.

    Gives whether none is left; one that is below another device is in use, and is not waited for. The locks
    that they had on the files are free then, too.
    """
    end = time.monotonic() + timeout
    for pause in _pauses():
        left = [loop for path in paths for loop in find(path)]
        if not left:
            break
        if any(_is_in_use(loop) for loop in left) or time.monotonic() > end:
            return False
        time.sleep(pause)
    for path in paths:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _lock_after_release(descriptor, fcntl.LOCK_SH)
            finally:
                os.close(descriptor)
    return True


def _is_in_use(loop: LoopInfo) -> bool:
    """Whether it stays in use when those that only inspect it have closed it."""
    return not loop.autoclear or bool(holders(SYS_BLOCK / f"loop{loop.number}"))


def _pauses() -> Iterator[float]:
    """Seconds between two polls, short ones first."""
    pause = 0.0005
    while True:
        yield pause
        pause = min(2 * pause, 0.02)


def set_capacity(loop: LoopInfo | LoopDevice) -> None:
    """Read the file's new size. Devices stacked on this one have to be resized in their own way."""
    own = isinstance(loop, LoopDevice) and loop.fd >= 0
    descriptor = loop.fd if isinstance(loop, LoopDevice) and own else _open_node(loop.number, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, LOOP_SET_CAPACITY)
    except OSError as error:
        raise explain(error, "resize", loop.path) from error
    finally:
        if not own:
            os.close(descriptor)


# -- attaching ------------------------------------------------------------------------------------


def _open_backing(name: str, *, read_only: bool) -> int:
    flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
    with explaining("open", name):
        descriptor = os.open(name, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{name} is not a regular file", hint="only files need a loop device")
    return descriptor


def _attached_to(backing: int) -> list[LoopInfo]:
    """Devices over the whole of the open file, as far as we may open them."""
    found = os.fstat(backing)
    same = (found.st_dev, found.st_ino)
    return [info for info in attached() if (info.device, info.inode) == same and not info.offset]


def _reopened(info: LoopInfo, name: str, backing: int, *, read_only: bool) -> LoopDevice | None:
    """The device that the file is attached to, opened; None if it was detached before we had it."""
    if info.read_only and not read_only:
        raise BusyError(
            f"{name} is attached to {info.path} for reading only", hint=f"detach it: losetup -d {info.path}"
        )
    if info.size_limit:
        raise BusyError(
            f"{name} is attached to {info.path} only in part", hint=f"detach it: losetup -d {info.path}"
        )
    try:
        descriptor = _open_node(info.number, os.O_RDONLY if read_only else os.O_RDWR)
    except NotFoundError:
        return None
    try:
        fields = _status(descriptor)
        wanted = os.fstat(backing)
        if (_kernels_device(fields[0]), fields[1]) == (wanted.st_dev, wanted.st_ino):
            return LoopDevice(info.path, info.number, descriptor)
    except OSError as error:
        if error.errno != errno.ENXIO:
            os.close(descriptor)
            raise explain(error, "look at", info.path) from error
    os.close(descriptor)
    return None


def _lock_control(control: int) -> None:
    """Serialise attaching, so that two processes that attach the same file get one device."""
    end = time.monotonic() + _ATTACH_TIMEOUT
    while time.monotonic() < end:
        try:
            fcntl.flock(control, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.debug("waiting for another program that attaches a loop device")
            time.sleep(0.002)
        else:
            return


def _lock(name: str, backing: int, *, read_only: bool) -> None:
    """Lock the file; the loop device's own reference to it keeps that, for as long as it is attached."""
    try:
        _lock_after_release(backing, fcntl.LOCK_SH if read_only else fcntl.LOCK_EX)
    except BlockingIOError as error:
        raise BusyError(
            f"{name} is in use by another program", hint="wait for it to finish, or stop it"
        ) from error


def _lock_after_release(descriptor: int, how: int) -> None:
    """Lock an open file once a loop device that is being detached has released it.

    Raises ``BlockingIOError`` where a program has it locked.
    """
    end = time.monotonic() + _RELEASE_TIMEOUT
    for pause in _pauses():
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if _program_holds(descriptor) or time.monotonic() > end:
                raise
            log.debug("waiting for a loop device that still has the file's lock")
            time.sleep(pause)
        else:
            return


def _program_holds(descriptor: int) -> bool:
    """Whether a process that has locked the open file still has it open; a loop device keeps the lock
    of the process that attached it."""
    wanted = os.fstat(descriptor)
    for process in lock_holders(descriptor):
        with suppress(OSError):
            for number in os.listdir(f"/proc/{process}/fd"):
                if process == os.getpid() and int(number) == descriptor:
                    continue
                with suppress(OSError):
                    found = os.stat(f"/proc/{process}/fd/{number}")
                    if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                        return True
    return False


def _flags(*, read_only: bool, autoclear: bool, direct_io: bool) -> int:
    return (
        (LO_FLAGS_READ_ONLY if read_only else 0)
        | (LO_FLAGS_AUTOCLEAR if autoclear else 0)
        | (LO_FLAGS_DIRECT_IO if direct_io else 0)
    )


def _attach_new(control: int, name: str, backing: int, flags: int, sector_size: int) -> LoopDevice:
    taken = -1
    for attempt in range(_TRIES):
        number = _free_number(control, unlike=taken)
        device = _open_node(number, os.O_RDONLY if flags & LO_FLAGS_READ_ONLY else os.O_RDWR)
        try:
            _configure(device, backing, name, flags, sector_size)
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY:
                raise explain(error, f"attach {name} to", f"/dev/loop{number}") from error
            taken = number if attempt else -1  # the second time it is held without a file: take another one
            time.sleep(0.001 * attempt)
        except BaseException:
            os.close(device)
            raise
        else:
            log.debug("attached %s to /dev/loop%d", name, number)
            return LoopDevice(f"/dev/loop{number}", number, device)
    raise BusyError(
        f"cannot attach {name}: other programs took every free loop device first",
        hint="try again; see losetup",
    )


def _open_control() -> int:
    try:
        return os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PermissionDeniedError(
                f"cannot attach files to loop devices: {CONTROL} may not be opened",
                hint="run it as root; or use --engine user, which needs no loop devices",
            ) from error
        raise MissingError(
            f"this system has no loop devices: {CONTROL} cannot be opened ({os.strerror(error.errno or 0)})",
            hint="load the module: modprobe loop; in a container, give it /dev/loop-control and the loop "
            "devices; or use --engine user, which needs none",
        ) from error


def _free_number(control: int, *, unlike: int) -> int:
    try:
        number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
        if number == unlike:
            number = fcntl.ioctl(control, LOOP_CTL_ADD, -1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PermissionDeniedError(
                "the kernel does not permit the use of loop devices",
                hint="run it as root, outside a user namespace",
            ) from error
        raise MissingError(
            f"no loop device is free ({os.strerror(error.errno or 0)})",
            hint="list them: losetup; for more: modprobe loop max_loop=64",
        ) from error
    return number


def _open_node(number: int, flags: int) -> int:
    """Open ``/dev/loopN``, made first where it is missing, as it is in containers."""
    path = f"/dev/loop{number}"
    wanted = _number_of(number)
    with suppress(FileNotFoundError):
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise explain(error, "open", path) from error
        if stat.S_ISBLK(mode := os.fstat(descriptor).st_mode) and os.fstat(descriptor).st_rdev == wanted:
            return descriptor
        os.close(descriptor)
        raise MissingError(
            f"{path} is not the loop device of its name"
            + ("" if stat.S_ISBLK(mode) else ": it is not a block device"),
            hint=f"remove it, and create it again: mknod {path} b {os.major(wanted)} {os.minor(wanted)}",
        )
    if not (SYS_BLOCK / f"loop{number}").exists() and SYS_BLOCK.exists():
        raise NotFoundError(f"there is no loop device {number}", hint="see losetup")
    try:
        os.mknod(path, stat.S_IFBLK | 0o600, wanted)
    except FileExistsError:
        pass  # udev, or another process like us
    except OSError as error:
        raise MissingError(
            f"{path} is missing and cannot be created: {os.strerror(error.errno or 0)}",
            hint="in a container, give it the host's loop devices; or use --engine user, which needs none",
        ) from error
    with explaining("open", path):
        return os.open(path, flags | os.O_CLOEXEC)


def _configure(device: int, backing: int, name: str, flags: int, sector_size: int) -> None:
    """LOOP_CONFIGURE, or its equivalent before Linux 5.8. Raises ``OSError``."""
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, os.fsencode(name)[:63], b"", b"")
    try:
        fcntl.ioctl(device, LOOP_CONFIGURE, _CONFIG.pack(backing, sector_size, info))
        return
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
    fcntl.ioctl(device, LOOP_SET_FD, backing)
    try:
        fcntl.ioctl(device, LOOP_SET_STATUS64, info)
        if sector_size:
            fcntl.ioctl(device, LOOP_SET_BLOCK_SIZE, sector_size)
    except BaseException:
        with suppress(OSError):
            fcntl.ioctl(device, LOOP_CLR_FD)
        raise
    if flags & LO_FLAGS_DIRECT_IO:
        with suppress(OSError):  # a file system that cannot
            fcntl.ioctl(device, LOOP_SET_DIRECT_IO, 1)


# -- looking --------------------------------------------------------------------------------------


def _numbers() -> list[int]:
    try:
        names = os.listdir(SYS_BLOCK)
    except OSError as error:
        raise MissingError(
            f"cannot list the block devices: {error}", hint="mount /sys: mount -t sysfs sysfs /sys"
        ) from error
    return sorted(int(name[4:]) for name in names if name.startswith("loop") and name[4:].isdigit())


def _backing_path(number: int) -> str | None:
    """The path of the file, also of one that is deleted, or None."""
    found = attribute(SYS_BLOCK / f"loop{number}" / "loop", "backing_file")
    return found.removesuffix(" (deleted)") if found else None


def _number_of(number: int) -> int:
    """Device number of loop device *number*; partitions may have numbers between them."""
    try:
        major, _, minor = (SYS_BLOCK / f"loop{number}" / "dev").read_text().strip().partition(":")
        return os.makedev(int(major), int(minor))
    except (OSError, ValueError):
        return os.makedev(MAJOR, number)


def _status(descriptor: int) -> tuple[int, ...]:
    """The fields of struct loop_info64. Raises ``OSError``, ENXIO for a device without a file."""
    return _INFO.unpack(fcntl.ioctl(descriptor, LOOP_GET_STATUS64, bytes(_INFO.size)))


def _kernels_device(number: int) -> int:
    """A device number as ``os.stat`` has it, of one as the kernel packs it in 32 bits."""
    return os.makedev((number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00))


def _silent_folders() -> tuple[str, ...]:
    """Where the files lie that :mod:`lamella.services.fuse` serves, each with a / at its end.

    They are not asked for their status, as they do not answer while their server restarts.
    """
    return tuple(f"{each.point}/" for each in mountinfo.mounts() if each.filesystem == FUSE_FILESYSTEM)


def _info_from_sysfs(
    number: int, folder: Path, path: str, backing: str, *, deleted: bool, ask: bool = True
) -> LoopInfo:
    offset, limit, autoclear, direct_io, read_only = (
        number_attribute(folder, key) or 0 for key in ("offset", "sizelimit", "autoclear", "dio", "../ro")
    )
    device = inode = 0
    if ask and not deleted:
        with suppress(OSError):
            found = os.stat(backing)
            device, inode = found.st_dev, found.st_ino
    return LoopInfo(
        number,
        path,
        backing,
        device,
        inode,
        offset,
        limit,
        bool(read_only),
        bool(autoclear),
        bool(direct_io),
        deleted,
    )


def _is_over(info: LoopInfo, found: os.stat_result, name: str) -> bool:
    if info.inode:
        return (info.device, info.inode) == (found.st_dev, found.st_ino)
    return not info.deleted and info.backing == os.path.abspath(name)
