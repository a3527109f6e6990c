# SPDX-License-Identifier: Apache-2.0
"""A mount that is in no folder: a descriptor of its root, and nothing else.

It is in no mount namespace, so it can leak into none, and it ends with the process, however that ends.
The kernel has this since 5.2 (``fsopen``, ``fsconfig``, ``fsmount``; numbers and constants are those of
``linux/mount.h``, the same on every architecture but alpha). On an older one it is mounted in a folder
and taken out of there at once, which comes to the same but for that moment.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block.system import explain, explaining
from lamella.errors import CorruptError, MissingError, NotFoundError, ReadOnlyError, Remedy
from lamella.fs.mounted import mount as kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.errors import LamellaError

log = logs.logger(__name__)

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_BLKFLSBUF = 0x1261
_READ_ONLY = 0x1
_ATTRIBUTES = 0x2 | 0x4 | 0x8 | 0x10
"""MOUNT_ATTR_NOSUID, NODEV, NOEXEC and NOATIME: nothing of it is ever run or opened as a device."""


@contextmanager
def mounted(source: str, filesystem: str, options: str = "", *, read_only: bool = False) -> Iterator[int]:
    """Mount the device *source* for the block, which gets a descriptor of the root directory.

    *options* are the file system's own, divided by commas outside of double quotes. When the block ends
    well, everything written is on the device, and the device free again, before this returns; what the
    kernel could not write is an error. Raises :class:`CorruptError` where the kernel finds no sound file
    system, :class:`MissingError` where it does not know *filesystem*, :class:`ReadOnlyError` where a log
    would have to be replayed on a device that cannot be written.
    """
    _drop_cache(source)
    try:
        root = _attach(source, filesystem, options, read_only=read_only)
    except OSError as error:
        raise _explained(error, source, filesystem) from error
    try:
        yield root
        if not read_only:
            _sync(root, source)
    finally:
        os.close(root)
        log.debug("end of the detached mount of %s", source)
        _drop_cache(source)


def _drop_cache(source: str) -> None:
    """Write and forget what the page cache has of a device.

    A mounted file system may read and write past that cache, and whoever has the device open meanwhile
    would go on to see what was.
    """
    with explaining("open", source):
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _BLKFLSBUF)
        finally:
            os.close(descriptor)


def _sync(root: int, source: str) -> None:
    if kernel.libc().syncfs(root):
        raise explain(kernel.last_error(), "write the file system in", source)


def _attach(source: str, filesystem: str, options: str, *, read_only: bool) -> int:
    log.debug(
        "detached mount of %s: type %s, options %r, read-only %s", source, filesystem, options, read_only
    )
    context = _call(_FSOPEN, filesystem.encode(), _CLOEXEC)
    if context < 0:
        error = kernel.last_error()
        if error.errno == errno.ENOSYS:
            return _attach_in_a_folder(source, filesystem, options, read_only=read_only)
        raise error
    try:
        _configure(context, _SET_STRING, b"source", os.fsencode(source))
        if read_only:
            _configure(context, _SET_FLAG, b"ro", None)
        for option in filter(None, kernel.divided(options)):
            key, equals, value = option.partition("=")
            how = _SET_STRING if equals else _SET_FLAG
            # The quotes that keep a value's commas together are none of its own.
            given = os.fsencode(value.replace('"', "")) if equals else None
            _configure(context, how, os.fsencode(key), given)
        _configure(context, _CREATE, None, None)
        attributes = _ATTRIBUTES | (_READ_ONLY if read_only else 0)
        mount = _call(_FSMOUNT, context, _CLOEXEC, attributes)
        if mount < 0:
            raise _failed(context)
    finally:
        os.close(context)
    try:
        return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)


def _configure(context: int, command: int, key: bytes | None, value: bytes | None) -> None:
    if _call(_FSCONFIG, context, command, key, value, 0) < 0:
        raise _failed(context)


def _failed(context: int) -> OSError:
    """What went wrong, in the words that the kernel has left for it."""
    number = ctypes.get_errno()
    said = []
    with suppress(OSError):
        while line := os.read(context, 8192):
            said.append(line.decode(errors="replace").strip().removeprefix("e ").removeprefix("w "))
    return OSError(number, "; ".join(said) or os.strerror(number))


def _attach_in_a_folder(source: str, filesystem: str, options: str, *, read_only: bool) -> int:
    wanted = ["nosuid", "nodev", "noexec", "noatime", *filter(None, [options])]
    folder = tempfile.mkdtemp(prefix="lamella-")
    try:
        try:
            kernel.mount(source, folder, filesystem, options=wanted, read_only=read_only)
            return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            with suppress(NotFoundError):  # the mounting has failed
                kernel.unmount(folder, lazy=True)
    finally:
        with suppress(OSError):  # never more than the folder: what is in it would be the file system's
            os.rmdir(folder)


def _explained(error: OSError, source: str, filesystem: str) -> LamellaError:
    what = f"cannot mount the {filesystem} in {source}"
    reason = error.strerror or str(error)
    match error.errno:
        case errno.ENODEV:
            return MissingError(
                f"{what}: this kernel does not know {filesystem}", hint=f"load it: modprobe {filesystem}"
            )
        case errno.EROFS:
            return ReadOnlyError(
                f"{what}: its log has to be replayed, and the device cannot be written",
                steps=[Remedy.MAKE_WRITABLE],
            )
        case errno.EINVAL | errno.EUCLEAN | errno.EIO:
            return CorruptError(
                f"{what}: the kernel refuses it ({reason})",
                hint="dmesg says why; look at dm.mountopt as well",
            )
    return explain(error, f"mount the {filesystem} in", source)


def _call(number: int, *arguments: int | bytes | None) -> int:
    """A system call of numbers and texts; -1 with errno set where it fails."""
    converted = [
        ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_char_p(argument)
        for argument in arguments
    ]
    return int(kernel.libc().syscall(ctypes.c_long(number), *converted))
