# SPDX-License-Identifier: Apache-2.0
"""Extended attributes of an inode, written by libext2fs: in the inode where they fit, else in a block.

The library turns POSIX ACLs from the form of the kernel's xattr interface into ext4's own.
"""

from __future__ import annotations

from ctypes import byref, c_void_p, create_string_buffer
from typing import TYPE_CHECKING, Final

from lamella.errors import BadInputError, NoSpaceError
from lamella.fs.attributes import ACLS, storable
from lamella.fs.entry import show
from lamella.fs.ext4 import library as ext2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lamella.fs.ext4.filesystem import Ext4

_TOO_LARGE: Final = (ext2.ET_EA_NO_SPACE, ext2.ET_EA_BAD_VALUE_SIZE)


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
    if name in ACLS:
        raise BadInputError(
            f"{which} of {show(path)} is not a valid POSIX ACL",
            hint="the layer is damaged; build the image again",
        )
    filesystem.check(code, f"write {which} of {show(path)} to")


def free_block(filesystem: Ext4, number: int, raw: bytearray) -> None:
    """Release the block with attributes of an inode; *raw* is changed. Others may share the block."""
    library = filesystem.library
    filesystem.check(library.flush_icache(filesystem.handle), "read an inode of")
    buffer = create_string_buffer(bytes(raw), len(raw))
    code = library.free_ext_attr(filesystem.handle, number, buffer)
    filesystem.check(code, f"free the extended attributes of inode {number} of")
    raw[:] = buffer.raw
