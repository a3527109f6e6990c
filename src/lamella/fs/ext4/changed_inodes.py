# SPDX-License-Identifier: Apache-2.0
"""Which inodes differ between two states of one ext4 file system, found table by table, not file by file.

Two snapshots of a volume hold the same file system; an inode number means the same file in both until
it is freed. Comparing whole inode tables as arrays, and every file's extents with the ranges known to
differ, leaves a small set of numbers to look at; everything else need not even be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lamella.fs.ext4.block_map import Claims, block_map
from lamella.fs.ext4.extents import MAGIC, MAX_LENGTH, ROOT_FIELDS
from lamella.fs.ext4.inode import (
    CHECKSUM_HIGH,
    CHECKSUM_LOW,
    CORE,
    EXTENTS_FL,
    INLINE_DATA_FL,
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.fs.ext4.on_disk import OnDisk
    from lamella.fs.ranges import Ranges

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]
    Numbers = np.ndarray[Any, np.dtype[np.int64]]

_STEP: Final = 4096
_NUMPY: Final = {"H": "<u2", "I": "<u4"}
_FIELDS: Final = np.dtype([(name, _NUMPY.get(code, ROOT_FIELDS)) for name, code in CORE])
"""The first 128 bytes of an inode."""
_FULL_EXTRA: Final = 16
"""Least extra size with which an inode has its second checksum half and its access time's extra field."""


def related(lower: OnDisk, upper: OnDisk) -> bool:
    """Whether both are states of one file system, so that their inode numbers can be compared."""
    return (
        bytes(lower.super.uuid) == bytes(upper.super.uuid)
        and lower.block_size == upper.block_size
        and lower.inode_size == upper.inode_size
        and lower.inodes_per_group == upper.inodes_per_group
    )


def changed_inodes(lower: OnDisk, upper: OnDisk, ranges: Ranges | None) -> set[int]:
    """Numbers of all inodes in use that differ in anything but their access time and checksum.

    With *ranges*, only tables in them are read, and files with blocks in them count as changed too.
    """
    found: set[int] = set()
    claims = Claims(upper)
    for group in range(len(upper.tables)):
        before = group * upper.inodes_per_group + 1
        used = upper.inodes_used[group]
        common = min(used, lower.inodes_used[group]) if group < len(lower.tables) else 0
        found.update(range(before + common, before + used))
        for first, count in _suspects(lower, upper, group, common, ranges):
            old = _table(lower, group, first, count)
            new = _table(upper, group, first, count)
            found.update((np.flatnonzero(_differ(old, new)) + (before + first)).tolist())
        if ranges is not None:
            for first in range(0, used, _STEP):
                count = min(_STEP, used - first)
                found.update(
                    _touched(upper, before + first, _table(upper, group, first, count), ranges, claims)
                )
    return found


def _suspects(
    lower: OnDisk, upper: OnDisk, group: int, used: int, ranges: Ranges | None
) -> Iterator[tuple[int, int]]:
    """(first index, count) of the parts of a group's table that may differ."""
    size = upper.inode_size
    parts = [(0, used)] if used else []
    if used and ranges is not None and lower.tables[group] == upper.tables[group]:
        start = upper.tables[group] * upper.block_size
        parts = [
            ((a - start) // size, -(-(b - start) // size))
            for a, b in ranges.inside(start, start + used * size)
        ]
    for first, end in parts:
        for at in range(first, end, _STEP):
            yield at, min(_STEP, end - at)


def _table(disk: OnDisk, group: int, first: int, count: int) -> Bytes:
    start = disk.tables[group] * disk.block_size + first * disk.inode_size
    data = disk.device.read(start, count * disk.inode_size)
    return np.frombuffer(data, dtype=np.uint8).reshape(count, disk.inode_size)


def _differ(old: Bytes, new: Bytes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    unequal = old != new
    unequal[:, 8:12] = False  # access time
    unequal[:, CHECKSUM_LOW : CHECKSUM_LOW + 2] = False  # checksum
    if old.shape[1] > 128:
        full = (old[:, 128] >= _FULL_EXTRA) & (new[:, 128] >= _FULL_EXTRA)
        unequal[full, CHECKSUM_HIGH : CHECKSUM_HIGH + 2] = False
        unequal[full, 140:144] = False
    result: np.ndarray[Any, np.dtype[np.bool_]] = unequal.any(axis=1)
    return result


def _touched(disk: OnDisk, number: int, table: Bytes, ranges: Ranges, claims: Claims) -> list[int]:
    """Numbers of the inodes in *table* (from *number* on) with data or attributes in *ranges*."""
    size = disk.block_size
    inodes = np.ascontiguousarray(table[:, : _FIELDS.itemsize]).view(_FIELDS)[:, 0]
    flags, kind = inodes["flags"], inodes["mode"] & S_IFMT
    in_use = (inodes["links"] > 0) & (inodes["mode"] != 0)
    with_blocks = (kind == S_IFREG) | (kind == S_IFDIR) | ((kind == S_IFLNK) & (inodes["sectors"] > 0))
    with_blocks &= in_use & (flags & INLINE_DATA_FL == 0)
    touched = np.zeros(len(table), dtype=np.bool_)

    acl = _joined(inodes["acl"], inodes["acl_high"])
    touched |= in_use & (acl > 0) & ranges.overlap(acl * size, (acl + 1) * size)

    root = inodes["block"]
    flat = with_blocks & (flags & EXTENTS_FL != 0) & (root["magic"] == MAGIC) & (root["depth"] == 0)
    for number_there in range(root["extents"].shape[1]):
        extent = root["extents"][:, number_there]
        length = extent["length"].astype(np.int64)
        length = np.where(length > MAX_LENGTH, length - MAX_LENGTH, length)
        start = _joined(extent["low"], extent["high"])
        overlap = ranges.overlap(start * size, (start + length) * size)
        touched |= flat & (root["count"] > number_there) & overlap

    for index in np.flatnonzero(with_blocks & ~flat & ~touched).tolist():
        inode = disk.inode(number + index)
        if inode.short_target:
            continue
        runs, nodes = found = block_map(disk, inode)
        claims.add(inode.number, found)
        starts = np.array([run.physical for run in runs] + nodes, dtype=np.int64)
        lengths = np.array([run.length for run in runs] + [1] * len(nodes), dtype=np.int64)
        touched[index] = bool(ranges.overlap(starts * size, (starts + lengths) * size).any())
    return [number + int(index) for index in np.flatnonzero(touched)]


def _joined(low: np.ndarray[Any, Any], high: np.ndarray[Any, Any]) -> Numbers:
    """Block numbers from their lower 32 and their higher bits."""
    joined: Numbers = low.astype(np.int64) | high.astype(np.int64) << 32
    return joined
