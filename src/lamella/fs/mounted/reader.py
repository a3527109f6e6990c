# SPDX-License-Identifier: Apache-2.0
"""Reading a mounted tree with the interface of :class:`lamella.fs.ext4.reader.Reader`."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeVar

from lamella.block.system import data_ranges, explain, explaining
from lamella.errors import CorruptError
from lamella.fs.attributes import storable
from lamella.fs.entry import KINDS, Kind, show
from lamella.fs.mounted.dirfds import OpenPlaces, Place, through_proc
from lamella.fs.mounted.file_store import is_kernel_owned
from lamella.fs.reader import PIECE, TreeReader, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from lamella.errors import LamellaError
    from lamella.fs.reader import Pieces

_CACHED_NAMES: Final = 1 << 17
_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GET_GENERATION: Final = 0x80087601
"""``FS_IOC_GETVERSION`` (``linux/fs.h``)."""
_EXT_ROOT, _EXT_LOST_AND_FOUND = 2, 11

T = TypeVar("T")


class Inode:
    """What a name stood for when it was looked at: a :class:`lamella.fs.reader.Node`."""

    __slots__ = ("directory", "name", "number", "place", "status")

    def __init__(self, directory: Place | None, name: bytes, status: os.stat_result, device: int) -> None:
        self.directory = directory
        """The directory in which *name* leads here; None for the root."""
        self.name = name
        self.status = status
        number = status.st_ino
        self.number = number if status.st_dev == device else status.st_dev << 64 | number
        self.place: Place | None = None
        """Where it is, once it has been used as a directory."""

    @property
    def kind(self) -> Kind:
        return KINDS[stat.S_IFMT(self.status.st_mode)]

    @property
    def mode(self) -> int:
        return self.status.st_mode & 0o7777

    @property
    def uid(self) -> int:
        return self.status.st_uid

    @property
    def gid(self) -> int:
        return self.status.st_gid

    @property
    def size(self) -> int:
        return self.status.st_size

    @property
    def mtime_ns(self) -> int:
        """When its bytes were changed."""
        return self.status.st_mtime_ns

    @property
    def links(self) -> int:
        """How many names it has."""
        return self.status.st_nlink

    @property
    def device_numbers(self) -> tuple[int, int]:
        return os.major(self.status.st_rdev), os.minor(self.status.st_rdev)


class DirectoryReader(TreeReader[Inode]):
    """Reads the tree below an open directory, which must not change meanwhile. Close it after use.

    Memory: 131072 names at most are kept, and those of the directory in use.
    """

    def __init__(self, root: int, name: str) -> None:
        """*root* is a descriptor of the directory, *name* what errors call the tree."""
        super().__init__()
        self.name = name
        self._places = OpenPlaces(root)
        self._here = Place(None, b"")
        self._root: Inode | None = None
        self._descriptor = root
        self._owned = -1
        self._device = self._try(b"", lambda: os.fstat(root).st_dev)
        self._directories: OrderedDict[Place, dict[bytes, Inode]] = OrderedDict()
        self._cached_names = 0

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The tree below the directory at *path* of this machine."""
        text = os.fspath(path)
        with explaining("read", text):
            descriptor = os.open(text, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        made = cls(descriptor, text)
        made._owned = descriptor
        return made

    def close(self) -> None:
        self._places.close()
        if self._owned >= 0:
            os.close(self._owned)
            self._owned = -1

    # -- finding -----------------------------------------------------------------------------------

    def root(self) -> Inode:
        if self._root is None:
            status = self._try(b"", lambda: os.fstat(self._descriptor))
            self._root = Inode(None, b"", status, self._device)
            self._root.place = self._here
        return self._root

    def children(self, inode: Inode) -> dict[bytes, int]:
        return {name: below.number for name, below in self._listed(inode).items()}

    def child(self, inode: Inode, name: bytes, number: int) -> Inode:
        return self._listed(inode)[name]

    def lookup(self, inode: Inode, name: bytes) -> Inode | None:
        place = self._place(inode)
        known = self._directories.get(place)
        if known is not None:
            return known.get(name)
        try:
            status = os.stat(name, dir_fd=self._places.descriptor(place), follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
                return None
            raise self._failure(error, place.path + b"/" + name) from error
        except ValueError:  # a NUL in it
            return None
        return Inode(place, name, status, self._device)

    def is_lost_and_found(self, parent: Inode, name: bytes, number: int) -> bool:
        if name != b"lost+found" or number != _EXT_LOST_AND_FOUND or parent.number != _EXT_ROOT:
            return False
        found = self.child(parent, name, number)
        return found.kind is Kind.DIRECTORY and not self._listed(found)

    def _place(self, inode: Inode) -> Place:
        if inode.place is None:
            inode.place = Place(inode.directory, inode.name)
        return inode.place

    def _listed(self, inode: Inode) -> dict[bytes, Inode]:
        """What is in a directory by name; the latest directories are kept."""
        place = self._place(inode)
        found = self._directories.get(place)
        if found is not None:
            self._directories.move_to_end(place)
            return found
        try:
            with os.scandir(self._places.descriptor(place)) as listing:
                found = {}
                for entry in listing:
                    name = os.fsencode(entry.name)
                    found[name] = Inode(place, name, entry.stat(follow_symlinks=False), self._device)
        except OSError as error:
            raise self._failure(error, place.path) from error
        self._directories[place] = found
        self._cached_names += len(found) + 1
        while self._cached_names > _CACHED_NAMES and len(self._directories) > 1:
            _, oldest = self._directories.popitem(last=False)
            self._cached_names -= len(oldest) + 1
        return found

    # -- what is in it -----------------------------------------------------------------------------

    def target(self, inode: Inode) -> bytes:
        assert inode.directory is not None
        above = inode.directory
        return self._try(inode.name, lambda: os.readlink(inode.name, dir_fd=self._places.descriptor(above)))

    def xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        def read() -> dict[bytes, bytes]:
            where: int | bytes
            if inode.directory is None:
                where, link = self._descriptor, False
            else:
                where, link = through_proc(self._places.descriptor(inode.directory), inode.name), True
            found = {}
            for text in os.listxattr(where, follow_symlinks=not link):
                name = os.fsencode(text)
                if storable(name) and not is_kernel_owned(name):
                    found[name] = os.getxattr(where, name, follow_symlinks=not link)
            return found

        try:
            return read()
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return {}
            raise self._failure(error, self._path(inode)) from error

    def stored_pieces(self, inode: Inode) -> Pieces | None:
        if inode.status.st_blocks * 512 >= inode.size:
            return None
        descriptor = self._open(inode)
        try:
            pieces = list(data_ranges(descriptor, 0, inode.size))
        except OSError as error:
            raise self._failure(error, self._path(inode)) from error
        finally:
            os.close(descriptor)
        return None if pieces == [(0, inode.size)] else pieces

    def data(self, inode: Inode, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        end = inode.size if length is None else min(inode.size, offset + length)
        if offset >= end:
            return
        descriptor = self._open(inode)
        try:
            while offset < end:
                piece = os.pread(descriptor, min(PIECE, end - offset), offset)
                if not piece:
                    where = f"{show(self._path(inode))} in {self.name}"
                    raise CorruptError(
                        f"{where} ends after {offset} of its {inode.size} bytes",
                        hint="it was changed while it was read; try again",
                    )
                yield piece
                offset += len(piece)
        except OSError as error:
            raise self._failure(error, self._path(inode)) from error
        finally:
            os.close(descriptor)

    def generation(self, inode: Inode) -> int:
        """What tells a file or directory from an earlier one of its number; 0 where nothing does."""
        descriptor = self._open(inode)
        try:
            return int(struct.unpack("=L", fcntl.ioctl(descriptor, _GET_GENERATION, bytes(8))[:4])[0])
        except OSError:
            return 0
        finally:
            os.close(descriptor)

    def usage(self) -> Usage:
        found = self._try(b"", lambda: os.fstatvfs(self._descriptor))
        return Usage(
            found.f_blocks * found.f_frsize, found.f_bfree * found.f_frsize, found.f_files, found.f_ffree
        )

    def _open(self, inode: Inode) -> int:
        try:
            if inode.directory is None:
                return os.open(b".", _OPEN_FILE, dir_fd=self._descriptor)
            return os.open(inode.name, _OPEN_FILE, dir_fd=self._places.descriptor(inode.directory))
        except OSError as error:
            raise self._failure(error, self._path(inode)) from error

    def _path(self, inode: Inode) -> bytes:
        return b"" if inode.directory is None else Place(inode.directory, inode.name).path

    def _try(self, path: bytes, call: Callable[[], T]) -> T:
        try:
            return call()
        except OSError as error:
            raise self._failure(error, path) from error

    def _failure(self, error: OSError, path: bytes) -> LamellaError:
        return explain(error, "read", f"{show(path)} in {self.name}")
