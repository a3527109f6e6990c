# SPDX-License-Identifier: Apache-2.0
"""One directory of an open file system: its names in memory, its blocks built whole.

Adding names one by one through the library scans the directory each time. Here names are gathered and
each changed block is written once, when the directory is saved. A directory of more than one block gets
a hash tree (which libext2fs cannot build), so that a kernel finds names in it fast.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from lamella.errors import NoSpaceError
from lamella.fs.ext4 import directory_blocks as blocks
from lamella.fs.ext4 import extents
from lamella.fs.ext4 import inode as ino
from lamella.fs.ext4 import superblock as sb
from lamella.fs.ext4.block_map import allocated_blocks

if TYPE_CHECKING:
    from lamella.fs.ext4.allocator import Blocks
    from lamella.fs.ext4.filesystem import Ext4

_FRESH: Final = 1 << 35
_PLACE_SHIFT: Final = 36
"""Packed so that a value stays below 2^60, which Python holds in 32 bytes."""
_FILL: Final = 0.85
"""How full the leaves of a new hash tree are, so that the next layer's names find room."""


def number_of(value: int) -> int:
    """Inode of an entry of :attr:`Directory.names`."""
    return value & 0xFFFFFFFF


def type_of(value: int) -> int:
    """File type of an entry of :attr:`Directory.names`, as directory entries have it."""
    return value >> 32 & 7


def is_fresh(value: int) -> bool:
    """Whether the entry was added since the directory was loaded."""
    return bool(value & _FRESH)


class Directory:
    """A directory's names, read by :meth:`load` or begun by :meth:`create`; :meth:`save` writes them.

    :attr:`names` maps a name (without ``.`` and ``..``) to a number that packs the inode, the file type,
    whether it is new, and the block that the entry lies in.
    """

    __slots__ = (
        "_dirty",
        "_filesystem",
        "_index",
        "_places",
        "_rebuild",
        "names",
        "number",
        "parent",
        "subdirectories",
    )

    def __init__(self, filesystem: Ext4, number: int, parent: int) -> None:
        self._filesystem = filesystem
        self.number = number
        self.parent = parent
        self.names: dict[bytes, int] = {}
        self.subdirectories = 0
        self._places: list[int] = []
        self._index: list[tuple[int, int]] = []
        self._dirty: set[int] = set()
        self._rebuild = False

    @classmethod
    def create(cls, filesystem: Ext4, number: int, parent: int) -> Directory:
        """An empty directory whose inode has been written without blocks."""
        directory = cls(filesystem, number, parent)
        directory._rebuild = True
        return directory

    @classmethod
    def load(cls, filesystem: Ext4, number: int) -> Directory:
        """Read a directory. Raises :class:`CorruptError` for a damaged one."""
        raw = filesystem.read_inode(number)
        if ino.get_mode(raw) & ino.S_IFMT != ino.S_IFDIR:
            raise filesystem.corrupt(f"inode {number} should be a directory")
        directory = cls(filesystem, number, 0)
        size = filesystem.block_size
        for logical, physical, length in allocated_blocks(filesystem, number, raw).runs:
            if logical != len(directory._places):
                raise filesystem.corrupt(f"directory inode {number} has a hole")
            directory._places.extend(range(physical, physical + length))
        if len(directory._places) * size < ino.get_size(raw) or not ino.get_size(raw):
            raise filesystem.corrupt(
                f"directory inode {number} has {ino.get_size(raw)} bytes, but not its blocks"
            )
        del directory._places[ino.get_size(raw) // size :]
        seed = filesystem.inode_seed(number, raw) if filesystem.checksummed else None
        indexed = bool(ino.get_flags(raw) & ino.INDEX_FL)
        logical = 0
        try:
            data = [filesystem.read_block(place) for place in directory._places]
            inner = directory._load_index(data, seed) if indexed else set()
            directory.parent = blocks.unpack_parent(data[0], filesystem.inodes_count)
            for logical, block in enumerate(data):
                if logical not in inner:
                    directory._add_block(logical, block, seed)
        except blocks.BlockError as error:
            raise filesystem.corrupt(f"block {logical} of directory inode {number} has {error}") from None
        return directory

    def _add_block(self, logical: int, block: bytes, seed: int | None) -> None:
        names = self.names
        place = logical + 1 << _PLACE_SHIFT
        most = self._filesystem.inodes_count
        if seed is not None and not blocks.checksum_fits(block, logical, seed, indexed=False):
            raise blocks.BlockError("a wrong checksum")
        for name, number, kind in blocks.unpack_names(block, most):
            if name in names or kind > 7:
                raise blocks.BlockError(f"the name {name!r} twice, or with the type {kind}")
            names[name] = number | kind << 32 | place
            if kind == ino.IS_DIRECTORY:
                self.subdirectories += 1

    def _load_index(self, data: list[bytes], seed: int | None) -> set[int]:
        """Read the hash tree; returns the logical blocks that hold index entries, not names."""
        _, levels, entries = blocks.unpack_index(data[0], root=True, seed=seed)
        inner = {0}
        for _ in range(levels):
            below: list[tuple[int, int]] = []
            for value, place in entries:
                if place in inner or place >= len(data):
                    raise blocks.BlockError(f"a hash tree that points to block {place}")
                inner.add(place)
                _, _, found = blocks.unpack_index(data[place], root=False, seed=seed)
                below.append((value, found[0][1]))
                below.extend(found[1:])
            entries = below
        leaves = {place for _, place in entries}
        if len(leaves) != len(entries) or leaves & inner or leaves | inner != set(range(len(data))):
            raise blocks.BlockError("a hash tree that does not lead to each of its blocks once")
        if any(one[0] > other[0] for one, other in pairwise(entries)):
            raise blocks.BlockError("a hash tree that is out of order")
        self._index = entries
        return inner

    # -- changing --------------------------------------------------------------------------------

    def set(self, name: bytes, number: int, kind: int) -> None:
        """Add a name that is not there."""
        self.names[name] = number | kind << 32 | _FRESH
        if kind == ino.IS_DIRECTORY:
            self.subdirectories += 1
        if not self._rebuild:
            self._dirty.add(-1)

    def remove(self, name: bytes) -> None:
        """Take a name away."""
        value = self.names.pop(name)
        if type_of(value) == ino.IS_DIRECTORY:
            self.subdirectories -= 1
        place = value >> _PLACE_SHIFT
        if place:
            self._dirty.add(place - 1)

    @property
    def changed(self) -> bool:
        """Whether :meth:`save` has anything to do."""
        return self._rebuild or bool(self._dirty)

    # -- saving ----------------------------------------------------------------------------------

    def save(self, allocator: Blocks) -> None:
        """Write what has changed: blocks, and the inode's size, blocks and link count."""
        if not self.changed:
            return
        filesystem = self._filesystem
        raw = filesystem.read_inode(self.number)
        seed = filesystem.inode_seed(self.number, raw) if filesystem.checksummed else None
        if self._rebuild or not self._save_in_place(seed):
            self._save_whole(raw, seed, allocator)
        links = self.subdirectories + 2
        if links > ino.LINK_MAX:
            if not filesystem.super.feature_ro_compat & sb.RO_COMPAT_DIR_NLINK:
                raise NoSpaceError(
                    f"a directory in {filesystem.name} would have {self.subdirectories} subdirectories; "
                    f"without dir_nlink ext4 takes {ino.LINK_MAX - 2}",
                    hint="leave -O ^dir_nlink out of dm.mkfsarg",
                )
            links = 1
        ino.set_links(raw, links)
        filesystem.write_inode(self.number, raw)
        self._dirty.clear()
        self._rebuild = False

    def _save_in_place(self, seed: int | None) -> bool:
        """Change only the blocks concerned; False if the new names do not fit."""
        size = self._filesystem.block_size
        room = blocks.capacity(size, seed is not None)
        used: dict[int, int] = {}
        added: list[tuple[bytes, int]] = []
        length = blocks.record_length
        for name, value in self.names.items():
            place = value >> _PLACE_SHIFT
            if place:
                used[place - 1] = used.get(place - 1, 0) + length(name)
            else:
                added.append((name, value))
        if not self._index:
            used[0] = used.get(0, 0) + 24
        touched = {place for place in self._dirty if place >= 0}
        placed: dict[bytes, int] = {}
        firsts = [value for value, _ in self._index]
        candidates = list(range(len(self._places)))
        for name, value in added:
            need = length(name)
            if self._index:
                leaf = self._index[bisect_right(firsts, self._filesystem.name_hash(name)) - 1][1]
            else:
                while candidates and used.get(candidates[0], 0) + need > room:
                    candidates.pop(0)
                if not candidates:
                    return False
                leaf = candidates[0]
            have = used.get(leaf, 0) + need
            if have > room:
                return False
            used[leaf] = have
            placed[name] = value | leaf + 1 << _PLACE_SHIFT
            touched.add(leaf)
        self.names.update(placed)
        content: dict[int, list[blocks.Name]] = {leaf: [] for leaf in touched}
        if 0 in content and not self._index:
            content[0] += [(b".", self.number, ino.IS_DIRECTORY), (b"..", self.parent, ino.IS_DIRECTORY)]
        for name, value in self.names.items():
            items = content.get((value >> _PLACE_SHIFT) - 1)
            if items is not None:
                items.append((name, number_of(value), type_of(value)))
        for leaf, items in content.items():
            self._filesystem.write_block(self._places[leaf], blocks.pack_leaf(items, size, seed))
        return True

    def _save_whole(self, raw: bytearray, seed: int | None, allocator: Blocks) -> None:
        """Rebuild every block, with a hash tree if there is more than one."""
        filesystem = self._filesystem
        size = filesystem.block_size
        room = blocks.capacity(size, seed is not None)
        total = 24 + sum(map(blocks.record_length, self.names))
        flags = ino.get_flags(raw) & ~ino.INDEX_FL
        can_index = filesystem.super.feature_compat & sb.COMPAT_DIR_INDEX
        self._index = []
        if total <= room or not can_index:
            built = self._linear(seed, room)
        else:
            built = self._indexed(seed, room)
            flags |= ino.INDEX_FL
        old_places = self._places
        missing = len(built) - len(old_places)
        places = old_places[: len(built)]
        if missing > 0:
            for first, length in allocator.take(missing):
                places.extend(range(first, first + length))
        else:
            for place in old_places[len(built) :]:
                allocator.free(place, 1)
        self._places = places
        for place, block in zip(places, built, strict=True):
            filesystem.write_block(place, block)
        acl_sectors = size // 512 if ino.get_acl_block(raw) else 0
        if missing or not ino.get_size(raw):
            if ino.get_size(raw):
                for node in allocated_blocks(filesystem, self.number, raw).nodes:
                    allocator.free(node, 1)
            runs = extents.merge((logical, place, 1) for logical, place in enumerate(places))
            raw[40:100], taken = extents.build(
                filesystem, filesystem.inode_seed(self.number, raw), runs, allocator.take_one
            )
            ino.set_sectors(raw, (len(places) + taken) * (size // 512) + acl_sectors)
            flags |= ino.EXTENTS_FL
        ino.set_size(raw, len(places) * size)
        ino.set_flags(raw, flags)

    def _linear(self, seed: int | None, room: int) -> list[bytearray]:
        size = self._filesystem.block_size
        built: list[bytearray] = []
        items: list[blocks.Name] = [
            (b".", self.number, ino.IS_DIRECTORY),
            (b"..", self.parent, ino.IS_DIRECTORY),
        ]
        used = 24
        for name, value in self.names.items():
            need = blocks.record_length(name)
            if used + need > room:
                built.append(blocks.pack_leaf(items, size, seed))
                items, used = [], 0
            items.append((name, number_of(value), type_of(value)))
            used += need
            self.names[name] = value & (1 << _PLACE_SHIFT) - 1 | len(built) + 1 << _PLACE_SHIFT
        built.append(blocks.pack_leaf(items, size, seed))
        return built

    def _indexed(self, seed: int | None, room: int) -> list[bytearray]:
        """Leaves in the order of their hashes, and the index over them.

        The root is logical block 0, the leaves follow, inner blocks come last. Names of equal hash that
        are torn apart by a block's end are marked in the index by an odd hash, as the kernel has it.
        """
        size = self._filesystem.block_size
        names = list(self.names)
        hashes = np.fromiter(map(self._filesystem.name_hash, names), dtype=np.uint32, count=len(names))
        order = np.argsort(hashes, kind="stable")
        limit = int(room * _FILL)
        built = [bytearray()]
        index: list[tuple[int, int]] = []
        items: list[blocks.Name] = []
        used = 0
        first = last = 0
        for number in order:
            name, value = names[number], int(hashes[number])
            entry = self.names[name]
            need = blocks.record_length(name)
            if items and used + need > (room if value == last else limit):
                index.append((first, len(built)))
                built.append(blocks.pack_leaf(items, size, seed))
                items, used = [], 0
                first = value | (value == last)
            items.append((name, number_of(entry), type_of(entry)))
            self.names[name] = entry & (1 << _PLACE_SHIFT) - 1 | len(built) + 1 << _PLACE_SHIFT
            used += need
            last = value
        index.append((first, len(built)))
        built.append(blocks.pack_leaf(items, size, seed))
        self._index = index
        version = int(self._filesystem.super.def_hash_version)
        levels = 0
        top = index
        per_node = blocks.node_limit(size, seed is not None)
        while len(top) > blocks.root_limit(size, seed is not None):
            levels += 1
            if levels > 1 + bool(self._filesystem.super.feature_incompat & sb.INCOMPAT_LARGEDIR):
                raise NoSpaceError(
                    f"a directory of {len(self.names)} names is too large for the ext4 file system in "
                    f"{self._filesystem.name}",
                    hint="make it with -O large_dir, or spread the names over several directories",
                )
            above: list[tuple[int, int]] = []
            for start in range(0, len(top), per_node):
                part = top[start : start + per_node]
                above.append((part[0][0], len(built)))
                built.append(blocks.pack_node(part, size, seed))
            top = above
        built[0] = blocks.pack_root(self.number, self.parent, version, levels, top, size, seed)
        return built
