# SPDX-License-Identifier: Apache-2.0
"""What changed from one volume's file tree to another's: as ``docker diff`` lists it, and as a layer.

Two modes share one comparison. The list follows Docker's rules (``archive.ChangesDirs``): a
directory's size and time do not count, a directory above a change counts as changed. A layer must
turn the lower tree into the upper one exactly, so there a directory's time and the grouping of hard
links count as well. Access and change times never count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

from lamella.errors import UnsupportedError
from lamella.fs.entry import Entry, Kind, show
from lamella.fs.reader import N
from lamella.fs.tar.write import Out, TarWriter
from lamella.progress import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lamella.fs.pair import Pair
    from lamella.fs.reader import TreeReader

WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Change:
    """One line of ``docker diff``."""

    kind: str
    """``A`` added, ``C`` changed, ``D`` deleted."""
    path: bytes
    """Relative to the root."""

    def __str__(self) -> str:
        return f"{self.kind} /{show(self.path)}"


def list_changes(pair: Pair[N]) -> list[Change]:
    """The changes from one tree to another, sorted by path."""
    comparison = _Comparison(pair, strict=False)
    comparison.run()
    found = {b"/" + path: kind for path, kind in comparison.kinds.items() if path}
    return [Change(found[path], path[1:]) for path in sorted(found)]


def write_layer(pair: Pair[N], out: Out) -> int:
    """Write the layer (OCI, with whiteouts) that turns one tree into the other; returns its entries.

    Directories come before what they hold. All names of a hard-linked file are written if one of
    them must be, because a layer may link only to what it holds itself. Sockets are left out, as
    Docker leaves them out. Raises :class:`UnsupportedError` if a name in the upper tree starts with
    ``.wh.``, which a layer cannot carry.
    """
    reader = pair.upper
    comparison = _Comparison(pair, strict=True)
    comparison.run()
    numbers = _with_all_names(reader, comparison)
    kinds = comparison.kinds
    first_names: dict[int, bytes] = {}
    count = 0
    with TarWriter(out) as writer:
        for path in sorted(kinds, key=lambda path: path.split(b"/") if path else []):
            folder, _, name = path.rpartition(b"/")
            if kinds[path] == "D":
                if folder not in comparison.opaque:
                    _add_marker(writer, folder, WHITEOUT + name)
                    count += 1
                continue
            if name.startswith(WHITEOUT):
                raise UnsupportedError(
                    f"/{show(path)}: a layer cannot carry a file whose name starts with .wh.",
                    hint="rename or remove it",
                )
            inode = reader.at(path, numbers[path])
            if inode.kind is Kind.SOCKET:
                continue
            count += 1
            first = first_names.setdefault(inode.number, path)
            if inode.links > 1 and inode.kind is not Kind.DIRECTORY and first != path:
                writer.add(reader.link_entry(path, inode, first))
                continue
            _add(writer, reader, reader.entry(path, inode), inode)
            if path in comparison.opaque:
                _add_marker(writer, path, OPAQUE)
                count += 1
    return count


def _ignore(amount: int) -> None:
    """Report nothing."""


def write_tree(
    reader: TreeReader[N], out: Out, path: bytes = b"", *, advance: Callable[[int], None] = _ignore
) -> int:
    """Write the tree below *path* (a directory, or one file) as a plain tar; returns its entries.

    Names are relative to *path*, which comes first as ``./``; a file gets its own name. Sockets are left
    out. A further name of a file is a hard link to the first one in the tree. *advance* gets the number of
    bytes of each piece of a file that was written.
    """
    real, top = reader.resolve(path)
    lead = len(real) + 1 if real else 0
    base = real.rsplit(b"/", 1)[-1]
    first_names: dict[int, bytes] = {}
    count = 0
    with TarWriter(out) as writer:
        for where, inode in reader.walk_inodes(real, top):
            name = where[lead:] if top.kind is Kind.DIRECTORY else base
            if inode.kind is Kind.SOCKET:
                continue
            count += 1
            first = first_names.setdefault(inode.number, name) if inode.links > 1 else name
            if first is not name and inode.kind is not Kind.DIRECTORY:
                writer.add(reader.link_entry(name, inode, first))
            else:
                entry = reader.entry(name, inode)
                _add(writer, reader, entry, inode, advance)
    return count


def tree_size(reader: TreeReader[N], path: bytes = b"") -> int:
    """Bytes of the files that :func:`write_tree` writes."""
    real, top = reader.resolve(path)
    inodes = {inode.number: inode for _, inode in reader.walk_inodes(real, top)}
    return sum(inode.size for inode in inodes.values() if inode.kind is Kind.FILE)


def _add(
    writer: TarWriter, reader: TreeReader[N], entry: Entry, inode: N, advance: Callable[[int], None] = _ignore
) -> None:
    chunks = counted(reader.data(inode), advance) if entry.kind is Kind.FILE and entry.size else ()
    writer.add(entry, chunks)


def _add_marker(writer: TarWriter, folder: bytes, name: bytes) -> None:
    writer.add(Entry(folder + b"/" + name if folder else name, Kind.FILE, 0o600))


def _with_all_names(reader: TreeReader[N], comparison: _Comparison[N]) -> dict[bytes, int]:
    """Inode numbers of all added or changed paths, to which all names of their hard-linked files are added.

    The directories of names that are added here are added too: whoever applies the layer may touch
    their times.
    """
    numbers = comparison.numbers
    linked = {
        number
        for path, number in numbers.items()
        if (inode := reader.at(path, number)).links > 1 and inode.kind is not Kind.DIRECTORY
    }
    if linked:
        folders: dict[bytes, int] = {}
        for where, number in _all_names(reader, folders):
            if number in linked and where not in numbers:
                numbers[where] = number
                comparison.kinds[where] = "C"
                while where:
                    where = where.rpartition(b"/")[0]
                    if where in numbers:
                        break
                    numbers[where] = folders[where]
                    comparison.kinds[where] = "C"
    return numbers


def _all_names(reader: TreeReader[N], folders: dict[bytes, int]) -> Iterator[tuple[bytes, int]]:
    """(path, inode number) of everything but directories, whose numbers go into *folders*."""
    for where, inode in reader.walk_inodes(b"", reader.root()):
        if inode.kind is Kind.DIRECTORY:
            folders[where] = inode.number
        elif inode.links > 1:
            yield where, inode.number


class _Comparison(Generic[N]):
    """Walks both trees at once, only as deep into equal parts as names make necessary."""

    def __init__(self, pair: Pair[N], *, strict: bool) -> None:
        self._pair = pair
        self._lower = pair.lower
        self._upper = pair.upper
        self._strict = strict
        self.kinds: dict[bytes, str] = {}
        """A, C or D by path; the root may be among them."""
        self.numbers: dict[bytes, int] = {}
        """Upper inode numbers of what is A or C."""
        self.opaque: set[bytes] = set()
        """Directories created again, none of whose former names is left."""

    def run(self) -> None:
        """Fill the results."""
        lower, upper = self._lower.root(), self._upper.root()
        if self._strict and self._attributes_differ(lower, upper):
            self._note("C", b"", upper.number)
        todo = [(b"", lower, upper)]
        while todo:
            path, old, new = todo.pop()
            listed = self._pair.below(old, new)
            if listed is None:
                self._directory(path, old, new, todo)
                continue
            lead = path + b"/" if path else b""
            for name, number, suspect in listed:
                if suspect:
                    self._compare(lead + name, (old, number), (new, number), name, todo)
                else:
                    inode = self._upper.child(new, name, number)
                    todo.append((lead + name, inode, inode))
        self._add_parents()

    def _directory(self, path: bytes, old: N, new: N, todo: list[tuple[bytes, N, N]]) -> None:
        lead = path + b"/" if path else b""
        before = self._lower.children(old)
        after = self._upper.children(new)
        for name, number in after.items():
            former = before.get(name)
            where = lead + name
            if self._upper.is_lost_and_found(new, name, number):
                continue
            if former is None:
                self._added(where, self._upper.child(new, name, number))
            else:
                self._compare(where, (old, former), (new, number), name, todo)
        gone = [
            name
            for name, number in before.items()
            if name not in after and not self._lower.is_lost_and_found(old, name, number)
        ]
        for name in gone:
            self.kinds[lead + name] = "D"
        if gone and path and self._pair.made_anew(old, new) and before.keys().isdisjoint(after):
            self.opaque.add(path)
            self._note("C", path, new.number)

    def _compare(
        self, path: bytes, old: tuple[N, int], new: tuple[N, int], name: bytes, todo: list[tuple[bytes, N, N]]
    ) -> None:
        """Compare what one name stands for in both trees: (directory, inode number) of each."""
        upper = self._upper.child(new[0], name, new[1])
        if self._pair.unchanged(old[1], new[1]):
            if upper.kind is Kind.DIRECTORY:
                todo.append((path, self._lower.child(old[0], name, old[1]), upper))
            return
        lower = self._lower.child(old[0], name, old[1])
        both = lower.kind is Kind.DIRECTORY and upper.kind is Kind.DIRECTORY
        if self._pair.equal(lower, upper):
            if both:
                todo.append((path, lower, upper))
            return
        differ = self._attributes_differ(lower, upper)
        if not differ and upper.kind is Kind.FILE:
            differ = not self._pair.same_bytes(lower, upper)
        if not differ and self._strict and not both and old[1] != new[1]:
            differ = lower.links > 1 or upper.links > 1  # other names may now go together
        if differ:
            self._note("C", path, upper.number)
        if both:
            todo.append((path, lower, upper))
        elif upper.kind is Kind.DIRECTORY:
            self._added_below(path, upper)

    def _added(self, path: bytes, inode: N) -> None:
        self._note("A", path, inode.number)
        if inode.kind is Kind.DIRECTORY:
            self._added_below(path, inode)

    def _added_below(self, path: bytes, inode: N) -> None:
        for where, below in self._upper.walk_inodes(path, inode):
            if below is not inode:
                self._note("A", where, below.number)

    def _note(self, kind: str, path: bytes, number: int) -> None:
        self.kinds[path] = kind
        self.numbers[path] = number

    def _add_parents(self) -> None:
        """Directories above a change count as changed, as Docker has it; so a layer restores their times."""
        missing: set[bytes] = set()
        for path in self.kinds:
            while path:
                path = path.rpartition(b"/")[0]
                if not path or path in self.kinds or path in missing:
                    break
                missing.add(path)
        for path in missing:
            self._note("C", path, self._upper.resolve(path, follow=False)[1].number)

    # -- two inodes --------------------------------------------------------------------------------

    def _attributes_differ(self, old: N, new: N) -> bool:
        if (old.kind, old.mode, old.uid, old.gid) != (new.kind, new.mode, new.uid, new.gid):
            return True
        if old.kind is Kind.DIRECTORY:
            if self._strict and old.mtime_ns != new.mtime_ns:
                return True
        elif not self._same_time(old.mtime_ns, new.mtime_ns):
            return True
        if old.kind is Kind.FILE and old.size != new.size:
            return True
        if old.kind in (Kind.CHAR, Kind.BLOCK) and old.device_numbers != new.device_numbers:
            return True
        if old.kind is Kind.SYMLINK and self._lower.target(old) != self._upper.target(new):
            return True
        return self._lower.xattrs(old) != self._upper.xattrs(new)

    def _same_time(self, old: int, new: int) -> bool:
        """Equal, or for the list equal in seconds where one side has no fraction (a tar may cut it off)."""
        if old == new:
            return True
        if self._strict or (old % _SECOND and new % _SECOND):
            return False
        return old // _SECOND == new // _SECOND
