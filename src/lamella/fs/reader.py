# SPDX-License-Identifier: Apache-2.0
"""Reading a tree by its paths, whatever kind of file system it is in."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from lamella.closing import Closing
from lamella.errors import NotFoundError, UnsupportedError, UsageError
from lamella.fs.entry import Entry, Kind, show

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE: Final = 1 << 20
"""Most bytes in one piece of a file's data."""
LINK_LIMIT: Final = 40
"""Most symbolic links followed in one path, as Linux has it."""
_MAX_DEPTH: Final = 1 << 16
_CACHED_HEADS: Final = 512
ZEROS: Final = bytes(PIECE)

Pieces = list[tuple[int, int]]
"""A file's stored pieces, as (offset, length) in bytes."""
Numbered = list[tuple[bytes, int]]
"""Names with their inode numbers."""


class Node(Protocol):
    """What every kind of inode says of itself."""

    @property
    def number(self) -> int:
        """Two names with the same number are one file."""

    @property
    def kind(self) -> Kind: ...

    @property
    def mode(self) -> int:
        """Permission bits (0o7777)."""

    @property
    def uid(self) -> int: ...

    @property
    def gid(self) -> int: ...

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def mtime_ns(self) -> int: ...

    @property
    def links(self) -> int: ...

    @property
    def device_numbers(self) -> tuple[int, int]:
        """(major, minor) of a device node."""


N = TypeVar("N", bound=Node)


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


class TreeReader(Closing, Generic[N]):
    """Reads one tree; a context manager. Paths are bytes, relative to the root (a leading slash is ignored).

    A name that does not exist raises :class:`NotFoundError`.

    ``lost+found``, which making an ext4 puts into its root, is left out of :meth:`list` and
    :meth:`walk` while it is empty.
    """

    name: str
    """What errors call it."""

    def __init__(self) -> None:
        self._heads: dict[bytes, tuple[tuple[bytes, ...], tuple[N, ...]]] = {}

    # -- what a file system has to offer -----------------------------------------------------------

    @abstractmethod
    def root(self) -> N:
        """The root directory."""

    @abstractmethod
    def children(self, inode: N) -> dict[bytes, int]:
        """Inode numbers by name in a directory; the latest directories are kept."""

    @abstractmethod
    def child(self, inode: N, name: bytes, number: int) -> N:
        """What :meth:`children` has under *name*."""

    def at(self, path: bytes, number: int) -> N:
        """The inode at a real path, of which the number is known."""
        return self.resolve(path, follow=False)[1]

    def lookup(self, inode: N, name: bytes) -> N | None:
        """What a directory has under *name*; None if nothing."""
        number = self.children(inode).get(name)
        return None if number is None else self.child(inode, name, number)

    @abstractmethod
    def target(self, inode: N) -> bytes:
        """A symlink's text."""

    @abstractmethod
    def xattrs(self, inode: N) -> dict[bytes, bytes]:
        """An inode's extended attributes by full name."""

    @abstractmethod
    def stored_pieces(self, inode: N) -> Pieces | None:
        """The stored pieces of a file that has holes; None if it has none."""

    @abstractmethod
    def data(self, inode: N, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """An inode's bytes from *offset*, in pieces of at most 1 MiB, holes as zeros."""

    @abstractmethod
    def usage(self) -> Usage:
        """How full it is."""

    def is_lost_and_found(self, parent: N, name: bytes, number: int) -> bool:
        """Whether a name is the file system's own, empty ``lost+found``."""
        return False

    def _met_again(self, path: bytes, number: int) -> None:
        """A directory comes a second time in one walk."""

    # -- by path -----------------------------------------------------------------------------------

    def resolve(self, path: bytes, *, follow: bool = True) -> tuple[bytes, N]:
        """The real path (no symlink, ``.`` or ``..`` in it) and the inode that *path* leads to.

        Symlinks are followed inside the root as ``chroot`` would; with ``follow=False`` the last
        component is not.
        """
        head, _, last_name = path.rpartition(b"/")
        known = self._heads.get(head) if last_name else None
        if known is not None:
            todo, names, inodes = deque((last_name,)), list(known[0]), list(known[1])
        else:
            todo, names, inodes = deque(path.split(b"/")), [], [self.root()]
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
                raise NotFoundError(f"{shown(path)}: {shown(b'/'.join(names))} is not a directory")
            if part == b"..":
                if names:
                    names.pop()
                    inodes.pop()
                continue
            found = self.lookup(here, part)
            if found is None:
                raise NotFoundError(f"{shown(path)}: there is no such file or directory")
            last = not any(todo)
            if found.kind is Kind.SYMLINK and (follow or not last):
                links += 1
                if links > LINK_LIMIT:
                    raise NotFoundError(f"{shown(path)}: more than {LINK_LIMIT} symbolic links on the way")
                target = self.target(found)
                if target.startswith(b"/"):
                    names, inodes = [], inodes[:1]
                todo.extendleft(reversed(target.split(b"/")))
                continue
            names.append(part)
            inodes.append(found)
        if path.endswith((b"/", b"/.")) and inodes[-1].kind is not Kind.DIRECTORY and follow:
            raise NotFoundError(f"{shown(path)}: {shown(b'/'.join(names))} is not a directory")
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
            self.entry(lead + name, self.child(inode, name, number))
            for name, number in sorted(self.children(inode).items())
            if not self.is_lost_and_found(inode, name, number)
        ]

    def walk(self, path: bytes = b"", *, follow: bool = True) -> Iterator[Entry]:
        """*path* itself and everything below, a directory before what it holds, names in order of bytes.

        Without *follow*, a symlink at *path* is one. Paths are real ones from the root. The first name of a
        file met is a FILE, its further ones are HARDLINKs whose target is the first.
        """
        real, top = self.resolve(path, follow=follow)
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
            raise UsageError(f"{shown(real)} is a {inode.kind.words}, not a file")
        return self.data(inode, offset, length)

    # -- by inode ----------------------------------------------------------------------------------

    def walk_inodes(self, path: bytes, top: N) -> Iterator[tuple[bytes, N]]:
        """Paths and inodes of *top*, which *path* names, and of everything below."""
        yield path, top
        if top.kind is not Kind.DIRECTORY:
            return
        seen = {top.number}
        stack: deque[tuple[bytes, N, Iterator[tuple[bytes, int]]]] = deque()
        stack.append((path + b"/" if path else b"", top, iter(self._sorted(top))))
        while stack:
            lead, parent, names = stack[-1]
            for name, number in names:
                inode = self.child(parent, name, number)
                where = lead + name
                if inode.kind is Kind.DIRECTORY:
                    if number in seen:
                        self._met_again(where, number)
                    if self.is_lost_and_found(parent, name, number):
                        continue
                    if len(where) > _MAX_DEPTH:
                        raise UnsupportedError(f"{self.name}: directories are nested too deeply to walk")
                    seen.add(number)
                    yield where, inode
                    stack.append((where + b"/", inode, iter(self._sorted(inode))))
                    break
                yield where, inode
            else:
                stack.pop()

    def _sorted(self, inode: N) -> Numbered:
        """The names in a directory with their numbers; read in passing, not kept."""
        return sorted(self.children(inode).items())

    def entry(self, path: bytes, inode: N) -> Entry:
        """An inode's attributes under the name *path*; a hard-linked file as a FILE."""
        kind = inode.kind
        entry = Entry(path, kind, inode.mode, inode.uid, inode.gid, inode.mtime_ns)
        if kind is Kind.FILE:
            entry.size = inode.size
            entry.data = self.stored_pieces(inode)
        elif kind is Kind.SYMLINK:
            entry.target = self.target(inode)
        elif kind is Kind.CHAR or kind is Kind.BLOCK:
            entry.major, entry.minor = inode.device_numbers
        entry.xattrs = self.xattrs(inode)
        return entry

    def link_entry(self, path: bytes, inode: N, target: bytes) -> Entry:
        """A further name of an inode, whose first name is *target*."""
        return Entry(
            path, Kind.HARDLINK, inode.mode, inode.uid, inode.gid, inode.mtime_ns, 0, target,
            xattrs=self.xattrs(inode),
        )  # fmt: skip

    def close(self) -> None:
        """Let go of what is open. Closing twice is harmless."""


def zeros(length: int) -> Iterator[bytes]:
    """A hole of *length* bytes, in pieces."""
    while length > 0:
        take = min(length, PIECE)
        yield ZEROS if take == PIECE else ZEROS[:take]
        length -= take


def shown(path: bytes) -> str:
    """A path as an absolute one, printable."""
    return "/" + show(path).strip("/")
