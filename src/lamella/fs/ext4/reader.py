# SPDX-License-Identifier: Apache-2.0
"""Reading an ext4 file system (or ext2, ext3) in any block device: names, attributes, bytes.

Everything is read from the on-disk structures, without libext2fs and without a mount, and every
checksum on the way is verified. Nothing is ever written: where a journal waits to be replayed
(:attr:`Reader.needs_recovery`), what is read is the state without it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lamella.errors import NotFoundError, UnsupportedError, UsageError
from lamella.fs.entry import PATH_LIMIT, Entry, Kind, show
from lamella.fs.ext4.inode import EA_INODE_FL
from lamella.fs.ext4.read_directory import Name, block_names, list_names
from lamella.fs.ext4.read_inode import ROOT, Inode, OnDisk
from lamella.fs.ext4.read_map import BlockMap, Run, block_map
from lamella.fs.ext4.read_xattr import INLINE, inode_xattrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.block import BlockDevice

PIECE: Final = 1 << 20
"""Most bytes in one piece of a file's data."""
LINK_LIMIT: Final = 40
"""Most symbolic links followed in one path, as Linux has it."""
_DEEPEST: Final = 1 << 16
_CACHED_NAMES: Final = 1 << 18
_CACHED_HEADS: Final = 512
_ZEROS: Final = bytes(PIECE)
_LOST: Final = b"lost+found"

Pieces = list[tuple[int, int, int]]
"""(offset in the file, offset on the device, length), in bytes."""
Runs = list[Run]
Sparse = list[tuple[int, int]] | None
Numbered = list[tuple[bytes, int]]


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a file system is, in bytes and inodes; what the file system itself takes counts as used."""

    size: int
    free: int
    inodes: int
    inodes_free: int

    @property
    def used(self) -> int:
        """Bytes not free."""
        return self.size - self.free


class Reader:
    """Reads one file system. Paths are bytes, relative to the root (a leading slash is ignored).

    A name that does not exist raises :class:`NotFoundError`, a damaged structure
    :class:`CorruptError` that says where it is, a file system that is none or has features beyond us
    the errors of :func:`lamella.fs.ext4.superblock.read_superblock`.

    ``lost+found``, which making a file system puts into its root, is left out of :meth:`list` and
    :meth:`walk` while it is empty.
    """

    def __init__(self, disk: OnDisk) -> None:
        self.disk = disk
        self.needs_recovery = disk.needs_recovery
        """Whether its journal holds changes that are not seen here: a mount was cut off."""
        self._directories: OrderedDict[int, dict[bytes, int]] = OrderedDict()
        self._cached_names = 0
        self._heads: dict[bytes, tuple[tuple[bytes, ...], tuple[Inode, ...]]] = {}

    @classmethod
    def open(cls, device: BlockDevice) -> Reader:
        """Read superblock and descriptors of the file system in *device*, which must outlive the reader."""
        return cls(OnDisk(device))

    # -- by path -----------------------------------------------------------------------------------

    def resolve(self, path: bytes, *, follow: bool = True) -> tuple[bytes, Inode]:
        """The real path (no symlink, ``.`` or ``..`` in it) and the inode that *path* leads to.

        Symlinks are followed inside the root as ``chroot`` would; with ``follow=False`` the last
        component is not.
        """
        head, _, last_name = path.rpartition(b"/")
        known = self._heads.get(head) if last_name else None
        if known is not None:
            todo, names, inodes = deque((last_name,)), list(known[0]), list(known[1])
        else:
            todo, names, inodes = deque(path.split(b"/")), [], [self.disk.inode(ROOT)]
        links = 0
        while todo:
            part = todo.popleft()
            if not todo and known is None and last_name:
                # What symlinks stand for goes before the rest, so this is where *head* leads.
                known = tuple(names), tuple(inodes)
                if len(self._heads) >= _CACHED_HEADS:
                    self._heads.clear()
                self._heads[head] = known
            if part in (b"", b"."):
                continue
            here = inodes[-1]
            if here.kind is not Kind.DIRECTORY:
                raise NotFoundError(f"{_shown(path)}: {_shown(b'/'.join(names))} is not a directory")
            if part == b"..":
                if names:
                    names.pop()
                    inodes.pop()
                continue
            number = self.children(here).get(part)
            if number is None:
                raise NotFoundError(f"{_shown(path)}: there is no such file or directory")
            found = self.disk.inode(number)
            last = not any(todo)
            if found.kind is Kind.SYMLINK and (follow or not last):
                links += 1
                if links > LINK_LIMIT:
                    raise NotFoundError(f"{_shown(path)}: more than {LINK_LIMIT} symbolic links on the way")
                target = self.target(found)
                if target.startswith(b"/"):
                    names, inodes = [], inodes[:1]
                todo.extendleft(reversed(target.split(b"/")))
                continue
            names.append(part)
            inodes.append(found)
        if path.endswith((b"/", b"/.")) and inodes[-1].kind is not Kind.DIRECTORY and follow:
            raise NotFoundError(f"{_shown(path)}: {_shown(b'/'.join(names))} is not a directory")
        return b"/".join(names), inodes[-1]

    def stat(self, path: bytes, *, follow: bool = False) -> Entry:
        """What *path* names; its own symlinks on the way are followed, the last one if *follow*."""
        real, inode = self.resolve(path, follow=follow)
        return self.entry(real, inode)

    def list(self, path: bytes = b"") -> list[Entry]:
        """The entries of a directory, sorted by name; a path to anything else gives that one entry."""
        real, inode = self.resolve(path)
        if inode.kind is not Kind.DIRECTORY:
            return [self.entry(real, inode)]
        lead = real + b"/" if real else b""
        return [
            self.entry(lead + name, self.disk.inode(number))
            for name, number in sorted(self.children(inode).items())
            if not self.is_lost_and_found(inode, name, number)
        ]

    def walk(self, path: bytes = b"") -> Iterator[Entry]:
        """*path* itself and everything below, a directory before what it holds, names in order of bytes.

        Paths are real ones from the root. The first name of a file met is a FILE, its further ones are
        HARDLINKs whose target is the first.
        """
        real, top = self.resolve(path)
        first_names: dict[int, bytes] = {}
        for where, inode in self.walk_inodes(real, top):
            if inode.links > 1 and inode.kind is not Kind.DIRECTORY:
                target = first_names.setdefault(inode.number, where)
                if target is not where:
                    yield self.link_entry(where, inode, target)
                    continue
            yield self.entry(where, inode)

    def read(self, path: bytes, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a file in pieces of at most 1 MiB, holes as zeros; by default all of them."""
        real, inode = self.resolve(path)
        if inode.kind is not Kind.FILE:
            raise UsageError(f"{_shown(real)} is a {inode.kind.value}, not a file")
        return self.data(inode, offset, length)

    def file_pieces(self, path: bytes) -> Pieces:
        """Where a file's bytes lie: (offset in the file, offset on the device, length), holes left out.

        Empty for a file whose data lies in its inode. The last piece may reach past the file's size.
        """
        real, inode = self.resolve(path)
        if inode.kind is not Kind.FILE:
            raise UsageError(f"{_shown(real)} is a {inode.kind.value}, not a file")
        size = self.disk.block_size
        return [(run.logical * size, run.physical * size, run.length * size) for run in self.map(inode).runs]

    def usage(self) -> Usage:
        """How full it is."""
        disk = self.disk
        return Usage(
            disk.blocks_count * disk.block_size,
            disk.free_blocks * disk.block_size,
            disk.inodes_count,
            disk.free_inodes,
        )

    # -- by inode ----------------------------------------------------------------------------------

    def walk_inodes(self, path: bytes, top: Inode) -> Iterator[tuple[bytes, Inode]]:
        """Paths and inodes of *top*, which *path* names, and of everything below."""
        yield path, top
        if top.kind is not Kind.DIRECTORY:
            return
        seen = {top.number}
        read_inode = self.disk.inode
        stack: deque[tuple[bytes, Inode, Iterator[tuple[bytes, int]]]] = deque()
        stack.append((path + b"/" if path else b"", top, iter(self._sorted(top))))
        while stack:
            lead, parent, names = stack[-1]
            for name, number in names:
                inode = read_inode(number)
                where = lead + name
                if inode.kind is Kind.DIRECTORY:
                    if number in seen:
                        raise self.disk.corrupt(f"{_shown(where)} is directory inode {number} a second time")
                    if self.is_lost_and_found(parent, name, number):
                        continue
                    if len(where) > _DEEPEST:
                        raise UnsupportedError(f"{self.disk.name}: directories are nested too deeply to walk")
                    seen.add(number)
                    yield where, inode
                    stack.append((where + b"/", inode, iter(self._sorted(inode))))
                    break
                yield where, inode
            else:
                stack.pop()

    def is_lost_and_found(self, parent: Inode, name: bytes, number: int) -> bool:
        """Whether a name is the file system's own, empty ``lost+found``."""
        if name != _LOST or parent.number != ROOT or number != self.disk.first_inode:
            return False
        inode = self.disk.inode(number)
        return inode.kind is Kind.DIRECTORY and not self.children(inode)

    def names(self, inode: Inode) -> Iterator[Name]:
        """The names in a directory in the order of its blocks, ``.`` and ``..`` left out."""
        disk = self.disk
        if inode.inline:
            # The parent's number, then entries; more of them in an attribute.
            yield from list_names(disk, inode, inode.block[4:], "the inode")
            rest = self._inline_rest(inode)
            if rest:
                yield from list_names(disk, inode, rest, "the attribute")
            return
        size = disk.block_size
        step = PIECE // size
        for run in self.map(inode).runs:
            for start in range(0, run.length, step):
                count = min(step, run.length - start)
                data = disk.device.read((run.physical + start) * size, count * size)
                for index in range(count):
                    block = data[index * size : (index + 1) * size]
                    yield from block_names(disk, inode, block, run.logical + start + index)

    def children(self, inode: Inode) -> dict[bytes, int]:
        """Inode numbers by name in a directory; the latest directories are kept."""
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

    def entry(self, path: bytes, inode: Inode) -> Entry:
        """An inode's attributes under the name *path*; a hard-linked file as a FILE."""
        kind = inode.kind
        entry = Entry(path, kind, inode.mode, inode.uid, inode.gid, inode.mtime_ns)
        if kind is Kind.FILE:
            entry.size = inode.size
            entry.data = self._sparse(inode)
        elif kind is Kind.SYMLINK:
            entry.target = self.target(inode)
        elif kind is Kind.CHAR or kind is Kind.BLOCK:
            entry.major, entry.minor = inode.device_numbers
        entry.xattrs = self.xattrs(inode)
        return entry

    def link_entry(self, path: bytes, inode: Inode, target: bytes) -> Entry:
        """A further name of an inode, whose first name is *target*."""
        return Entry(
            path, Kind.HARDLINK, inode.mode, inode.uid, inode.gid, inode.mtime_ns, 0, target,
            xattrs=self.xattrs(inode),
        )  # fmt: skip

    def xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        """An inode's extended attributes by full name."""
        raw = inode.raw
        if not inode.xattr_block and not any(raw[128 + int.from_bytes(raw[128:130], "little") :][:4]):
            return {}
        found = inode_xattrs(self.disk, inode, self._whole)
        found.pop(INLINE, None)
        return found

    def target(self, inode: Inode) -> bytes:
        """A symlink's text."""
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
        return block_map(self.disk, inode)

    def data(
        self, inode: Inode, offset: int = 0, length: int | None = None, *, runs: Runs | None = None
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
            yield from _zeros(end - offset - len(data))
            return
        size = self.disk.block_size
        position = offset
        if runs is None:
            runs = self.map(inode).runs if position < end else []
        for run in runs:
            start = run.logical * size
            stop = min(start + run.length * size, end)
            if stop <= position:
                continue
            yield from _zeros(min(start, end) - position)
            position = max(position, start)
            while position < stop:
                take = min(PIECE, stop - position)
                yield self.disk.device.read(run.physical * size + position - start, take)
                position += take
            if position >= end:
                break
        yield from _zeros(end - position)

    def _sorted(self, inode: Inode) -> Numbered:
        return sorted((name, number) for name, number, _ in self.names(inode))

    def _sparse(self, inode: Inode) -> Sparse:
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


def _zeros(length: int) -> Iterator[bytes]:
    while length > 0:
        take = min(length, PIECE)
        yield _ZEROS if take == PIECE else _ZEROS[:take]
        length -= take


def _shown(path: bytes) -> str:
    return "/" + show(path).strip("/")
