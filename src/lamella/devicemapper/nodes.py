# SPDX-License-Identifier: Apache-2.0
"""Names of device-mapper devices under ``/dev/mapper``, made by udev or by Lamella.

The kernel makes ``/dev/dm-N`` itself (devtmpfs); a name under ``/dev/mapper`` is udev's work, by the
rules that come with LVM2. A caller that has to wait for udev passes a cookie with the change
(:mod:`lamella.devicemapper.cookies`). Where there is no udev, or where udev is told to ignore a device,
the name is created and removed here.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from lamella.block.system import explain
from lamella.devicemapper.cookies import (
    OWN_NODES,
    PRIVATE,
    QUIET_COOKIE,
    Cookie,
    Udev,
    udev_cookie,
    udev_runs,
)
from lamella.errors import UsageError

__all__ = [
    "OWN_NODES",
    "PRIVATE",
    "QUIET_COOKIE",
    "Cookie",
    "Udev",
    "drop_name",
    "make_name",
    "mangled",
    "mapper_path",
    "udev_cookie",
    "udev_runs",
    "unmangled",
]

DEV_MAPPER = Path("/dev/mapper")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#+-.:=@_")
_MANGLED = re.compile(rb"\\x([0-9a-fA-F]{2})")


def mangled(name: str) -> str:
    r"""The name as dmsetup gives it to the kernel: bytes that udev allows in no name are ``\xNN``.

    A name that is written so already stays as it is.
    """
    raw = name.encode("utf-8", "surrogateescape")
    if _PLAIN.issuperset(_MANGLED.sub(b"", raw)):
        return name
    return "".join(chr(each) if each in _PLAIN else f"\\x{each:02x}" for each in raw)


def unmangled(name: str) -> str:
    """The name as people wrote it, and as dmsetup prints it."""
    raw = name.encode("utf-8", "surrogateescape")
    plain = _MANGLED.sub(lambda found: bytes([int(found[1], 16)]), raw)
    return plain.decode("utf-8", "surrogateescape")


def mapper_path(name: str) -> Path:
    """``/dev/mapper/NAME``, with the bytes that udev does not allow in names written as it writes them."""
    if not name or name in (".", "..", "control"):
        raise UsageError(f"{name!r} cannot be a device's name")
    return DEV_MAPPER / mangled(name)


def make_name(name: str, major: int, minor: int) -> Path:
    """``/dev/mapper/NAME`` for a device, a link as udev makes it, or a node where there is no devtmpfs.

    It is there whole or not at all, and takes the place of a stale one.
    """
    path = mapper_path(name)
    number = os.makedev(major, minor)
    if _is(path, number):
        return path
    fresh = path.with_name(f".{os.getpid()}-{minor}")
    try:
        path.parent.mkdir(exist_ok=True)
        fresh.unlink(missing_ok=True)
        if _is(Path(f"/dev/dm-{minor}"), number):
            fresh.symlink_to(f"../dm-{minor}")
        else:
            os.mknod(fresh, stat.S_IFBLK | 0o600, number)
        try:
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise explain(error, "make", str(path)) from error
    return path


def drop_name(name: str) -> None:
    """Remove ``/dev/mapper/NAME``; that it is not there is not an error."""
    path = mapper_path(name)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise explain(error, "remove", str(path)) from error


def _is(path: Path, number: int) -> bool:
    """Whether *path* leads to the block device with that number."""
    with suppress(OSError):
        found = path.stat()
        return stat.S_ISBLK(found.st_mode) and found.st_rdev == number
    return False
