# SPDX-License-Identifier: Apache-2.0
"""Directories of a mounted tree, each reached from its parent, and a bounded number of them open.

Nothing is ever given to the kernel but one directory, open, and one name in it, and links are never
followed: so no link can lead out of the root, on any kernel, and a directory may lie deeper than
``PATH_MAX`` reaches. ``docs/explanation/xfs.md`` says why this is not ``openat2``.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Final

from lamella.closing import Closing

OPEN_DIRECTORIES: Final = 128
"""Directories held open at once; the usual limit of a process is 1024 open files, sometimes 256."""
OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Place:
    """Where a directory is: a name in another one. The root's parent is None."""

    __slots__ = ("name", "parent")

    def __init__(self, parent: Place | None, name: bytes) -> None:
        self.parent = parent
        self.name = name

    @property
    def path(self) -> bytes:
        """The real path from the root, ``b""`` for the root."""
        names: list[bytes] = []
        place: Place = self
        while place.parent is not None:
            names.append(place.name)
            place = place.parent
        return b"/".join(reversed(names))


class OpenPlaces(Closing):
    """File descriptors of places, opened when they are needed. Close it, or use it as a context manager.

    *root* is a descriptor of the root, which is not closed here.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: OrderedDict[Place, int] = OrderedDict()

    def descriptor(self, place: Place) -> int:
        """A descriptor of a place, valid until some other one is asked for. Raises ``OSError``."""
        found = self._open.get(place)
        if found is not None:
            self._open.move_to_end(place)
            return found
        missing = []
        while place.parent is not None and place not in self._open:
            missing.append(place)
            place = place.parent
        descriptor = self._root if place.parent is None else self._open[place]
        for place in reversed(missing):
            descriptor = os.open(place.name, OPEN_DIRECTORY, dir_fd=descriptor)
            self.keep(place, descriptor)
        return descriptor

    def keep(self, place: Place, descriptor: int) -> None:
        """Take over the descriptor of a place that has just been opened."""
        self._open[place] = descriptor
        if len(self._open) > OPEN_DIRECTORIES:
            os.close(self._open.popitem(last=False)[1])

    def forget(self, place: Place) -> None:
        """Close a place, which is about to go."""
        descriptor = self._open.pop(place, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            os.close(self._open.popitem()[1])


def through_proc(descriptor: int, name: bytes) -> bytes:
    """A path to a name in an open directory, for the calls that take no directory beside the name."""
    return b"/proc/self/fd/%d/%s" % (descriptor, name)
