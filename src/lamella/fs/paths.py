# SPDX-License-Identifier: Apache-2.0
"""The paths of a tree that is being changed: each led to its directory, whatever file system that is in.

Symbolic links are resolved inside the root, as ``chroot`` would; the last name of a path is never followed.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from lamella.closing import Finishing
from lamella.errors import BadInputError
from lamella.fs.entry import NAME_LIMIT, show
from lamella.fs.reader import LINK_LIMIT

if TYPE_CHECKING:
    from lamella.fs.entry import Entry

_PATHS_LIMIT: Final = 20_000
_NO_NAMES: Final = (b"", b".", b"..")

D = TypeVar("D")


class PathTree(Finishing, Generic[D]):
    """Finds, and makes, the directories that paths lead to; *D* is what the file system has for one.

    A context manager: finished when the block ends without an exception, and closed in any case.
    """

    def __init__(self) -> None:
        self._parents: dict[bytes, tuple[D, bytes]] = {}
        """Directories and their real paths by the paths that led there. Whoever removes a directory or a
        symbolic link clears it."""

    # -- what a file system has to offer -----------------------------------------------------------

    @abstractmethod
    def _top(self) -> D:
        """The root directory."""

    @abstractmethod
    def _below(self, directory: D, name: bytes) -> D | bytes | None:
        """The directory of that name, or a symbolic link's text; None if there is nothing.

        Raises ``NotADirectoryError`` for anything else.
        """

    @abstractmethod
    def _make_below(self, directory: D, name: bytes) -> D:
        """Make a directory that a path goes through and that has no entry of its own."""

    # -- by path -----------------------------------------------------------------------------------

    def _place_for(self, entry: Entry) -> tuple[D, bytes, bytes]:
        """(directory, name, real path) for an entry that is to be made, its parents made if missing."""
        head, _, name = entry.path.rpartition(b"/")
        directory, where = self._parents.get(head) or self._parent(head, entry.path)
        if name in _NO_NAMES or len(name) > NAME_LIMIT or b"\0" in name:
            raise BadInputError(
                f"{show(entry.path)!r} is not a valid name", hint="the archive is damaged or hostile"
            )
        return directory, name, where + b"/" + name if where else name

    def _place_of(self, path: bytes) -> tuple[D, bytes, bytes] | None:
        """(directory, name, real path) of a name that may be there; None where it cannot be."""
        head, _, name = path.rpartition(b"/")
        if name in _NO_NAMES or len(name) > NAME_LIMIT or b"\0" in name:
            return None
        found = self._directory_at(head, path)
        if found is None:
            return None
        directory, where = found
        return directory, name, where + b"/" + name if where else name

    def _parent(self, head: bytes, path: bytes) -> tuple[D, bytes]:
        """The directory *head* and its real path, made if missing. *path* is what errors speak of."""
        found = self._resolve(head, path, create=True)
        assert found is not None
        if len(self._parents) >= _PATHS_LIMIT:
            self._parents.clear()
        self._parents[head] = found
        return found

    def _directory_at(self, head: bytes, path: bytes) -> tuple[D, bytes] | None:
        """The directory *head* and its real path; None if there is no such directory."""
        return self._parents.get(head) or self._resolve(head, path, create=False)

    def _resolve(self, head: bytes, path: bytes, *, create: bool) -> tuple[D, bytes] | None:
        stack = [self._top()]
        trail: list[bytes] = []
        pending = head.split(b"/")[::-1]
        followed = 0
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if trail:
                    trail.pop()
                    stack.pop()
                continue
            try:
                below = self._below(stack[-1], name) if len(name) <= NAME_LIMIT else None
            except NotADirectoryError:
                if not create:
                    return None
                raise BadInputError(
                    f"{show(path)}: {show(b'/'.join([*trail, name]))} on the way to it is not a directory",
                    hint="the archive does not fit the layers below it",
                ) from None
            if isinstance(below, bytes):
                followed += 1
                if followed > LINK_LIMIT:
                    raise BadInputError(
                        f"{show(path)}: too many symbolic links on the way to it",
                        hint="the links form a loop; the archive is damaged or hostile",
                    )
                if below.startswith(b"/"):
                    del stack[1:]
                    trail.clear()
                pending.extend(below.split(b"/")[::-1])
                continue
            if below is None:
                if not create:
                    return None
                if len(name) > NAME_LIMIT:
                    raise BadInputError(
                        f"{show(path)}: a name of {len(name)} bytes", hint=f"Linux takes {NAME_LIMIT}"
                    )
                below = self._make_below(stack[-1], name)
            stack.append(below)
            trail.append(name)
        return stack[-1], b"/".join(trail)


def link_to_nothing(entry: Entry) -> BadInputError:
    """The error for a hard link whose target is not there."""
    return BadInputError(
        f"the hard link {show(entry.path)} points to {show(entry.target)}, which does not exist",
        hint="the archive is damaged, or a layer below it is missing",
    )


def link_to_directory(entry: Entry) -> BadInputError:
    """The error for a hard link whose target is a directory."""
    return BadInputError(
        f"the hard link {show(entry.path)} points to the directory {show(entry.target)}",
        hint="the archive is damaged or hostile",
    )
