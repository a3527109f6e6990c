# SPDX-License-Identifier: Apache-2.0
"""Which blocks a file has: reading an inode's extents, and building extent trees whole.

The format is that of ``ext2fs/ext3_extents.h``. A *run* is (first logical block, first physical block,
length) in file system blocks.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from lamella.fs.ext4 import inode as ino
from lamella.fs.ext4 import library as ext2
from lamella.fs.ext4.superblock import crc32c

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Iterable, Iterator

    from lamella.fs.ext4.filesystem import Ext4

MAGIC: Final = 0xF30A
MAX_LENGTH: Final = 32768
"""Most blocks in one initialised extent."""
MAX_BLOCKS: Final = (1 << 32) - 1
"""Most blocks in a file."""
IN_INODE: Final = 4
MAX_DEPTH: Final = 5
_HEADER = struct.Struct("<HHHHI")
_EXTENT = struct.Struct("<IHHI")
_ONE = struct.Struct("<HHHHIIHHI36x")
_INDEX = struct.Struct("<IIHH")

Run = tuple[int, int, int]


def merge(runs: Iterable[Run]) -> list[Run]:
    """Runs in logical order, neighbours joined and none longer than an extent may be."""
    joined: list[Run] = []
    for logical, physical, length in runs:
        if joined:
            last = joined[-1]
            if last[0] + last[2] == logical and last[1] + last[2] == physical:
                joined[-1] = (last[0], last[1], last[2] + length)
                continue
        joined.append((logical, physical, length))
    if all(run[2] <= MAX_LENGTH for run in joined):
        return joined
    return [
        (logical + step, physical + step, min(MAX_LENGTH, length - step))
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


def read_runs(filesystem: Ext4, number: int, raw: bytes | bytearray) -> tuple[list[Run], list[int]]:
    """(all runs of an inode in logical order, the blocks of its tree). Unwritten extents count as runs."""
    flags = ino.get_flags(raw)
    if flags & ino.EXTENTS_FL:
        runs: list[Run] = []
        nodes: list[int] = []
        seed = filesystem.inode_seed(number, raw)
        _walk(filesystem, number, seed, bytes(raw[40:100]), None, runs, nodes)
        return runs, nodes
    return _mapped(filesystem, number)


def read_file(
    filesystem: Ext4, number: int, raw: bytes | bytearray, offset: int, length: int
) -> Iterator[bytes]:
    """The bytes *offset* to *offset + length* of a file, straight from the device, holes as zeros."""
    size = filesystem.block_size
    end = min(offset + length, ino.get_size(raw))
    position = offset
    step = 1 << 20
    for logical, physical, count in read_runs(filesystem, number, raw)[0]:
        start, stop = logical * size, (logical + count) * size
        if stop <= position:
            continue
        if start >= end:
            break
        while position < start:
            take = min(step, start - position)
            yield bytes(take)
            position += take
        while position < min(stop, end):
            take = min(step, min(stop, end) - position)
            yield filesystem.device.read(physical * size + position - start, take)
            position += take
    while position < end:
        take = min(step, end - position)
        yield bytes(take)
        position += take


def _walk(
    filesystem: Ext4,
    number: int,
    seed: int,
    node: bytes,
    expected_depth: int | None,
    runs: list[Run],
    nodes: list[int],
) -> None:
    magic, count, most, depth, _ = _HEADER.unpack_from(node)
    if (
        magic != MAGIC
        or count > most
        or 12 + 12 * most > len(node)
        or depth > MAX_DEPTH
        or (expected_depth is not None and depth != expected_depth)
    ):
        raise filesystem.corrupt(f"inode {number} has a bad extent header")
    if expected_depth is not None and filesystem.checksummed:
        tail = 12 + 12 * most
        if len(node) < tail + 4 or crc32c(seed, node[:tail]).to_bytes(4, "little") != node[tail : tail + 4]:
            raise filesystem.corrupt(f"inode {number} has an extent block that fails its checksum")
    for step in range(count):
        at = 12 + 12 * step
        if depth:
            _, low, high, _ = _INDEX.unpack_from(node, at)
            place = low | high << 32
            if len(nodes) > filesystem.blocks_count // 2 or place in nodes[-MAX_DEPTH:]:
                raise filesystem.corrupt(f"inode {number} has an extent tree that bites its tail")
            nodes.append(place)
            _walk(filesystem, number, seed, filesystem.read_block(place), depth - 1, runs, nodes)
            continue
        logical, length, high, low = _EXTENT.unpack_from(node, at)
        physical = low | high << 32
        length = length - MAX_LENGTH if length > MAX_LENGTH else length
        after = runs[-1][0] + runs[-1][2] if runs else 0
        if (
            not length
            or logical < after
            or physical <= int(filesystem.super.first_data_block)
            or physical + length > filesystem.blocks_count
        ):
            raise filesystem.corrupt(f"inode {number} has an impossible extent at its block {logical}")
        runs.append((logical, physical, length))


def _mapped(filesystem: Ext4, number: int) -> tuple[list[Run], list[int]]:
    """Runs of an inode with the old block map, found by the library."""
    runs: list[Run] = []
    nodes: list[int] = []

    def visit(_fs: int, place: ctypes._Pointer[ctypes.c_uint64], count: int, *_rest: int) -> int:
        block = int(place[0])
        logical = count - (1 << 64) if count >> 63 else count
        if not 0 < block < filesystem.blocks_count:
            return 2
        if logical < 0:
            nodes.append(block)
        elif runs and runs[-1][0] + runs[-1][2] == logical and runs[-1][1] + runs[-1][2] == block:
            runs[-1] = (runs[-1][0], runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((logical, block, 1))
        return 0

    library = filesystem.library
    filesystem.check(library.flush_icache(filesystem.handle), "read an inode of")
    code = library.block_iterate3(filesystem.handle, number, 8, None, ext2.BLOCK_ITERATE(visit), None)
    filesystem.check(code, f"read the blocks of inode {number} of")
    return runs, nodes
