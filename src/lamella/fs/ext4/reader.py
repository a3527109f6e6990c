# SPDX-License-Identifier: Apache-2.0
"""Reading an ext4 file system (or ext2, ext3) in any block device: names, attributes, bytes.

Everything is read from the on-disk structures, without libext2fs and without a mount, and every
checksum on the way is verified. Nothing is ever written: where a journal waits to be replayed
(:attr:`Reader.needs_recovery`), what is read is the state without it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from lamella.errors import UsageError
from lamella.fs.entry import PATH_LIMIT, Kind
from lamella.fs.ext4.block_map import BlockMap, Claims, block_map, read_runs
from lamella.fs.ext4.directory_blocks import BlockError, Name, checksum_fits, unpack_names
from lamella.fs.ext4.inode import EA_INODE_FL, INDEX_FL, Inode, xattr_area
from lamella.fs.ext4.on_disk import ROOT, OnDisk
from lamella.fs.ext4.xattr_reader import INLINE, inode_xattrs
from lamella.fs.reader import PIECE, Numbered, TreeReader, Usage, shown, zeros

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.block import BlockDevice
    from lamella.fs.ext4.extents import Run

_CACHED_NAMES: Final = 1 << 18
_LOST: Final = b"lost+found"

Pieces = list[tuple[int, int, int]]
"""(offset in the file, offset on the device, length), in bytes."""


class Reader(TreeReader[Inode]):
    """Reads one file system. Paths are bytes, relative to the root (a leading slash is ignored).

    A name that does not exist raises :class:`NotFoundError`, a damaged structure
    :class:`CorruptError` that says where it is, a file system that is none or has features beyond us
    the errors of :func:`lamella.fs.ext4.superblock.read_superblock`.

    ``lost+found``, which making a file system puts into its root, is left out of :meth:`list` and
    :meth:`walk` while it is empty.
    """

    def __init__(self, disk: OnDisk) -> None:
        super().__init__()
        self.disk = disk
        self.name = disk.name
        self.needs_recovery = disk.needs_recovery
        """Whether its journal holds changes that are not seen here: a mount was cut off."""
        self._directories: OrderedDict[int, dict[bytes, int]] = OrderedDict()
        self._cached_names = 0
        self._claims = Claims(disk)

    @classmethod
    def open(cls, device: BlockDevice) -> Reader:
        """Read superblock and descriptors of the file system in *device*, which must outlive the reader."""
        return cls(OnDisk(device))

    # -- by path -----------------------------------------------------------------------------------

    def file_pieces(self, path: bytes) -> Pieces:
        """Where a file's bytes lie: (offset in the file, offset on the device, length), holes left out.

        Empty for a file whose data lies in its inode. The last piece may reach past the file's size.
        """
        real, inode = self.resolve(path)
        if inode.kind is not Kind.FILE:
            raise UsageError(f"{shown(real)} is a {inode.kind.words}, not a file")
        size = self.disk.block_size
        return [(run.logical * size, run.physical * size, run.length * size) for run in self.map(inode).runs]

    def usage(self) -> Usage:
        disk = self.disk
        return Usage(
            disk.blocks_count * disk.block_size,
            disk.free_blocks * disk.block_size,
            disk.inodes_count,
            disk.free_inodes,
        )

    # -- by inode ----------------------------------------------------------------------------------

    def root(self) -> Inode:
        return self.disk.inode(ROOT)

    def child(self, inode: Inode, name: bytes, number: int) -> Inode:
        return self.disk.inode(number)

    def at(self, path: bytes, number: int) -> Inode:
        return self.disk.inode(number)

    def _met_again(self, path: bytes, number: int) -> None:
        raise self.disk.corrupt(f"{shown(path)} is directory inode {number} a second time")

    def is_lost_and_found(self, parent: Inode, name: bytes, number: int) -> bool:
        if name != _LOST or parent.number != ROOT or number != self.disk.first_inode:
            return False
        inode = self.disk.inode(number)
        return inode.kind is Kind.DIRECTORY and not self.children(inode)

    def names(self, inode: Inode) -> Iterator[Name]:
        """The names in a directory in the order of its blocks, ``.`` and ``..`` left out."""
        disk = self.disk
        if inode.inline:
            # The parent's number, then entries; more of them in an attribute.
            yield from self._entries(inode, inode.block[4:], "the inode")
            rest = self._inline_rest(inode)
            if rest:
                yield from self._entries(inode, rest, "the attribute")
            return
        size = disk.block_size
        step = PIECE // size
        for run in self.map(inode).runs:
            for start in range(0, run.length, step):
                count = min(step, run.length - start)
                data = disk.device.read((run.physical + start) * size, count * size)
                for index in range(count):
                    block = data[index * size : (index + 1) * size]
                    yield from self._block_entries(inode, block, run.logical + start + index)

    def _block_entries(self, inode: Inode, block: bytes, number: int) -> list[Name]:
        """The names in block *number* of a directory. An htree's inner blocks look like ones without any."""
        disk = self.disk
        indexed = bool(inode.flags & INDEX_FL)
        if disk.checksummed and not checksum_fits(block, number, inode.seed, indexed=indexed):
            raise disk.corrupt(f"block {number} of directory inode {inode.number} fails its checksum")
        return self._entries(inode, block, f"block {number}")

    def _entries(self, inode: Inode, data: bytes, place: str) -> list[Name]:
        disk = self.disk
        try:
            return unpack_names(data, disk.inodes_count, typed=disk.typed)
        except BlockError as error:
            raise disk.corrupt(f"{place} of directory inode {inode.number} has {error}") from None

    def children(self, inode: Inode) -> dict[bytes, int]:
        found = self._directories.get(inode.number)
        if found is not None:
            self._directories.move_to_end(inode.number)
            return found
        found = {name: number for name, number, _ in self.names(inode)}
        self._directories[inode.number] = found
        self._cached_names += len(found) + 1
        while self._cached_names > _CACHED_NAMES and len(self._directories) > 1:
            _, oldest = self._directories.popitem(last=False)
            self._cached_names -= len(oldest) + 1
        return found

    def xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        if not inode.xattr_block and not xattr_area(inode.raw):
            return {}
        found = inode_xattrs(self.disk, inode, self._whole)
        found.pop(INLINE, None)
        return found

    def target(self, inode: Inode) -> bytes:
        if inode.short_target:
            target = inode.block[: inode.size]
        else:
            if inode.size > PATH_LIMIT + 1:
                raise self.disk.corrupt(f"symbolic link inode {inode.number} claims {inode.size} bytes")
            target = b"".join(self.data(inode))
        end = target.find(b"\0")
        target = target if end < 0 else target[:end]
        if not target:
            raise self.disk.corrupt(f"symbolic link inode {inode.number} has no target")
        return target

    def map(self, inode: Inode) -> BlockMap:
        """Where an inode's data lies; nothing for one that has no blocks of its own."""
        if inode.inline or inode.short_target or inode.kind not in (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK):
            return BlockMap([], [])
        found = block_map(self.disk, inode)
        self._claims.add(inode.number, found)
        return found

    def data(
        self, inode: Inode, offset: int = 0, length: int | None = None, *, runs: list[Run] | None = None
    ) -> Iterator[bytes]:
        """An inode's bytes from *offset*, in pieces of at most 1 MiB, holes as zeros.

        *runs* are its map's, if that is at hand.
        """
        end = inode.size if length is None else min(inode.size, offset + length)
        if inode.inline:
            # A file that is one large hole may be inline too; what is not there reads as zeros.
            data = (inode.block + self._inline_rest(inode))[offset:end] if offset < end else b""
            if data:
                yield data
            yield from zeros(end - offset - len(data))
            return
        if runs is None:
            runs = self.map(inode).runs if offset < end else []
        yield from read_runs(self.disk.device, self.disk.block_size, runs, offset, end)

    def _sorted(self, inode: Inode) -> Numbered:
        return sorted((name, number) for name, number, _ in self.names(inode))

    def stored_pieces(self, inode: Inode) -> list[tuple[int, int]] | None:
        """The pieces of a file that takes fewer blocks than its size needs; None if it has no holes."""
        size = self.disk.block_size
        sectors = inode.sectors - (size // 512 if inode.xattr_block else 0)
        if sectors * 512 >= inode.size or inode.inline:
            return None
        pieces: list[tuple[int, int]] = []
        for run in self.map(inode).runs:
            start = run.logical * size
            stop = min(start + run.length * size, inode.size)
            if start >= stop:
                break
            if pieces and sum(pieces[-1]) == start:
                pieces[-1] = (pieces[-1][0], stop - pieces[-1][0])
            else:
                pieces.append((start, stop - start))
        return None if pieces == [(0, inode.size)] else pieces

    def _inline_rest(self, inode: Inode) -> bytes:
        return inode_xattrs(self.disk, inode, self._whole).get(INLINE, b"")

    def _whole(self, inode: Inode) -> bytes:
        if not inode.flags & EA_INODE_FL or inode.size > PIECE:
            raise self.disk.corrupt(f"inode {inode.number} holds no extended attribute")
        return b"".join(self.data(inode))
