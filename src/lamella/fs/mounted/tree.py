# SPDX-License-Identifier: Apache-2.0
"""Changing a mounted tree as :class:`lamella.fs.ext4.tree.Tree` changes an unmounted one.

The result is the same, down to times: a directory gets its entry's time, or keeps the one that it had,
whatever was put into it afterwards. Symbolic links are resolved inside the root; the last name of a path
is never followed. Nobody else may change the tree meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lamella.errors import ExistsError, NotFoundError
from lamella.fs import acl
from lamella.fs.attributes import with_acl_in_mode
from lamella.fs.entry import KINDS, TYPE_BITS, Entry, Kind, show
from lamella.fs.mounted.dirfds import OPEN_DIRECTORY, OpenPlaces, Place, through_proc
from lamella.fs.mounted.file_store import failure, replace_xattrs, set_xattrs, write_file
from lamella.fs.paths import PathTree, link_to_directory, link_to_nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lamella.fs.layer import FilePayload, RemovalWatcher

_PIECE: Final = 1 << 20
_MAX_TIME: Final = ((1 << 63) - 1) * 10**9
"""The latest time in nanoseconds that utimensat(2) accepts."""
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Directory(Place):
    """A directory that this session has been in."""

    __slots__ = ("below", "changed", "fresh", "inherits", "made", "mtime_ns", "touched")

    def __init__(self, parent: Place | None, name: bytes, *, made: bool) -> None:
        super().__init__(parent, name)
        self.below: dict[bytes, Directory] = {}
        """Directories in it that this session has been in."""
        self.made = made
        """Whether this session has made it: then all that it holds is of this session."""
        self.fresh: set[bytes] = set()
        """Names that this session has put into a directory that was there before."""
        self.touched = False
        """Whether a directory that was there before was put again, or holds something of this session."""
        self.inherits = False
        """Whether what is made in it gets a group or an ACL from it."""
        self.changed = made
        """Whether its time may no longer be what it is to be."""
        self.mtime_ns: int | None = None
        """The time that it has at the end; None: whatever it comes to."""


class DirectoryTree(PathTree[Directory]):
    """A :class:`lamella.fs.layer.ChangingTree` below an open directory. A context manager.

    Leaving the context sets the times of directories; leaving it by an exception leaves the tree half
    changed, which the caller has to roll back.
    """

    def __init__(self, root: int, name: str, *, watcher: RemovalWatcher | None = None) -> None:
        """*root* is a descriptor of the directory, *name* what errors call the tree."""
        super().__init__()
        self.name = name
        self._places = OpenPlaces(root)
        self._watcher = watcher
        self._umask = _umask()
        self._written = 0
        self._root = Directory(None, b"", made=False)
        try:
            self._look_at(self._root, root)
        except OSError as error:
            raise failure(error, "read", b"", name) from error

    @property
    def bytes_written(self) -> int:
        return self._written

    # -- edits: those of ChangingTree -------------------------------------------------------------

    def put(self, entry: Entry, payload: FilePayload | None = None) -> bytes:
        try:
            return self._put(entry, payload)
        except OSError as error:
            raise failure(error, "write", entry.path, self.name) from error

    def _put(self, entry: Entry, payload: FilePayload | None) -> bytes:
        if entry.xattrs:
            entry = with_acl_in_mode(entry)
        if not entry.path:
            self._update(self._root, entry)
            return b""
        directory, name, path = self._place_for(entry)
        kind = entry.kind
        if kind is Kind.HARDLINK:
            self._link(directory, name, path, entry)
        elif kind is Kind.FILE:
            self._make(directory, name, path, lambda: self._create_file(directory, name, entry, payload))
        elif kind is Kind.DIRECTORY:
            self._put_directory(directory, name, path, entry)
        else:
            self._make(directory, name, path, lambda: self._create_special(directory, name, entry))
        return path

    def make_directory(self, path: bytes) -> None:
        try:
            self._parent(path, path)
        except OSError as error:
            raise failure(error, "write", path, self.name) from error

    def kind_of(self, path: bytes) -> Kind | None:
        if not path:
            return Kind.DIRECTORY
        try:
            found = self._find(path)
        except OSError as error:
            raise failure(error, "read", path, self.name) from error
        return KINDS[stat.S_IFMT(found[3].st_mode)] if found else None

    def remove(self, path: bytes, *, recursive: bool = False) -> None:
        try:
            found = self._find(path)
            if found is None:
                raise NotFoundError(f"{show(path)} is not in {self.name}", hint="check the path")
            directory, name, where, status = found
            if stat.S_ISDIR(status.st_mode) and not recursive:
                inside = self._enter(directory, name)
                if os.listdir(self._places.descriptor(inside)):
                    raise ExistsError(
                        f"the directory {show(path)} is not empty", hint="remove it recursively"
                    )
            self._remove(directory, name, where)
        except OSError as error:
            raise failure(error, "remove", path, self.name) from error

    def whiteout(self, path: bytes) -> None:
        try:
            found = self._find(path)
            if found is None:
                return
            directory, name, where, _ = found
            below = directory.below.get(name)
            if below is not None and below.touched:
                self._hide_lower(below, where)
            elif not directory.made and name not in directory.fresh:
                self._remove(directory, name, where)
        except OSError as error:
            raise failure(error, "remove", path, self.name) from error

    def opaque(self, path: bytes) -> None:
        try:
            found = self._directory_at(path, path)
            if found is not None and not found[0].made:
                self._hide_lower(*found)
        except OSError as error:
            raise failure(error, "remove what is in", path, self.name) from error

    def finish(self) -> None:
        """Set the times of the directories that were changed. The tree cannot be used afterwards."""
        waiting = [self._root]
        while waiting:
            directory = waiting.pop()
            waiting.extend(directory.below.values())
            if directory.mtime_ns is None or not directory.changed:
                continue
            times = _times(directory.mtime_ns)
            try:
                if directory.parent is None:
                    os.utime(self._places.descriptor(directory), ns=times)
                else:
                    above = self._places.descriptor(directory.parent)
                    os.utime(directory.name, ns=times, dir_fd=above, follow_symlinks=False)
            except OSError as error:
                raise failure(error, "write", directory.path, self.name) from error

    def close(self) -> None:
        """Close what is open. Closing twice is harmless."""
        self._places.close()

    # -- finding ---------------------------------------------------------------------------------

    def _look_at(self, directory: Directory, descriptor: int) -> None:
        """Take note of what a directory that was there before is like."""
        status = os.fstat(descriptor)
        directory.mtime_ns = status.st_mtime_ns
        directory.inherits = bool(status.st_mode & stat.S_ISGID)
        with suppress(OSError):  # most have none, some file systems know none
            os.getxattr(descriptor, acl.DEFAULT)
            directory.inherits = True

    def _enter(self, parent: Directory, name: bytes) -> Directory:
        """A directory that is there. Raises ``OSError`` if it is not, or is not a directory."""
        known = parent.below.get(name)
        if known is not None:
            return known
        descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=self._places.descriptor(parent))
        found = Directory(parent, name, made=parent.made)
        self._places.keep(found, descriptor)
        self._look_at(found, descriptor)
        parent.below[name] = found
        return found

    def _find(self, path: bytes) -> tuple[Directory, bytes, bytes, os.stat_result] | None:
        """(parent, name, real path, what it is) of an existing name; None if there is none."""
        found = self._place_of(path)
        if found is None:
            return None
        directory, name, where = found
        try:
            status = os.stat(name, dir_fd=self._places.descriptor(directory), follow_symlinks=False)
        except FileNotFoundError:
            return None
        return directory, name, where, status

    def _top(self) -> Directory:
        return self._root

    def _below(self, directory: Directory, name: bytes) -> Directory | bytes | None:
        try:
            return self._enter(directory, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
        try:
            return os.readlink(name, dir_fd=self._places.descriptor(directory))
        except OSError as error:
            if error.errno == errno.EINVAL:  # no link either
                raise NotADirectoryError from None
            raise

    def _make_below(self, directory: Directory, name: bytes) -> Directory:
        made = self._create_directory(directory, name, Entry(b"", Kind.DIRECTORY, 0o755))
        made.mtime_ns = None
        return made

    # -- making ----------------------------------------------------------------------------------

    def _make(self, directory: Directory, name: bytes, path: bytes, create: Callable[[], None]) -> None:
        """Make a name, in place of what has it."""
        try:
            create()
        except FileExistsError:
            self._remove(directory, name, path)
            create()
        self._added(directory, name)

    def _added(self, directory: Directory, name: bytes) -> None:
        if not directory.made:
            directory.changed = True
            directory.fresh.add(name)
            self._touch(directory)

    def _touch(self, directory: Directory) -> None:
        """Remember that an older directory holds something of this session, and so do its parents."""
        place: Place | None = directory
        while isinstance(place, Directory) and not place.touched:
            place.touched = True
            place = place.parent

    def _create_file(
        self, directory: Directory, name: bytes, entry: Entry, payload: FilePayload | None
    ) -> None:
        if entry.stored and payload is None:
            raise ValueError(f"{entry.path!r} has {entry.stored} bytes, but no payload")
        owned = bool(entry.uid or entry.gid or directory.inherits)
        # With the right mode from the start, if no owner has to be changed first, which clears bits.
        at_once = not owned and not entry.mode & (self._umask | 0o7000)
        mode = entry.mode if at_once else 0o600
        descriptor = os.open(name, _NEW_FILE, mode, dir_fd=self._places.descriptor(directory))
        try:
            if directory.inherits:
                _drop_acls(descriptor)
            if payload is not None and entry.stored:
                self._written += write_file(descriptor, entry, payload)
            elif entry.size:
                os.ftruncate(descriptor, entry.size)
            if owned:
                os.fchown(descriptor, entry.uid, entry.gid)
            if not at_once:
                os.fchmod(descriptor, entry.mode & 0o7777)
            if entry.xattrs:
                set_xattrs(descriptor, Kind.FILE, entry.xattrs, entry.path)
            os.utime(descriptor, ns=_times(entry.mtime_ns))
        finally:
            os.close(descriptor)

    def _create_special(self, directory: Directory, name: bytes, entry: Entry) -> None:
        above = self._places.descriptor(directory)
        kind = entry.kind
        if kind is Kind.SYMLINK:
            os.symlink(entry.target, name, dir_fd=above)
        else:
            device = os.makedev(entry.major, entry.minor) if kind in (Kind.CHAR, Kind.BLOCK) else 0
            os.mknod(name, TYPE_BITS[kind] | 0o600, device, dir_fd=above)
        if entry.uid or entry.gid or directory.inherits:
            os.chown(name, entry.uid, entry.gid, dir_fd=above, follow_symlinks=False)
        if kind is not Kind.SYMLINK:
            if directory.inherits:
                _drop_acls(through_proc(above, name))
            os.chmod(name, entry.mode & 0o7777, dir_fd=above)
        if entry.xattrs:
            set_xattrs(through_proc(above, name), kind, entry.xattrs, entry.path)
        os.utime(name, ns=_times(entry.mtime_ns), dir_fd=above, follow_symlinks=False)

    def _put_directory(self, directory: Directory, name: bytes, path: bytes, entry: Entry) -> None:
        try:
            self._create_directory(directory, name, entry)
        except FileExistsError:
            try:
                there = self._enter(directory, name)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                self._remove(directory, name, path)
                self._create_directory(directory, name, entry)
            else:
                self._update(there, entry)

    def _create_directory(self, parent: Directory, name: bytes, entry: Entry) -> Directory:
        above = self._places.descriptor(parent)
        owned = bool(entry.uid or entry.gid or parent.inherits)
        at_once = not owned and not entry.mode & (self._umask | 0o7000)
        os.mkdir(name, entry.mode if at_once else 0o700, dir_fd=above)
        made = Directory(parent, name, made=True)
        made.mtime_ns = entry.mtime_ns
        made.inherits = bool(entry.mode & stat.S_ISGID) or acl.DEFAULT in entry.xattrs
        if not at_once or entry.xattrs:
            descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=above)
            self._places.keep(made, descriptor)
            if parent.inherits:
                _drop_acls(descriptor)
            if owned:
                os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, entry.mode & 0o7777)
            if entry.xattrs:
                set_xattrs(descriptor, Kind.DIRECTORY, entry.xattrs, entry.path)
        parent.below[name] = made
        self._added(parent, name)
        return made

    def _update(self, directory: Directory, entry: Entry) -> None:
        """Give an existing directory the attributes of an entry."""
        descriptor = self._places.descriptor(directory)
        os.fchown(descriptor, entry.uid, entry.gid)
        os.fchmod(descriptor, entry.mode & 0o7777)
        replace_xattrs(descriptor, entry.xattrs, entry.path)
        if acl.ACCESS not in entry.xattrs:
            os.fchmod(descriptor, entry.mode & 0o7777)  # taking an ACL away may leave its rights behind
        directory.mtime_ns = entry.mtime_ns
        directory.changed = True
        directory.inherits = bool(entry.mode & stat.S_ISGID) or acl.DEFAULT in entry.xattrs
        if not directory.made:
            self._touch(directory)

    def _link(self, directory: Directory, name: bytes, path: bytes, entry: Entry) -> None:
        found = self._find(entry.target)
        if found is None:
            raise link_to_nothing(entry)
        source, target, _, status = found
        if stat.S_ISDIR(status.st_mode):
            raise link_to_directory(entry)
        from_there = os.dup(self._places.descriptor(source))
        try:
            here = self._places.descriptor(directory)
            try:
                os.link(target, name, src_dir_fd=from_there, dst_dir_fd=here, follow_symlinks=False)
            except FileExistsError:
                there = os.stat(name, dir_fd=here, follow_symlinks=False)
                if (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino):
                    return
                # What is replaced may be a directory that holds the only name: first one more, then away.
                spare = b".lamella-%d" % os.getpid()
                os.link(target, spare, src_dir_fd=from_there, dst_dir_fd=here, follow_symlinks=False)
                self._remove(directory, name, path)
                here = self._places.descriptor(directory)
                os.rename(spare, name, src_dir_fd=here, dst_dir_fd=here)
        finally:
            os.close(from_there)
        self._added(directory, name)

    # -- removing --------------------------------------------------------------------------------

    def _hide_lower(self, directory: Directory, path: bytes) -> None:
        """Remove from an older directory all that is not of this session."""
        waiting = [(directory, path)]
        while waiting:
            directory, path = waiting.pop()
            for name in _names(self._places.descriptor(directory)):
                below = directory.below.get(name)
                where = path + b"/" + name if path else name
                if below is not None and below.touched:
                    waiting.append((below, where))
                elif name not in directory.fresh:
                    self._remove(directory, name, where)

    def _remove(self, directory: Directory, name: bytes, path: bytes) -> None:
        """Remove a name and everything below it."""
        above = self._places.descriptor(directory)
        status = os.stat(name, dir_fd=above, follow_symlinks=False)
        directory.fresh.discard(name)
        directory.changed = True
        if not stat.S_ISDIR(status.st_mode):
            if stat.S_ISLNK(status.st_mode):
                self._parents.clear()
            self._unlink(directory, name, path, regular=stat.S_ISREG(status.st_mode))
            return
        self._parents.clear()
        top = directory.below.pop(name, None) or Place(directory, name)
        waiting: list[tuple[Place, bytes, bool]] = [(top, path, False)]
        while waiting:
            place, path, empty = waiting.pop()
            assert place.parent is not None
            if empty:
                self._places.forget(place)
                os.rmdir(place.name, dir_fd=self._places.descriptor(place.parent))
                continue
            waiting.append((place, path, True))
            below = place.below if isinstance(place, Directory) else {}
            with os.scandir(self._places.descriptor(place)) as listing:
                entries = [
                    (os.fsencode(e.name), e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False))
                    for e in listing
                ]
            for name, is_directory, regular in entries:
                where = path + b"/" + name
                if is_directory:
                    waiting.append((below.get(name) or Place(place, name), where, False))
                else:
                    self._unlink(place, name, where, regular=regular)

    def _unlink(self, place: Place, name: bytes, path: bytes, *, regular: bool) -> None:
        above = self._places.descriptor(place)
        if regular and self._watcher is not None:
            self._watcher.before_removal(path, lambda offset, length: _read(above, name, offset, length))
        os.unlink(name, dir_fd=above)


def _read(above: int, name: bytes, offset: int, length: int) -> Iterator[bytes]:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        while length:
            data = os.pread(descriptor, min(length, _PIECE), offset)
            if not data:
                return
            yield data
            offset += len(data)
            length -= len(data)
    finally:
        os.close(descriptor)


def _times(mtime_ns: int) -> tuple[int, int]:
    """Arguments of utime: a time out of the kernel's range becomes the nearest in it; file systems then
    do the same with theirs."""
    kept = min(max(mtime_ns, -_MAX_TIME), _MAX_TIME)
    return kept, kept


def _names(descriptor: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(descriptor)]


def _drop_acls(where: int | bytes) -> None:
    """Take away what a new file or directory has inherited."""
    for name in (acl.ACCESS, acl.DEFAULT):
        with suppress(OSError):  # it has none, or the file system knows none
            os.removexattr(where, name, follow_symlinks=not isinstance(where, bytes))


def _umask() -> int:
    """The process's umask; looking must not change it, as other threads make files too."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return 0o777  # unknown: every mode is set once more
