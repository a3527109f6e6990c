# SPDX-License-Identifier: Apache-2.0
"""mount(2) and umount2(2): file systems mounted by the kernel, without another process.

What is mounted is never remembered: the kernel is asked (:mod:`lamella.block.mountinfo`). Flags are those
of ``linux/mount.h``.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from enum import IntFlag
from functools import cache
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import holders, mountinfo
from lamella.block.system import explain, explaining
from lamella.errors import BusyError, CorruptError, MissingError, NotFoundError, Remedy, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lamella.block.mountinfo import Mount
    from lamella.errors import LamellaError

log = logs.logger(__name__)


class Flag(IntFlag):
    """The kernel's MS_* flags."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    MANDLOCK = 64
    DIRSYNC = 128
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    SILENT = 32768
    PRIVATE = 1 << 18
    RELATIME = 1 << 21
    STRICTATIME = 1 << 24
    LAZYTIME = 1 << 25


MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_SET: dict[str, Flag] = {
    "ro": Flag.RDONLY,
    "nosuid": Flag.NOSUID,
    "nodev": Flag.NODEV,
    "noexec": Flag.NOEXEC,
    "sync": Flag.SYNCHRONOUS,
    "dirsync": Flag.DIRSYNC,
    "mand": Flag.MANDLOCK,
    "noatime": Flag.NOATIME,
    "nodiratime": Flag.NODIRATIME,
    "relatime": Flag.RELATIME,
    "strictatime": Flag.STRICTATIME,
    "lazytime": Flag.LAZYTIME,
}
_CLEARED: dict[str, Flag] = {
    "rw": Flag.RDONLY,
    "suid": Flag.NOSUID,
    "dev": Flag.NODEV,
    "exec": Flag.NOEXEC,
    "async": Flag.SYNCHRONOUS,
    "nomand": Flag.MANDLOCK,
    "atime": Flag.NOATIME,
    "diratime": Flag.NODIRATIME,
    "norelatime": Flag.RELATIME,
    "nostrictatime": Flag.STRICTATIME,
    "nolazytime": Flag.LAZYTIME,
}
_IGNORED = frozenset({"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "_netdev", "nofail"})


def split_options(options: Iterable[str]) -> tuple[Flag, str]:
    """Options as mount(8) takes them: the flags, and the rest, which is the file system's own.

    Commas within double quotes (``context="a,b"``) do not divide.
    """
    flags = Flag(0)
    rest = []
    for text in options:
        for option in divided(text):
            if option in _SET:
                flags |= _SET[option]
            elif option in _CLEARED:
                flags &= ~_CLEARED[option]
            elif option and option not in _IGNORED:
                rest.append(option)
    return flags, ",".join(rest)


def divided(text: str) -> list[str]:
    """Options between commas; those within double quotes do not divide."""
    parts, quoted, start = [], False, 0
    for at, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            parts.append(text[start:at])
            start = at + 1
    return [part.strip() for part in [*parts, text[start:]]]


def mount(
    source: str,
    point: str | os.PathLike[str],
    filesystem: str,
    *,
    options: Sequence[str] = (),
    read_only: bool = False,
) -> None:
    """Mount the device *source*; *options* as mount(8) takes them, the last one wins.

    Raises :class:`BusyError` where it is mounted already in another way, :class:`CorruptError` where the
    kernel finds no such file system on it, :class:`MissingError` where it does not know *filesystem*.
    """
    flags, data = split_options([*options, "ro"] if read_only else options)
    where = os.fspath(point)
    try:
        _mount(source, where, filesystem, flags, data)
    except OSError as error:
        raise _explained(error, source, where, filesystem, data) from error


def unmount(point: str | os.PathLike[str], *, lazy: bool = False) -> None:
    """Unmount what is mounted at *point*; *lazy*: detached now, and unmounted when nothing uses it any more.

    Raises :class:`BusyError` naming who uses it, and :class:`NotFoundError` where nothing is mounted.
    """
    where = os.fspath(point)
    number = None
    with suppress(OSError):
        number = os.stat(where).st_dev
    try:
        _umount(where, UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0))
    except OSError as error:
        if error.errno == errno.EBUSY and number is not None:
            found = holders.users(os.major(number), os.minor(number))
            raise BusyError(
                f"cannot unmount {where}: {holders.describe(found) if found else 'something uses it'}",
                steps=[Remedy.UNMOUNT_LAZILY],
                target=where,
            ) from error
        if error.errno == errno.EINVAL:
            raise NotFoundError(f"nothing is mounted at {where}", hint="see: findmnt") from error
        raise explain(error, "unmount", where) from error


def mounts_of(major: int, minor: int) -> list[Mount]:
    """Where the device is mounted in this process's mount namespace, oldest first."""
    return [each for each in mountinfo.mounts() if (each.major, each.minor) == (major, minor)]


def mounted_at(point: str | os.PathLike[str]) -> Mount | None:
    """What is mounted at just that path, the uppermost; None if nothing is."""
    where = os.path.realpath(point)
    found = None
    for each in mountinfo.mounts():
        if each.point == where:
            found = each
    return found


def make_private(folder: str | os.PathLike[str]) -> None:
    """Let what is mounted in *folder* be seen in this mount namespace alone, as Docker's driver does.

    The folder is made a mount of its own first, if it is none. Namespaces that are made later still get a
    copy of what is mounted then.
    """
    where = os.path.realpath(folder)
    found = mounted_at(where)
    with explaining("make a private mount of", where):
        if found is None:
            _mount(where, where, "none", Flag.BIND, "")
        elif not found.shared:
            return
        _mount("none", where, "none", Flag.PRIVATE, "")


def leave_private(folder: str | os.PathLike[str]) -> None:
    """Undo :meth:`make_private` if nothing is mounted in *folder* any more."""
    where = os.path.realpath(folder)
    found = mounted_at(where)
    if found is None or found.root == "/":  # a file system of its own, which is not of our making
        return
    if any(each.point.startswith(f"{where}/") for each in mountinfo.mounts()):
        return
    with suppress(OSError):
        _umount(where, UMOUNT_NOFOLLOW)


# -- the calls ------------------------------------------------------------------------------------


@cache
def libc() -> ctypes.CDLL:
    """The C library, for the calls that Python's ``os`` lacks."""
    library = ctypes.CDLL(None, use_errno=True)
    text = ctypes.c_char_p
    library.mount.argtypes = [text, text, text, ctypes.c_ulong, text]
    library.umount2.argtypes = [text, ctypes.c_int]
    library.syncfs.argtypes = [ctypes.c_int]
    library.syscall.restype = ctypes.c_long
    return library


def last_error(*path: str) -> OSError:
    """The error of the C library's call that has just failed."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), *path)


def _mount(source: str, point: str, filesystem: str, flags: Flag, data: str) -> None:
    log.debug("mount %s at %s: type %s, flags %#x, options %r", source, point, filesystem, flags, data)
    done = libc().mount(
        os.fsencode(source),
        os.fsencode(point),
        filesystem.encode(),
        int(flags | Flag.SILENT),
        os.fsencode(data) if data else None,
    )
    if done:
        raise last_error(point)


def _umount(point: str, flags: int) -> None:
    log.debug("umount %s: flags %#x", point, flags)
    if libc().umount2(os.fsencode(point), flags):
        raise last_error(point)


def _explained(error: OSError, source: str, point: str, filesystem: str, data: str) -> LamellaError:
    what = f"cannot mount {source} at {point}"
    match error.errno:
        case errno.ENODEV:
            return MissingError(
                f"{what}: this kernel does not know {filesystem}", hint=f"load it: modprobe {filesystem}"
            )
        case errno.EBUSY:
            found = []
            with suppress(OSError):
                number = os.stat(source).st_rdev
                found = holders.holders(os.major(number), os.minor(number))
            return BusyError(
                f"{what}: it is {holders.describe(found)}" if found else f"{what}: it is in use",
                hint=holders.advice(found) or "unmount it first",
            )
        case errno.EINVAL if data:
            return UsageError(
                f"{what}: the kernel refuses the file system or the options {data!r}",
                hint="dmesg says which; look at dm.mountopt and -o",
            )
        case errno.EINVAL:
            return CorruptError(
                f"{what}: the kernel finds no {filesystem} there", steps=[Remedy.SEE_LOG_THEN_CHECK]
            )
        case errno.EUCLEAN | errno.EIO:
            return CorruptError(
                f"{what}: the file system is damaged ({os.strerror(error.errno)})",
                hint="dmesg says what is wrong",
            )
    return explain(error, f"mount {source} at", point)
