# SPDX-License-Identifier: Apache-2.0
"""Which extended attributes a Linux file system has a place for, and what an access ACL does to a mode."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lamella.fs import acl
from lamella.fs.entry import XATTR_NAME_LIMIT, Kind

if TYPE_CHECKING:
    from lamella.fs.entry import Entry

NAMESPACES: Final = (b"user.", b"trusted.", b"security.")
ACLS: Final = (acl.ACCESS, acl.DEFAULT)
_USER_OBJ, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x04, 0x10, 0x20


def storable(name: bytes) -> bool:
    """Whether a file system such as ext4 or XFS has a place for an attribute of this name.

    Others (``system.nfs4_acl``, say) get "operation not supported" from a kernel, which everyone who
    unpacks layers takes as leave to go on without them; so do we.
    """
    return name in ACLS or (
        name.startswith(NAMESPACES)
        and not name.endswith(b".")
        and b"\0" not in name
        and len(name) <= XATTR_NAME_LIMIT
    )


def access_mode(value: bytes, mode: int) -> tuple[int, bool]:
    """What an access ACL (in the kernel's xattr form) makes of *mode*, and whether it says any more.

    As a kernel does it: the owner's, mask's (or group's) and others' rights become the permission bits,
    and an ACL of only the three basic entries is not stored. A malformed one changes nothing here.
    """
    rights: dict[int, int] = {}
    if len(value) < 4 or (len(value) - 4) % 8 or value[:4] != b"\2\0\0\0":
        return mode, True
    for at in range(4, len(value), 8):
        tag, permission = struct.unpack_from("<HH", value, at)
        rights[tag] = permission & 7
    if not {_USER_OBJ, _GROUP_OBJ, _OTHER} <= rights.keys():
        return mode, True
    group = rights.get(_MASK, rights[_GROUP_OBJ])
    bits = rights[_USER_OBJ] << 6 | group << 3 | rights[_OTHER]
    return mode & ~0o777 | bits, len(value) > 4 + 3 * 8


def with_acl_in_mode(entry: Entry) -> Entry:
    """The entry with its access ACL, if it has one, merged into its mode as far as the mode can say it."""
    value = entry.xattrs.get(acl.ACCESS)
    if value is None or entry.kind in (Kind.SYMLINK, Kind.HARDLINK):
        return entry
    mode, more = access_mode(value, entry.mode)
    kept = entry.xattrs
    if not more:
        kept = {name: value for name, value in kept.items() if name != acl.ACCESS}
    return replace(entry, mode=mode, xattrs=kept)
