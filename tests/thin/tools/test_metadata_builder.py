# SPDX-License-Identifier: Apache-2.0
"""Metadata built step by step: which blocks are taken, what is counted, and in which order it is written.

What was built is read by :class:`lamella.thin.metadata.reader.Metadata` and checked, counts included. How
many entries a node holds is the kernel's ``calc_max_entries``: 252 of 8 bytes, 126 of 24, 336 of 4, 168 of
16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lamella.block import MemoryDevice
from lamella.errors import NoSpaceError, UsageError
from lamella.thin.format import superblock as superblock_format
from lamella.thin.format.details import DeviceDetails
from lamella.thin.format.node import INTERNAL, LEAF, MAPPING, headers, unpack_nodes
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools import metadata_builder
from lamella.thin.tools.check import check
from lamella.thin.tools.header import Header
from lamella.thin.tools.metadata_builder import MetadataBuilder, blocks_needed, nodes_needed
from tests.support.failing import NowhereDevice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lamella.block import BlockDevice

HEADER = Header(3, 5, 0, 2, 128, 1000)
NOTHING = np.empty(0, dtype=np.uint64)


class Recorder(MemoryDevice):
    """Memory that notes what is done to it: "flush", and (first block, blocks) of each write."""

    def __init__(self, size: int) -> None:
        super().__init__(size, name="target")
        self.done: list[Any] = []

    def write(self, offset: int, data: Any) -> None:
        super().write(offset, data)
        assert offset % 4096 == 0
        self.done.append((offset // 4096, memoryview(data).nbytes // 4096))

    def flush(self) -> None:
        self.done.append("flush")


def numbers(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.uint64)


def counts(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.int64)


def values(blocks: Iterable[int], time: int = 1) -> np.ndarray[Any, Any]:
    return np.array([block << 24 | time for block in blocks], dtype=np.uint64)


def builder(target: BlockDevice | int = 64, data: int = 1000) -> Any:
    device = Recorder(target * 4096) if isinstance(target, int) else target
    return MetadataBuilder(device, data, action="restore it")


def leaf(made: Any, keys: Iterable[int], blocks: Iterable[int], *, sure: bool = True) -> int:
    chunks = list(keys)
    [block] = made.add_leaves(numbers(*chunks), values(blocks), counts(len(chunks)), sure=sure)
    return int(block)


def finish(made: Any, roots: Mapping[int, int], *, mapped: Mapping[int, int] | None = None) -> int:
    """Finish with devices at *roots*, which map as many chunks as *mapped* says; and check it all."""
    details = {dev_id: DeviceDetails((mapped or {}).get(dev_id, 0), 1, 2, 3) for dev_id in roots}
    used: int = made.finish(HEADER, details, roots)
    report = check(made.target)
    assert [str(problem) for problem in report.problems] == []
    assert report.complete
    assert report.metadata_leaks == report.data_leaks == 0
    assert Metadata.open(made.target).details == details
    return used


def mappings(device: BlockDevice, dev_id: int) -> dict[int, int]:
    keys, found = Metadata.open(device).mappings(dev_id)
    return {int(key): int(value) >> 24 for key, value in zip(keys, found, strict=True)}


def data_counts(made: Any, first: int, last: int) -> list[int]:
    counts: list[int] = made._data.counts(first, last).tolist()
    return counts


# -- the beginning ---------------------------------------------------------------------------------


def test_a_target_has_room_for_a_superblock() -> None:
    with pytest.raises(NoSpaceError, match="cannot restore it: target has no room for a superblock"):
        builder(Recorder(4095))
    assert builder(Recorder(4096)).nr_blocks == 1
    assert builder(Recorder(3 * 4096 - 1)).nr_blocks == 2
    assert builder(NowhereDevice(17 << 30)).nr_blocks == 255 * 16320, "more no metadata has"


@pytest.mark.parametrize(("more", "good"), [(0, True), (1, False)])
def test_more_data_than_metadata_can_count(more: int, good: bool) -> None:
    most = 255 * 16320 * 16320
    if good:
        assert builder(data=most).nr_data_blocks == most
        return
    with pytest.raises(
        UsageError, match=f"cannot restore it: no metadata can describe {most + 1} data blocks"
    ):
        builder(data=most + more)


def test_how_a_builder_begins() -> None:
    made = builder(4)
    assert (made.mappings, made.overflowed, made.target.done) == (0, False, [])
    assert made._references.tolist() == [1, 0, 0, 0], "the superblock"
    assert made._memory.shape == (4, 4096)
    assert made._memory.dtype == np.uint8
    assert not made._memory.any()


def test_blocks_are_taken_from_the_first_on() -> None:
    made = builder(8)
    taken = made.take(3)
    assert (taken.tolist(), taken.dtype) == ([1, 2, 3], np.uint64)
    assert made.take(4).tolist() == [4, 5, 6, 7]
    assert made.overflowed is False
    assert made.take(1).tolist() == [8]
    assert made.overflowed is True


# -- nodes -----------------------------------------------------------------------------------------


def test_leaves_are_what_was_put_in() -> None:
    made = builder()
    blocks = made.add_leaves(numbers(1, 5, 9), values((7, 8, 7)), counts(1, 2))
    assert (blocks.tolist(), made.mappings) == ([1, 2], 3)
    assert data_counts(made, 6, 10) == [0, 2, 1, 0]
    keys, found = made.read_leaves(numbers(2, 1))
    assert keys.tolist() == [5, 9, 1]
    assert found.tolist() == values((8, 7, 7)).tolist()
    head = headers(made._memory[1:3])
    assert head["flags"].tolist() == [LEAF, LEAF]
    assert head["blocknr"].tolist() == [1, 2]
    assert (head["value_size"].tolist(), head["max_entries"].tolist()) == ([8, 8], [252, 252])


def test_there_is_one_empty_leaf() -> None:
    made = builder()
    first = made.empty_leaf()
    assert isinstance(first, int)
    leaf(made, [1], [2])
    assert made.empty_leaf() == first == 1
    assert (made.mappings, made._next) == (1, 3)
    assert [part.tolist() for part in made.read_leaves(numbers(1, 2))] == [[1], [2 << 24 | 1]]
    assert headers(made._memory[1:2])["nr_entries"].tolist() == [0]
    assert headers(made._memory[1:2])["flags"].tolist() == [LEAF]
    other = builder()
    root = other.empty_leaf()
    finish(other, {1: root, 2: other.empty_leaf()})
    assert mappings(other.target, 1) == mappings(other.target, 2) == {}


def test_internal_nodes_count_their_children() -> None:
    made = builder()
    children = made.add_leaves(numbers(0, 5, 9), values((7, 8, 9)), counts(1, 1, 1))
    nodes = made.add_internal(numbers(0, 5, 9), children, counts(2, 1), shared=False)
    assert nodes.tolist() == [4, 5]
    again = made.add_internal(numbers(0, 5), children[:2], counts(2), shared=False)
    assert again.tolist() == [6], "not shared: another node"
    assert made._references[:7].tolist() == [1, 2, 2, 1, 0, 0, 0]
    made._pack()
    assert headers(made._memory[4:7])["flags"].tolist() == [INTERNAL] * 3
    sizes, keys, found = unpack_nodes(made._memory[4:7], MAPPING)
    assert (sizes.tolist(), keys.tolist(), found.tolist()) == ([2, 1, 2], [0, 5, 9, 0, 5], [1, 2, 3, 1, 2])


def test_shared_internal_nodes_are_made_once() -> None:
    made = builder()
    children = made.add_leaves(numbers(0, 5, 9, 12), values((1, 2, 3, 4)), counts(1, 1, 1, 1))
    keys = numbers(0, 5, 9, 12)
    first = made.add_internal(keys[:3], children[:3], counts(2, 1), shared=True)
    assert first.tolist() == [5, 6]
    second = made.add_internal(keys, children, counts(2, 2), shared=True)
    assert (second.tolist(), second.dtype) == ([5, 7], np.uint64)
    assert made.add_internal(keys[:2], children[:2], counts(2), shared=True).tolist() == [5]
    assert made._references[:8].tolist() == [1, 1, 1, 2, 1, 0, 0, 0], "one for each node"
    made._pack()
    sizes, found_keys, found = unpack_nodes(made._memory[5:8], MAPPING)
    assert (sizes.tolist(), found_keys.tolist()) == ([2, 1, 2], [0, 5, 9, 9, 12])
    assert found.tolist() == [1, 2, 3, 3, 4]
    swapped = made.add_internal(numbers(0, 5, 9), children[[2, 0, 1]], counts(1, 2), shared=True)
    assert swapped.tolist() == [6, 5], "wherever they come"
    mixed = made.add_internal(numbers(9, 12, 0, 5), children[[3, 3, 0, 1]], counts(2, 2), shared=True)
    assert mixed.tolist() == [8, 5]


def test_references_are_counted_as_often_as_they_come() -> None:
    made = builder(4)
    made.refer(numbers(2, 1, 2, 2, 4, 100, 1 << 40))  # the last three are past the end
    assert made._references.tolist() == [1, 1, 3, 0]
    made.refer(numbers(3))
    made.refer(NOTHING)
    assert made._references.tolist() == [1, 1, 3, 1]


@pytest.mark.parametrize("at_once", [1, 2, 3, 1024])
def test_nodes_are_packed_some_at_a_time(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(metadata_builder, "NODES_AT_ONCE", at_once)
    made = builder()
    sizes = (2, 1, 0, 3, 1)
    blocks = made.add_leaves(numbers(*range(7)), values(range(10, 17)), counts(*sizes))
    inner = made.add_internal(numbers(0, 2, 4), blocks[:3], counts(3), shared=False)
    waiting = {1: 0, 2: 1, 3: 1, 1024: 6}[at_once]
    assert (made._queued, sum(len(each[3]) for each in made._queue)) == (waiting, waiting)
    made._pack()
    assert (made._queue, made._queued) == ([], 0)
    found, keys, mapped = unpack_nodes(made._memory[1:7], MAPPING)
    assert found.tolist() == [*sizes, 3]
    assert keys.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 2, 4]
    assert mapped.tolist() == [*values(range(10, 17)).tolist(), 1, 2, 3]
    assert headers(made._memory[1:7])["flags"].tolist() == [LEAF] * 5 + [INTERNAL]
    assert inner.tolist() == [6]
    made._pack()
    assert made.target.done == []


@pytest.mark.parametrize("in_memory", [1, 3, 4, 100])
def test_what_does_not_fit_in_memory_is_written(monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    """The old superblock is made unusable before anything else, once, and made durable."""
    monkeypatch.setattr(metadata_builder, "BLOCKS_IN_MEMORY", in_memory)
    monkeypatch.setattr(metadata_builder, "NODES_AT_ONCE", 1)
    made = builder()
    made.target.content[:4096] = b"old!" * 1024
    first = made.add_leaves(numbers(*range(200)), values(range(10, 210)), counts(100, 100))
    second = made.add_leaves(numbers(*range(200, 400)), values(range(210, 410)), counts(100, 100))
    blocks = np.concatenate([first, second])
    keys, found = made.read_leaves(blocks[::-1])
    assert keys[::100].tolist() == [300, 200, 100, 0]
    assert found[::100].tolist() == values((310, 210, 110, 10)).tolist()
    written = [block for block in range(1, 5) if block >= in_memory]
    singly = [(block, 1) for block in written]
    assert made.target.done == ([(0, 1), "flush", *singly] if written else [])
    assert made.target.read(0, 4096)[:8] == (b"Metadata" if written else b"old!old!")
    root = made.add_internal(numbers(0, 100, 200, 300), blocks, counts(4), shared=False)
    used = finish(made, {1: int(root[0])}, mapped={1: 400})
    assert mappings(made.target, 1) == {chunk: 10 + chunk for chunk in range(400)}
    assert made.target.done[-3:] == ["flush", (0, 1), "flush"]
    assert made.target.done.count((0, 1)) == 2
    assert made.target.done[:2] == [(0, 1), "flush"]
    writes = [each for each in made.target.done if each != "flush"]
    touched = {start + number for start, count in writes for number in range(count)}
    assert touched == set(range(used)), "every block, and no other"


def test_an_unfinished_superblock_is_no_superblock() -> None:
    made = builder()
    made._invalidate()
    made._invalidate()
    assert made.target.done == [(0, 1), "flush"]
    block = made.target.read(0, 4096)
    assert block == b"Metadata being restored by Lamella; unfinished, and not usable.\n".ljust(4096, b"\0")
    assert superblock_format.faults(block) == ["bad checksum in superblock"]


@pytest.mark.parametrize("in_memory", [2, 65536])
def test_what_overflows_is_counted_and_not_kept(monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    monkeypatch.setattr(metadata_builder, "BLOCKS_IN_MEMORY", in_memory)
    monkeypatch.setattr(metadata_builder, "NODES_AT_ONCE", 1)
    made = builder(3)
    made.add_leaves(numbers(0, 1), values((10, 11)), counts(1, 1))
    kept, done = made._memory.copy(), list(made.target.done)
    assert made.add_leaves(numbers(2), values((12,)), counts(1)).tolist() == [3]
    assert made.overflowed
    made._put(numbers(1), np.ones((1, 4096), dtype=np.uint8))
    assert (made._memory == kept).all()
    assert (made.target.done, made._queue) == (done, [])
    keys, found = made.read_leaves(numbers(3))
    assert (len(keys), len(found), keys.dtype, found.dtype) == (0, 0, np.uint64, np.uint64)
    assert made.mappings == 3


# -- leaves that may not be referred to --------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 1024])
def test_unsure_leaves_count_only_where_they_are_referred_to(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(metadata_builder, "NODES_AT_ONCE", at_once)
    made = builder()
    sure = leaf(made, [0], [10])
    used = [leaf(made, [number], [10 + number], sure=False) for number in range(1, 4)]
    leaf(made, [9], [20], sure=False)
    assert (data_counts(made, 10, 11), made.mappings) == ([1], 5)
    made._data = type(made._data)()
    made._data.add(numbers(10), 1000)
    made.refer(numbers(used[0], used[1], used[1], used[2]))
    made._count_leaves()
    assert data_counts(made, 9, 21) == [0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert sure == 1


def test_an_unsure_leaf_that_two_devices_have() -> None:
    made = builder()
    shared = leaf(made, [3, 4], [7, 7], sure=False)
    assert finish(made, {1: shared, 2: shared}, mapped={1: 2, 2: 2}) == made._next
    assert mappings(made.target, 1) == mappings(made.target, 2) == {3: 7, 4: 7}


def test_of_a_full_target_no_leaf_is_counted() -> None:
    made = builder(2)
    leaf(made, [3], [7], sure=False)
    leaf(made, [3], [7], sure=False)
    made._count_leaves()
    assert data_counts(made, 7, 8) == [0]


# -- the end ---------------------------------------------------------------------------------------


def test_metadata_without_devices() -> None:
    made = builder()
    assert finish(made, {}) == 9  # superblock, two lists, and six for the space maps
    assert check(made.target).devices == {}


def test_everything_that_a_header_says_is_in_the_superblock() -> None:
    made = builder(Recorder(70 * 4096 + 100), data=777)
    root = leaf(made, [5], [6])
    made.finish(
        Header(9, 1 << 40, 1, 2, 256, 4), {3: DeviceDetails(1, 2, 3, 4), 1: DeviceDetails(0, 5, 6, 7)},
        {3: root, 1: made.empty_leaf()},
    )  # fmt: skip
    fields = superblock_format.unpack(made.target.read(0, 4096), name="x")
    assert (fields.time, fields.transaction_id, fields.flags) == (9, 1 << 40, 1)
    assert (fields.data_block_size, fields.metadata_nr_blocks, fields.held_root) == (256, 70, 0)
    assert (fields.data_sm_root.nr_blocks, fields.data_sm_root.nr_allocated) == (777, 1)
    assert fields.metadata_sm_root.nr_blocks == 70
    found = Metadata.open(made.target)
    assert found.details == {1: (0, 5, 6, 7), 3: (1, 2, 3, 4)}
    assert found.roots == {1: made.empty_leaf(), 3: root}
    assert mappings(made.target, 3) == {5: 6}
    report = check(made.target)
    assert report.metadata_leaks == report.data_leaks == 0


def test_nothing_is_written_before_the_end_and_the_superblock_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_builder, "WRITE_SIZE", 4)
    made = builder()
    root = leaf(made, [5], [6])
    made._pack()
    assert made.target.done == []
    used = finish(made, {1: root}, mapped={1: 1})
    assert used == 10
    assert made.target.done == [(0, 1), "flush", (1, 4), (5, 4), (9, 1), "flush", (0, 1), "flush"]
    assert made.target.read(10 * 4096, 54 * 4096) == bytes(54 * 4096)


def test_many_devices_make_lists_of_several_nodes() -> None:
    made = builder(64)
    roots = {number * 3: made.empty_leaf() for number in range(300)}
    finish(made, dict(reversed(roots.items())))
    assert Metadata.open(made.target).roots == roots


@pytest.mark.parametrize(("blocks", "fits"), [(9, True), (8, False), (5, False), (3, False), (2, False)])
def test_a_target_that_is_just_large_enough(blocks: int, fits: bool) -> None:
    made = builder(blocks)
    if fits:
        finish(made, {})
        return
    made.target.content[:] = b"\xaa" * len(made.target.content)
    before = bytes(made.target.content)
    with pytest.raises(NoSpaceError) as caught:
        made.finish(HEADER, {}, {})
    assert "target is too small: it has" in caught.value.message
    assert (made.target.done, made.target.content) == ([], before)


def test_a_refusal_names_the_size_that_is_needed() -> None:
    made = builder(2)
    made.mappings = 30
    leaf(made, [1], [2])
    with pytest.raises(NoSpaceError) as caught:
        made.refuse(7)
    needed = blocks_needed(3 + 7, 31, 1000)
    assert caught.value.message == (
        f"cannot restore it: target is too small: it has 8192 bytes, and {needed * 4096} are needed"
    )
    assert caught.value.hint == "make it at least 1 MiB"
    made = builder(2)
    made.take(1000)
    with pytest.raises(NoSpaceError) as caught:
        made.refuse(0)
    needed = blocks_needed(1001, 0, 1000)
    assert f"and {needed * 4096} are needed" in caught.value.message
    assert caught.value.hint == "make it at least 4 MiB"
    made = builder(2)
    made.take(255 * 16320)
    with pytest.raises(NoSpaceError, match="metadata blocks are needed, more than a pool can have"):
        made.refuse(0)


@pytest.mark.parametrize(("more", "words"), [(0, "is too small"), (1, "more than a pool can have")])
def test_as_many_blocks_as_a_pool_can_have(monkeypatch: pytest.MonkeyPatch, more: int, words: str) -> None:
    monkeypatch.setattr(metadata_builder, "blocks_needed", lambda *_: 255 * 16320 + more)
    with pytest.raises(NoSpaceError, match=words):
        builder(2).refuse(0)


def test_a_list_that_does_not_fit_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = builder(12)
    roots = {number: made.empty_leaf() for number in range(2000)}
    with pytest.raises(NoSpaceError) as caught:
        made.finish(HEADER, {number: DeviceDetails(0, 0, 0, 0) for number in roots}, roots)
    assert made.target.done == []
    assert made._next == 1 + 1 + 17 + 9, "the superblock, the leaf, and the lists with their roots"
    assert f"and {blocks_needed(28, 0, 1000) * 4096} are needed" in caught.value.message
    made = builder(4)  # the space maps do not fit
    with pytest.raises(NoSpaceError) as caught:
        made.finish(HEADER, {}, {})
    assert f"and {blocks_needed(made._next, 0, 1000) * 4096} are needed" in caught.value.message


# -- how much is needed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "size", "nodes"),
    [
        (0, 8, 1),
        (1, 8, 1),
        (252, 8, 1),
        (253, 8, 3),
        (252 * 252, 8, 253),
        (252 * 252 + 1, 8, 253 + 2 + 1),
        (126, 24, 1),
        (127, 24, 3),
        (336, 4, 1),
        (337, 4, 3),
        (168, 16, 1),
        (169, 16, 3),
    ],
)
def test_nodes_of_a_tree(entries: int, size: int, nodes: int) -> None:
    assert nodes_needed(entries, size) == nodes


@pytest.mark.parametrize(
    ("used", "mappings", "data", "needed"),
    [
        # used, bitmaps, their tree, both overflow trees, the index; and bitmaps of all that, one to spare
        (10, 0, 0, 10 + 0 + 1 + 1 + 1 + 1 + 2),
        (10, 0, 16320, 10 + 1 + 1 + 1 + 1 + 1 + 2),
        (10, 0, 16321, 10 + 2 + 1 + 1 + 1 + 1 + 2),
        (10, 0, 16320 * 169, 10 + 169 + 3 + 1 + 1 + 1 + 2),
        (10, 3 * 336 + 2, 16320, 10 + 1 + 1 + 1 + 1 + 1 + 2),
        (10, 3 * 337, 16320, 10 + 1 + 1 + 3 + 1 + 1 + 2),
        (10, 10**6, 336, 10 + 1 + 1 + 1 + 1 + 1 + 2),
        (10, 10**6, 337, 10 + 1 + 1 + 3 + 1 + 1 + 2),
        (337, 0, 1, 337 + 1 + 1 + 1 + 3 + 1 + 2),
        (16319 - 54, 0, 1, 16319 - 54 + 1 + 1 + 1 + 50 + 1 + 2),
        (16319 - 53, 0, 1, 16319 - 53 + 1 + 1 + 1 + 50 + 1 + 3),
    ],
)
def test_blocks_that_suffice(used: int, mappings: int, data: int, needed: int) -> None:
    assert blocks_needed(used, mappings, data) == needed


def test_what_is_asked_for_suffices() -> None:
    """Each data block thrice: the most entries that an overflow tree can come to."""
    chunks = list(range(252))

    def build(blocks: int) -> Any:
        made = builder(blocks)
        roots = {dev_id: leaf(made, chunks, chunks) for dev_id in range(1, 4)}
        return made, roots

    made, roots = build(6)
    with pytest.raises(NoSpaceError) as caught:
        made.finish(HEADER, {dev_id: DeviceDetails(252, 0, 0, 0) for dev_id in roots}, roots)
    size = int(caught.value.message.split(" bytes, and ")[1].split()[0])
    made, roots = build(size // 4096)
    finish(made, roots, mapped=dict.fromkeys(roots, 252))
