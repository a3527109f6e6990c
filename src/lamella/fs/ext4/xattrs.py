# SPDX-License-Identifier: Apache-2.0
"""Extended attributes of an inode, written by libext2fs: in the inode where they fit, else in a block.

The library turns POSIX ACLs from the form of the kernel's xattr interface into ext4's own.
"""

from __future__ import annotations

import struct
from ctypes import byref, c_void_p, create_string_buffer
from typing import TYPE_CHECKING, Final

from lamella.errors import BadInputError, NoSpaceError
from lamella.fs.entry import show
from lamella.fs.ext4 import library as ext2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lamella.fs.ext4.filesystem import Ext4

_NAMESPACES: Final = (b"user.", b"trusted.", b"security.")
ACCESS_ACL: Final = b"system.posix_acl_access"
_ACLS: Final = (ACCESS_ACL, b"system.posix_acl_default")
_NAME_LIMIT: Final = 255
_USER_OBJ, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x04, 0x10, 0x20
_TOO_LARGE: Final = (ext2.ET_EA_NO_SPACE, ext2.ET_EA_BAD_VALUE_SIZE)


def storable(name: bytes) -> bool:
    """Whether ext4 has a place for an attribute of this name.

    Others (``system.nfs4_acl``, say) get "operation not supported" from a kernel, which everyone who
    unpacks layers takes as leave to go on without them; so do we.
    """
    return name in _ACLS or (
        name.startswith(_NAMESPACES)
        and not name.endswith(b".")
        and b"\0" not in name
        and len(name) <= _NAME_LIMIT
    )


def access_mode(acl: bytes, mode: int) -> tuple[int, bool]:
    """What an access ACL (in the kernel's xattr form) makes of *mode*, and whether it says any more.

    As a kernel does it: the owner's, mask's (or group's) and others' rights become the permission bits,
    and an ACL of only the three basic entries is not stored. A malformed one changes nothing here.
    """
    rights: dict[int, int] = {}
    if len(acl) < 4 or (len(acl) - 4) % 8 or acl[:4] != b"\2\0\0\0":
        return mode, True
    for at in range(4, len(acl), 8):
        tag, permission = struct.unpack_from("<HH", acl, at)
        rights[tag] = permission & 7
    if not {_USER_OBJ, _GROUP_OBJ, _OTHER} <= rights.keys():
        return mode, True
    group = rights.get(_MASK, rights[_GROUP_OBJ])
    bits = rights[_USER_OBJ] << 6 | group << 3 | rights[_OTHER]
    return mode & ~0o777 | bits, len(acl) > 4 + 3 * 8


def replace(filesystem: Ext4, number: int, xattrs: Mapping[bytes, bytes], path: bytes) -> None:
    """Give inode *number*, which has been written, exactly these attributes; *path* is for errors."""
    library = filesystem.library
    filesystem.check(library.flush_icache(filesystem.handle), "read an inode of")
    handle = c_void_p()
    code = library.xattrs_open(filesystem.handle, number, byref(handle))
    filesystem.check(code, f"open the extended attributes of {show(path)} in")
    try:
        for name, value in xattrs.items():
            if storable(name):
                code = library.xattr_set(handle, name, value, len(value))
                _check(filesystem, code, name, value, path)
        code = library.xattrs_write(handle)
        _check(filesystem, code, b"", b"", path)
    finally:
        library.xattrs_close(byref(handle))
        library.flush_icache(filesystem.handle)
    filesystem.channel.check()


def _check(filesystem: Ext4, code: int, name: bytes, value: bytes, path: bytes) -> None:
    if not code:
        return
    filesystem.channel.check()
    which = f"the extended attribute {show(name)} ({len(value)} bytes)" if name else "the extended attributes"
    if code in _TOO_LARGE:
        raise NoSpaceError(
            f"{which} of {show(path)} cannot be stored in the ext4 file system in {filesystem.name}: "
            f"all those of a file share one block of {filesystem.block_size} bytes",
            hint="remove some of them from the image",
        )
    if name in _ACLS:
        raise BadInputError(
            f"{which} of {show(path)} is no POSIX ACL", hint="the layer is damaged; build the image again"
        )
    filesystem.check(code, f"write {which} of {show(path)} to")


def free_block(filesystem: Ext4, number: int, raw: bytearray) -> None:
    """Let go of the block with attributes of an inode; *raw* is changed. Others may share the block."""
    library = filesystem.library
    filesystem.check(library.flush_icache(filesystem.handle), "read an inode of")
    buffer = create_string_buffer(bytes(raw), len(raw))
    code = library.free_ext_attr(filesystem.handle, number, buffer)
    filesystem.check(code, f"free the extended attributes of inode {number} of")
    raw[:] = buffer.raw
