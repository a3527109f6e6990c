# SPDX-License-Identifier: Apache-2.0
"""Changing the tree of an ext4 file system: put, link and remove names, as a whole layer or a few edits.

Nothing here follows a symbolic link out of the file system: links in the middle of a path are resolved
inside its root, and the last name of a path is never followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lamella import clock
from lamella.closing import on_error
from lamella.errors import ExistsError, NoSpaceError, NotFoundError
from lamella.fs.attributes import with_acl_in_mode
from lamella.fs.entry import TYPE_BITS, Entry, Kind, show
from lamella.fs.ext4 import extents, xattr_writer
from lamella.fs.ext4 import inode as ino
from lamella.fs.ext4 import superblock as sb
from lamella.fs.ext4.allocator import Blocks, Inodes
from lamella.fs.ext4.block_map import allocated_blocks, read_runs
from lamella.fs.ext4.data_writer import DataWriter
from lamella.fs.ext4.directory import Directory, is_fresh, number_of, type_of
from lamella.fs.ext4.file_store import store_file
from lamella.fs.ext4.filesystem import ROOT_INODE, Ext4
from lamella.fs.paths import PathTree, link_to_directory, link_to_nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.block import BlockDevice
    from lamella.fs.layer import FilePayload, RemovalWatcher

NAMES_LIMIT: Final = 300_000
"""Names held in memory before directories are written out and dropped."""
_KINDS: Final = {number: kind for kind, number in ino.DIRENT_TYPES.items()}


class Tree(PathTree[Directory]):
    """A :class:`lamella.fs.layer.ChangingTree` in ext4. Get one by :meth:`open`, as a context manager.

    Leaving the context writes everything to the device (which is not flushed: that is the caller's
    decision); leaving it by an exception discards what has not been written yet. After an exception the
    device may hold half of the change: the thin pool's transaction has to be rolled back.
    """

    def __init__(
        self, filesystem: Ext4, *, discard: bool = True, watcher: RemovalWatcher | None = None
    ) -> None:
        super().__init__()
        self.filesystem = filesystem
        self._blocks = Blocks(filesystem)
        self._inodes = Inodes(filesystem)
        self._data = DataWriter(filesystem)
        self._discard = discard
        self._watcher = watcher
        self._now = clock.now_ns()
        self._directories: dict[int, Directory] = {}
        self._touched: set[int] = set()
        self._held = 0
        self._room = NAMES_LIMIT
        self._dropped: set[int] = set()
        self._latest = 0

    @classmethod
    def open(
        cls, device: BlockDevice, *, discard: bool = True, watcher: RemovalWatcher | None = None
    ) -> Tree:
        """Open the ext4 file system in *device* for changing.

        *discard*: discard freed space on the device. *watcher* is notified of files before their removal.
        """
        filesystem = Ext4.open(device)
        with on_error(filesystem.abandon):
            return cls(filesystem, discard=discard, watcher=watcher)

    @property
    def bytes_written(self) -> int:
        return self._data.written

    # -- edits: those of ChangingTree -------------------------------------------------------------

    def put(self, entry: Entry, payload: FilePayload | None = None) -> bytes:
        if self._held > self._room:
            self._make_room()
        if not entry.path:
            self._update(ROOT_INODE, with_acl_in_mode(entry))
            return b""
        if entry.xattrs:
            entry = with_acl_in_mode(entry)
        directory, name, path = self._place_for(entry)
        kind = entry.kind
        if kind is Kind.HARDLINK:
            self._link(directory, name, path, entry)
            return path
        existing = directory.names.get(name)
        if existing is not None:
            if kind is Kind.DIRECTORY and type_of(existing) == ino.IS_DIRECTORY:
                number = number_of(existing)
                self._update(number, entry)
                self._touch(number)
                return path
            self._remove(directory, name, path)
        if kind is Kind.FILE:
            number = self._create_file(entry, payload)
        elif kind is Kind.DIRECTORY:
            number = self._create_directory(directory.number, entry)
        else:
            number = self._create_special(entry)
        if entry.xattrs:
            xattr_writer.replace(self.filesystem, number, entry.xattrs, entry.path)
        self._add(directory, name, number, ino.DIRENT_TYPES[kind])
        return path

    def make_directory(self, path: bytes) -> None:
        self._parent(path, path)

    def kind_of(self, path: bytes) -> Kind | None:
        if not path:
            return Kind.DIRECTORY
        found = self._find(path)
        return _KINDS[type_of(found[0].names[found[1]])] if found else None

    def remove(self, path: bytes, *, recursive: bool = False) -> None:
        found = self._find(path)
        if found is None:
            raise NotFoundError(f"{show(path)} is not in {self.filesystem.name}", hint="check the path")
        directory, name, where = found
        value = directory.names[name]
        if type_of(value) == ino.IS_DIRECTORY and not recursive and self._directory(number_of(value)).names:
            raise ExistsError(f"the directory {show(path)} is not empty", hint="remove it recursively")
        self._remove(directory, name, where)

    def whiteout(self, path: bytes) -> None:
        found = self._find(path)
        if found is None:
            return
        directory, name, where = found
        value = directory.names[name]
        number = number_of(value)
        if type_of(value) == ino.IS_DIRECTORY and number in self._touched:
            self._hide_lower(self._directory(number), where)
        elif not is_fresh(value):
            self._remove(directory, name, where)

    def opaque(self, path: bytes) -> None:
        found = self._directory_at(path, path)
        if found is not None and not self._inodes.is_fresh(found[0].number):
            self._hide_lower(*found)

    def finish(self) -> None:
        """Write everything that is still in memory to the device. The tree cannot be used afterwards."""
        self._data.flush()
        for directory in self._directories.values():
            directory.save(self._blocks)
        self._blocks.close_window()
        self._blocks.release_freed()
        self.filesystem.check(self.filesystem.library.flush_icache(self.filesystem.handle), "write back")
        self.filesystem.mark_changed()
        self.filesystem.write_back()
        if self._discard:
            self._blocks.discard_freed()

    def close(self) -> None:
        """Discard what has not been written, and close the file system."""
        self.filesystem.abandon()

    # -- finding ---------------------------------------------------------------------------------

    def _directory(self, number: int) -> Directory:
        directory = self._directories.get(number)
        if directory is None:
            directory = Directory.load(self.filesystem, number)
            self._directories[number] = directory
            self._held += len(directory.names)
            if number in self._dropped:
                # It is needed again: rather hold more than write and read it in turns.
                self._room += len(directory.names)
        return directory

    def _find(self, path: bytes) -> tuple[Directory, bytes, bytes] | None:
        """(parent, name, real path) of an existing name; None if there is none."""
        found = self._place_of(path)
        return found if found is not None and found[1] in found[0].names else None

    def _top(self) -> Directory:
        return self._directory(ROOT_INODE)

    def _below(self, directory: Directory, name: bytes) -> Directory | bytes | None:
        value = directory.names.get(name)
        if value is None:
            return None
        if type_of(value) == ino.IS_DIRECTORY:
            return self._directory(number_of(value))
        if type_of(value) == ino.IS_SYMLINK:
            return self._target(number_of(value))
        raise NotADirectoryError

    def _make_below(self, directory: Directory, name: bytes) -> Directory:
        entry = Entry(b"", Kind.DIRECTORY, 0o755, mtime_ns=self._now)
        number = self._create_directory(directory.number, entry)
        self._add(directory, name, number, ino.IS_DIRECTORY)
        return self._directory(number)

    def _target(self, number: int) -> bytes:
        """A symbolic link's text."""
        filesystem = self.filesystem
        raw = filesystem.read_inode(number)
        size = ino.get_size(raw)
        if size < ino.FAST_SYMLINK and not ino.get_flags(raw) & ino.EXTENTS_FL:
            return bytes(raw[40 : 40 + size])
        if size > filesystem.block_size:
            raise filesystem.corrupt(f"symbolic link inode {number} has {size} bytes")
        self._data.flush()
        runs = allocated_blocks(filesystem, number, raw).runs
        return b"".join(read_runs(filesystem.device, filesystem.block_size, runs, 0, size))

    # -- making ----------------------------------------------------------------------------------

    def _add(self, directory: Directory, name: bytes, number: int, kind: int) -> None:
        directory.set(name, number, kind)
        self._held += 1
        self._latest = directory.number
        if not self._inodes.is_fresh(directory.number):
            self._touch(directory.number)

    def _touch(self, number: int) -> None:
        """Remember that an older directory holds something of this session, and so do its parents."""
        while number not in self._touched:
            self._touched.add(number)
            number = self._directory(number).parent

    def _create_directory(self, parent: int, entry: Entry) -> int:
        number = self._inodes.take(directory=True)
        self._write_new(number, entry, links=2, flags=ino.EXTENTS_FL, block=ino.NO_BLOCKS)
        self._directories[number] = Directory.create(self.filesystem, number, parent)
        return number

    def _create_file(self, entry: Entry, payload: FilePayload | None) -> int:
        filesystem = self.filesystem
        block_size = filesystem.block_size
        if entry.size > block_size * extents.MAX_BLOCKS:
            raise NoSpaceError(
                f"{show(entry.path)} has {entry.size} bytes; "
                f"the limit of ext4 is {block_size * extents.MAX_BLOCKS}",
                hint="the file is larger than any ext4 file system can hold",
            )
        number = self._inodes.take(directory=False)
        runs: list[extents.Run] = []
        if entry.stored:
            if payload is None:
                raise ValueError(f"{entry.path!r} has {entry.stored} bytes, but no payload")
            runs = store_file(self._data, self._blocks, entry, payload)
        self._write_mapped(number, entry, entry.size, runs)
        return number

    def _create_special(self, entry: Entry) -> int:
        kind = entry.kind
        number = self._inodes.take(directory=False)
        if kind is Kind.SYMLINK and len(entry.target) >= ino.FAST_SYMLINK:
            if len(entry.target) >= self.filesystem.block_size:
                raise NoSpaceError(
                    f"the symbolic link {show(entry.path)} has a target of {len(entry.target)} bytes; "
                    f"the limit is {self.filesystem.block_size - 1}",
                    hint="make the file system with larger blocks",
                )
            first = self._blocks.take_one()
            self._data.begin(first)
            self._data.put_bytes(entry.target)
            self._data.pad(-len(entry.target) % self.filesystem.block_size)
            self._write_mapped(number, entry, len(entry.target), [extents.Run(0, first, 1)])
            return number
        block, size = b"", 0
        if kind is Kind.SYMLINK:
            block, size = entry.target, len(entry.target)
        elif kind in (Kind.CHAR, Kind.BLOCK):
            block = ino.pack_device(entry.major, entry.minor)
        self._write_new(number, entry, size=size, block=block)
        return number

    def _write_mapped(self, number: int, entry: Entry, size: int, runs: list[extents.Run]) -> None:
        """Write the inode of a file or long symbolic link with these runs."""
        filesystem = self.filesystem
        per_block = filesystem.block_size // 512
        block, sectors = ino.NO_BLOCKS, 0
        if len(runs) == 1 and runs[0].length <= extents.MAX_LENGTH:
            block = extents.one(runs[0])
            sectors = runs[0].length * per_block
        elif runs:
            seed = filesystem.inode_seed(number, bytes(filesystem.inode_size))
            block, taken = extents.build(filesystem, seed, extents.merge(runs), self._blocks.take_one)
            sectors = (sum(run.length for run in runs) + taken) * per_block
        if size >= 1 << 31:
            filesystem.super.feature_ro_compat |= sb.RO_COMPAT_LARGE_FILE
        self._write_new(number, entry, size=size, sectors=sectors, flags=ino.EXTENTS_FL, block=block)

    def _write_new(
        self,
        number: int,
        entry: Entry,
        *,
        links: int = 1,
        size: int = 0,
        sectors: int = 0,
        flags: int = 0,
        block: bytes = b"",
    ) -> None:
        """Write a new inode with the attributes of *entry*; the rest is as :func:`ino.new_inode` has it."""
        mode = 0o777 if entry.kind is Kind.SYMLINK else entry.mode & 0o7777
        raw = ino.new_inode(
            self.filesystem.inode_size,
            TYPE_BITS[entry.kind] | mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            self._now,
            size=size,
            links=links,
            sectors=sectors,
            flags=flags,
            block=block,
        )
        self.filesystem.write_new_inode(number, raw)

    def _link(self, directory: Directory, name: bytes, path: bytes, entry: Entry) -> None:
        found = self._find(entry.target)
        if found is None:
            raise link_to_nothing(entry)
        value = found[0].names[found[1]]
        number = number_of(value)
        if type_of(value) == ino.IS_DIRECTORY:
            raise link_to_directory(entry)
        existing = directory.names.get(name)
        if existing is not None and number_of(existing) == number:
            return
        raw = self.filesystem.read_inode(number)
        links = ino.get_links(raw)
        if links >= ino.LINK_MAX:
            raise NoSpaceError(
                f"{show(entry.target)} has {links} hard links, the most that ext4 supports",
                hint="the image has more hard links to one file than ext4 can hold",
            )
        ino.set_links(raw, links + 1)
        ino.set_change_time(raw, self._now)
        self.filesystem.write_inode(number, raw)
        if existing is not None:
            self._remove(directory, name, path)
        self._add(directory, name, number, type_of(value))

    def _update(self, number: int, entry: Entry) -> None:
        """Give an existing directory the attributes of an entry."""
        filesystem = self.filesystem
        raw = filesystem.read_inode(number)
        ino.set_attributes(raw, entry.mode, entry.uid, entry.gid, entry.mtime_ns, self._now)
        filesystem.write_inode(number, raw)
        if entry.xattrs or ino.get_acl_block(raw) or ino.xattr_area(raw):
            xattr_writer.replace(filesystem, number, entry.xattrs, entry.path)

    def clear_orphans(self) -> int:
        """Free deleted files that were still open when a mount was cut off; returns how many.

        Their list starts in the superblock and goes on in each one's deletion time. Those that still have
        a name were being truncated: what they have past their size is freed.
        """
        filesystem = self.filesystem
        number = int(filesystem.super.last_orphan)
        seen: set[int] = set()
        while number:
            if number in seen:
                raise filesystem.corrupt(f"a cycle in its list of orphan inodes at {number}")
            seen.add(number)
            raw = filesystem.read_inode(number)
            following = ino.get_deletion_time(raw)
            kind = ino.get_mode(raw) & ino.S_IFMT
            if not ino.get_links(raw):
                self._free(number, raw, directory=kind == ino.S_IFDIR)
            else:
                first = -(-ino.get_size(raw) // filesystem.block_size)
                library = filesystem.library
                filesystem.check(library.flush_icache(filesystem.handle), "read an inode of")
                code = library.punch(filesystem.handle, number, None, None, first, (1 << 64) - 1)
                filesystem.check(code, f"truncate inode {number} of")
                filesystem.check(library.flush_icache(filesystem.handle), "read an inode of")
                raw = filesystem.read_inode(number)
                ino.set_deletion_time(raw, 0)
                filesystem.write_inode(number, raw)
            number = following
        filesystem.super.last_orphan = 0
        return len(seen)

    # -- removing --------------------------------------------------------------------------------

    def _hide_lower(self, directory: Directory, path: bytes) -> None:
        """Remove from an older directory all that is not of this session."""
        stack = [(directory, path)]
        while stack:
            directory, path = stack.pop()
            for name, value in list(directory.names.items()):
                below = path + b"/" + name if path else name
                number = number_of(value)
                if type_of(value) == ino.IS_DIRECTORY and number in self._touched:
                    stack.append((self._directory(number), below))
                elif not is_fresh(value):
                    self._remove(directory, name, below)

    def _remove(self, directory: Directory, name: bytes, path: bytes) -> None:
        """Remove a name and everything below it."""
        value = directory.names[name]
        directory.remove(name)
        if type_of(value) != ino.IS_DIRECTORY:
            if type_of(value) == ino.IS_SYMLINK:
                self._parents.clear()
            self._drop_name(number_of(value), path)
            return
        self._parents.clear()
        waiting = [(number_of(value), path)]
        seen: set[int] = set()
        while waiting:
            number, path = waiting.pop()
            if number in seen or number == ROOT_INODE:
                raise self.filesystem.corrupt(f"the directory {show(path)} contains itself")
            seen.add(number)
            gone = self._directory(number)
            for below, value in gone.names.items():
                if type_of(value) == ino.IS_DIRECTORY:
                    waiting.append((number_of(value), path + b"/" + below))
                else:
                    self._drop_name(number_of(value), path + b"/" + below)
            del self._directories[number]
            self._touched.discard(number)
            self._free(number, self.filesystem.read_inode(number), directory=True)

    def _drop_name(self, number: int, path: bytes) -> None:
        """Remove one name of an inode that is not a directory; its blocks are freed with the last one."""
        filesystem = self.filesystem
        raw = filesystem.read_inode(number)
        if self._watcher is not None and ino.get_mode(raw) & ino.S_IFMT == ino.S_IFREG:
            self._data.flush()

            def read(offset: int, length: int) -> Iterator[bytes]:
                runs = allocated_blocks(filesystem, number, raw).runs
                end = min(offset + length, ino.get_size(raw))
                return read_runs(filesystem.device, filesystem.block_size, runs, offset, end)

            self._watcher.before_removal(path, read)
        links = ino.get_links(raw)
        if links > 1:
            ino.set_links(raw, links - 1)
            ino.set_change_time(raw, self._now)
            filesystem.write_inode(number, raw)
        else:
            self._free(number, raw, directory=False)

    def _free(self, number: int, raw: bytearray, *, directory: bool) -> None:
        """Free an inode and its blocks."""
        filesystem = self.filesystem
        if number < filesystem.first_inode:
            raise filesystem.corrupt(f"a name leads to the reserved inode {number}")
        kind = ino.get_mode(raw) & ino.S_IFMT
        acl_sectors = filesystem.block_size // 512 if ino.get_acl_block(raw) else 0
        mapped = kind in (ino.S_IFREG, ino.S_IFDIR) or (
            kind == ino.S_IFLNK and ino.get_sectors(raw) > acl_sectors
        )
        if mapped:
            runs, nodes = allocated_blocks(filesystem, number, raw)
            for _, first, length in runs:
                self._blocks.free(first, length)
            for node in nodes:
                self._blocks.free(node, 1)
        if acl_sectors:
            xattr_writer.free_block(filesystem, number, raw)
        ino.set_deleted(raw, self._now)
        filesystem.write_inode(number, raw)
        self._inodes.free(number, directory=directory)

    def _make_room(self) -> None:
        """Write out and drop directories, but the latest one and older ones with new names in them."""
        self._parents.clear()
        kept: dict[int, Directory] = {}
        for number, directory in self._directories.items():
            if number == self._latest or number in self._touched:
                kept[number] = directory
            else:
                directory.save(self._blocks)
                self._dropped.add(number)
        self._directories = kept
        self._held = sum(len(directory.names) for directory in kept.values())
        self._room = self._held + NAMES_LIMIT
