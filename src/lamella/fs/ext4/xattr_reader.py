# SPDX-License-Identifier: Apache-2.0
"""Extended attributes as ext4 keeps them: in the inode, in one block, large values in inodes of their own.

The format is that of ``fs/ext4/xattr.h``: entries of 16 bytes and a name without the prefix that its
index stands for, values behind them.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from lamella.fs import acl
from lamella.fs.entry import XATTR_VALUE_LIMIT
from lamella.fs.ext4.checksum import crc32c
from lamella.fs.ext4.inode import EA_INODE_FL, XATTR_MAGIC, xattr_area

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.fs.ext4.inode import Inode
    from lamella.fs.ext4.on_disk import OnDisk

_ENTRY: Final = Struct("<BBHIII")
"""Length of name, index of prefix, offset of value, inode of value, size of value, hash."""
_PREFIXES: Final = {
    0: b"",
    1: b"user.",
    2: acl.ACCESS,
    3: acl.DEFAULT,
    4: b"trusted.",
    5: b"lustre.",
    6: b"security.",
    7: b"system.",
    8: b"system.richacl",
}
INLINE: Final = b"system.data"
"""Where data goes on that does not fit into ``i_block`` of an inode with inline data."""


def inode_xattrs(disk: OnDisk, inode: Inode, read: Callable[[Inode], bytes]) -> dict[bytes, bytes]:
    """All attributes by full name, ACLs in the kernel's xattr form, and :data:`INLINE` if it is there.

    *read* gives the whole data of an inode that holds a large value. Raises :class:`CorruptError`.
    """
    found: dict[bytes, bytes] = {}
    area = xattr_area(inode.raw)
    if area:
        _entries(disk, inode, area, 0, found, read)
    if inode.xattr_block:
        what = f"inode {inode.number}"
        block = disk.read_block(inode.xattr_block, what)
        if block[:4] != XATTR_MAGIC or block[8:12] != b"\x01\0\0\0":
            raise disk.corrupt(f"{what} has a bad block of extended attributes ({inode.xattr_block})")
        if disk.checksummed:
            body = inode.xattr_block.to_bytes(8, "little") + block[:16] + b"\0\0\0\0" + block[20:]
            if crc32c(disk.seed, body).to_bytes(4, "little") != block[16:20]:
                raise disk.corrupt(
                    f"{what} has a block of extended attributes ({inode.xattr_block}) that fails its checksum"
                )
        _entries(disk, inode, block, 32, found, read)
    return found


def _entries(
    disk: OnDisk,
    inode: Inode,
    area: bytes,
    at: int,
    found: dict[bytes, bytes],
    read: Callable[[Inode], bytes],
) -> None:
    """Read the entries in *area* from *at*; the offsets of values count from the area's start."""

    def bad(why: str) -> Exception:
        return disk.corrupt(f"inode {inode.number} has a bad extended attribute: {why}")

    while True:
        if at + 4 > len(area):
            raise bad("its list has no end")
        if area[at : at + 4] == b"\0\0\0\0":
            return
        if at + 16 > len(area):
            raise bad("an entry is cut off")
        name_length, index, offset, value_inode, size, _ = _ENTRY.unpack_from(area, at)
        if at + 16 + name_length > len(area):
            raise bad("a name is cut off")
        prefix = _PREFIXES.get(index)
        if prefix is None:
            raise bad(f"the prefix {index} is unknown")
        own = area[at + 16 : at + 16 + name_length]
        if b"\0" in own:  # refused by the kernel too: fs/ext4/xattr.c, check_xattrs, "bad e_name length"
            raise bad("a name with a NUL in it")
        name = prefix + own
        if size > XATTR_VALUE_LIMIT:
            raise bad(f"a value of {size} bytes")
        if value_inode:
            holder = disk.inode(value_inode, hidden=True)
            if not holder.flags & EA_INODE_FL or holder.size != size:
                raise bad(f"inode {value_inode} does not hold its value")
            value = read(holder)
        elif offset + size > len(area):
            raise bad("a value is cut off")
        else:
            value = area[offset : offset + size]
        if index in (2, 3):
            try:
                value = acl.from_disk(value)
            except ValueError as error:
                raise bad(str(error)) from None
        found[name] = value
        at += 16 + (name_length + 3 & ~3)
