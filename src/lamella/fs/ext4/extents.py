# SPDX-License-Identifier: Apache-2.0
"""ext4's extent trees: read whole, checked, and built whole.

The format is that of ``ext2fs/ext3_extents.h`` (``fs/ext4/ext4_extents.h`` in the kernel).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from lamella.fs.ext4.checksum import crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lamella.fs.ext4.filesystem import Ext4
    from lamella.fs.ext4.geometry import Geometry

MAGIC: Final = 0xF30A
MAX_LENGTH: Final = 32768
"""Most blocks in one extent; a greater length is that of an unwritten one, this much more."""
MAX_BLOCKS: Final = (1 << 32) - 1
"""Most blocks in a file."""
IN_INODE: Final = 4
MAX_DEPTH: Final = 5
_HEADER = struct.Struct("<HHHHI")
_EXTENT = struct.Struct("<IHHI")
_ONE = struct.Struct("<HHHHIIHHI36x")
_INDEX = struct.Struct("<IIHH")
_ENTRY_FIELDS = np.dtype([("logical", "<u4"), ("length", "<u2"), ("high", "<u2"), ("low", "<u4")])
ROOT_FIELDS: Final = np.dtype(
    [
        ("magic", "<u2"),
        ("count", "<u2"),
        ("most", "<u2"),
        ("depth", "<u2"),
        ("generation", "<u4"),
        ("extents", _ENTRY_FIELDS, (IN_INODE,)),
    ]
)
"""``i_block`` of an inode whose extents all lie in it, for many at once."""


class Run(NamedTuple):
    """Blocks of a file that follow each other on the device, in file system blocks."""

    logical: int
    """First block in the file."""
    physical: int
    """First block on the device."""
    length: int


def append(runs: list[Run], logical: int, physical: int, length: int) -> None:
    """Add a run that comes next in the file, joined with the last one where it continues that."""
    if runs:
        last = runs[-1]
        if last.logical + last.length == logical and last.physical + last.length == physical:
            runs[-1] = Run(last.logical, last.physical, last.length + length)
            return
    runs.append(Run(logical, physical, length))


def merge(runs: Iterable[tuple[int, int, int]]) -> list[Run]:
    """Runs in logical order, neighbours joined and none longer than an extent may be."""
    joined: list[Run] = []
    for run in runs:
        append(joined, *run)
    if all(run.length <= MAX_LENGTH for run in joined):
        return joined
    return [
        Run(logical + step, physical + step, min(MAX_LENGTH, length - step))
        for logical, physical, length in joined
        for step in range(0, length, MAX_LENGTH)
    ]


def one(run: Run) -> bytes:
    """``i_block``'s 60 bytes for a single run, no longer than an extent may be."""
    logical, physical, length = run
    return _ONE.pack(MAGIC, 1, IN_INODE, 0, 0, logical, length, physical >> 32, physical & 0xFFFFFFFF)


def build(filesystem: Ext4, seed: int, runs: list[Run], take: Callable[[], int]) -> tuple[bytes, int]:
    """Build the extent tree for merged *runs*: ``i_block``'s 60 bytes, and how many blocks the tree took.

    Blocks of the tree are got from *take* and written through the cache. *seed* is the inode's checksum
    seed.
    """
    entries = [_EXTENT.pack(a, length, b >> 32, b & 0xFFFFFFFF) for a, b, length in runs]
    firsts = [run[0] for run in runs]
    depth = taken = 0
    per_block = (filesystem.block_size - 12) // 12
    while len(entries) > IN_INODE:
        above: list[bytes] = []
        above_firsts: list[int] = []
        for start in range(0, len(entries), per_block):
            part = entries[start : start + per_block]
            place = take()
            body = _HEADER.pack(MAGIC, len(part), per_block, depth, 0) + b"".join(part)
            block = bytearray(body.ljust(filesystem.block_size, b"\0"))
            if filesystem.checksummed:
                tail = 12 + 12 * per_block
                block[tail : tail + 4] = crc32c(seed, block[:tail]).to_bytes(4, "little")
            filesystem.write_block(place, block)
            taken += 1
            above.append(_INDEX.pack(firsts[start], place & 0xFFFFFFFF, place >> 32, 0))
            above_firsts.append(firsts[start])
        entries, firsts, depth = above, above_firsts, depth + 1
    head = _HEADER.pack(MAGIC, len(entries), IN_INODE, depth, 0) + b"".join(entries)
    return head.ljust(60, b"\0"), taken


def read_extents(
    geometry: Geometry, what: str, root: bytes, seed: int, *, unwritten: bool
) -> tuple[list[Run], list[int]]:
    """(runs in the file's order, neighbours joined; blocks of the tree) of the tree with this ``i_block``.

    *what* names the inode for errors, *seed* is its checksum seed. *unwritten*: also the extents that are
    allocated but read as zeros. Raises :class:`lamella.errors.CorruptError`.
    """
    tree = _Tree(geometry, what, seed, unwritten)
    tree.read_node(root, None)
    return tree.runs, tree.nodes


class _Tree:
    """What was read so far of an extent tree.

    Each node must bring its extents further on in the file; so a tree that leads back into itself is found
    instead of followed.
    """

    def __init__(self, geometry: Geometry, what: str, seed: int, unwritten: bool) -> None:
        self._geometry = geometry
        self._what = what
        self._seed = seed
        self._unwritten = unwritten
        self._next = 0
        self.runs: list[Run] = []
        self.nodes: list[int] = []

    def read_node(self, data: bytes, depth_wanted: int | None) -> None:
        """Read a node and all below it; *depth_wanted* is None for the root, which is in the inode."""
        corrupt = self._geometry.corrupt
        magic, count, most, depth, _ = _HEADER.unpack_from(data)
        if (
            magic != MAGIC
            or count > most
            or most > (len(data) - 12) // 12
            or depth > MAX_DEPTH
            or (depth_wanted is not None and depth != depth_wanted)
        ):
            raise corrupt(f"{self._what} has a bad extent header")
        if depth_wanted is not None and self._geometry.checksummed:
            tail = 12 + 12 * most
            stored = int.from_bytes(data[tail : tail + 4], "little")
            if tail + 4 > len(data) or crc32c(self._seed, data[:tail]) != stored:
                raise corrupt(f"{self._what} has an extent block that fails its checksum")
        entries = data[12 : 12 + 12 * count]
        if depth:
            for logical, low, high, _ in _INDEX.iter_unpack(entries):
                self._read_below(logical, low | high << 32, depth - 1)
        else:
            for logical, length, high, low in _EXTENT.iter_unpack(entries):
                self._add(logical, length, low | high << 32)

    def _read_below(self, logical: int, block: int, depth: int) -> None:
        before = self._next
        if logical < before:
            raise self._geometry.corrupt(f"{self._what} has extents out of order at its block {logical}")
        self.nodes.append(block)
        self.read_node(self._geometry.read_block(block, self._what), depth)
        if self._next == before:
            raise self._geometry.corrupt(f"{self._what} has an empty extent block {block}")

    def _add(self, logical: int, length: int, physical: int) -> None:
        unwritten = length > MAX_LENGTH
        if unwritten:
            length -= MAX_LENGTH
        if not length or logical < self._next:
            raise self._geometry.corrupt(f"{self._what} has an impossible extent at its block {logical}")
        self._next = logical + length
        self._geometry.check_blocks(physical, length, self._what)
        if self._unwritten or not unwritten:
            append(self.runs, logical, physical, length)
