# SPDX-License-Identifier: Apache-2.0
"""Trees of any depth come back whole; wrong ones are told, and never make the reader run in circles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.block import MemoryDevice
from lamella.errors import CorruptError, DeviceIOError
from lamella.thin.format.btree_builder import build_tree
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.format.node import DEVICE_DETAILS, INTERNAL, LEAF, MAPPING, pack_nodes
from lamella.thin.metadata.block_reader import BlockReader
from lamella.thin.metadata.btree import Forest, read_tree
from lamella.thin.metadata.findings import Problems


class Image:
    """A small metadata device with trees in it."""

    def __init__(self, blocks: int = 2048) -> None:
        self.device = MemoryDevice(blocks * BLOCK_SIZE)
        self.next = 1

    def take(self, count: int) -> np.ndarray:
        self.next += count
        return np.arange(self.next - count, self.next, dtype=np.uint64)

    def put(self, blocks: np.ndarray, rows: np.ndarray) -> None:
        self.device.write_many(
            (int(block) * BLOCK_SIZE, row.tobytes()) for block, row in zip(blocks, rows, strict=True)
        )

    def tree(self, keys: np.ndarray, values: np.ndarray) -> int:
        root, levels = build_tree(keys, values, self.take)
        for blocks, rows in levels:
            self.put(blocks, rows)
        return root

    def node(self, entries: list[tuple[int, int]], *, flags: int = LEAF, block: int | None = None) -> int:
        place = np.array([block], dtype=np.uint64) if block is not None else self.take(1)
        keys = np.array([key for key, _ in entries], dtype=np.uint64)
        values = np.array([value for _, value in entries], dtype=MAPPING)
        self.put(place, pack_nodes(keys, values, np.array([len(entries)]), place, flags=flags))
        return int(place[0])

    def look(self, *roots: int) -> tuple[Forest, Problems]:
        problems = Problems()
        forest = Forest(BlockReader(self.device), MAPPING, problems, "tree", keep=True)
        forest.walk(np.array(roots, dtype=np.uint64))
        return forest, problems


def _leaf(first: int, count: int = 100) -> list[tuple[int, int]]:
    return [(key, key << 24) for key in range(first, first + count)]


@given(st.integers(0, 100_000), st.integers(1, 50), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_a_tree_of_any_size_comes_back(count: int, step: int, random: object) -> None:
    image = Image()
    keys = np.arange(count, dtype=np.uint64) * np.uint64(step) + np.uint64(7)
    values = keys[::-1].copy()
    root = image.tree(keys, values)
    got_keys, got_values = read_tree(image.device, root, MAPPING)
    assert (got_keys == keys).all()
    assert (got_values == values).all()
    forest, problems = image.look(root)
    assert not problems.found
    assert int(forest.total[forest.node_of(np.array([root], dtype=np.uint64))[0]]) == count
    assert sorted([root, *forest.references().tolist()]) == list(range(1, image.next))


def test_a_tree_of_details() -> None:
    image = Image()
    values = np.zeros(1000, dtype=DEVICE_DETAILS)
    values["mapped_blocks"] = np.arange(1000)
    root = image.tree(np.arange(1000, dtype=np.uint64) * np.uint64(3), values)
    keys, again = read_tree(image.device, root, DEVICE_DETAILS)
    assert keys[-1] == 2997
    assert (again == values).all()


def test_shared_subtrees_are_read_once() -> None:
    image = Image()
    leaves = [image.node(_leaf(first)) for first in (0, 1000, 2000)]
    own = image.node(_leaf(1000, 90))
    first = image.node([(0, leaves[0]), (1000, leaves[1]), (2000, leaves[2])], flags=INTERNAL)
    second = image.node([(0, leaves[0]), (1000, own), (2000, leaves[2])], flags=INTERNAL)
    forest, problems = image.look(first, second, first, leaves[2])
    assert not problems.fatal_count
    assert len(forest.blocks) == 6
    nodes = forest.node_of(np.array([first, second, leaves[2]], dtype=np.uint64))
    assert [len(forest.entries_of(int(node))[0]) for node in nodes] == [300, 290, 100]
    assert forest.total[nodes].tolist() == [300, 290, 100]
    keys, _ = forest.entries_of(int(nodes[1]))
    assert (np.diff(keys.astype(np.int64)) > 0).all()


def _reasons(problems: Problems) -> str:
    return "\n".join(str(problem) for problem in problems.found)


def test_a_root_below_itself() -> None:
    image = Image()
    root = image.next
    leaf_block = root + 1
    image.node([(0, leaf_block), (500, root)], flags=INTERNAL)
    image.node(_leaf(0))
    forest, problems = image.look(root)
    assert "runs in a circle" in _reasons(problems)
    assert len(forest.entries_of(0)[0]) == 100
    with pytest.raises(CorruptError, match=f"block {root}"):
        read_tree(image.device, root, MAPPING)


def test_two_nodes_pointing_at_each_other() -> None:
    image = Image()
    image.node([(0, 2)], flags=INTERNAL, block=1)
    image.node([(0, 1)], flags=INTERNAL, block=2)
    forest, problems = image.look(1)
    assert problems.fatal_count
    assert len(forest.entries_of(0)[0]) == 0


def test_leaves_at_different_depths() -> None:
    image = Image()
    low = image.node(_leaf(0))
    inner = image.node([(0, low)], flags=INTERNAL)
    high = image.node(_leaf(1000))
    root = image.node([(0, inner), (1000, high)], flags=INTERNAL)
    _, problems = image.look(root)
    assert "uneven" in _reasons(problems)


@pytest.mark.parametrize("child", [2**64 - 1, 2**40, 2048])
def test_a_pointer_outside_the_device(child: int) -> None:
    image = Image()
    root = image.node([(0, image.node(_leaf(0))), (5000, child)], flags=INTERNAL)
    forest, problems = image.look(root)
    assert "points outside" in _reasons(problems)
    assert len(forest.entries_of(int(forest.node_of(np.array([root], dtype=np.uint64))[0]))[0]) == 100
    with pytest.raises(CorruptError, match="outside"):
        read_tree(image.device, child, MAPPING)


def test_a_node_that_would_multiply_itself() -> None:
    """252 pointers to one node, ten levels deep, are 252**10 leaves for a reader that believes them."""
    image = Image()
    below = image.node(_leaf(0, 252))
    for _ in range(10):
        below = image.node([(key, below) for key in range(252)], flags=INTERNAL)
    forest, problems = image.look(below)
    assert "not those its parent expects" in _reasons(problems)
    assert len(forest.entries_of(int(forest.node_of(np.array([below], dtype=np.uint64))[0]))[0]) <= 252


def test_empty_leaves_that_would_multiply() -> None:
    image = Image()
    below = image.node([])
    for _ in range(10):
        below = image.node([(key, below) for key in range(252)], flags=INTERNAL)
    forest, _ = image.look(below)
    assert len(forest.entries_of(int(forest.node_of(np.array([below], dtype=np.uint64))[0]))[0]) == 0


def test_a_tree_without_end() -> None:
    image = Image()
    for block in range(1, 200):
        image.node([(0, block + 1)], flags=INTERNAL, block=block)
    image.node(_leaf(0), block=200)
    _, problems = image.look(1)
    assert "deeper than 64 levels" in _reasons(problems)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([(5, 1), (5, 2)], "keys are not in order"),
        ([(5, 1), (4, 2)], "keys are not in order"),
        ([(0, 0)] * 0, ""),
    ],
)
def test_key_order(entries: list[tuple[int, int]], reason: str) -> None:
    image = Image()
    _, problems = image.look(image.node(entries))
    assert reason in _reasons(problems)
    assert bool(problems.fatal_count) == bool(reason)


def test_thin_nodes_are_reported_but_not_fatal() -> None:
    image = Image()
    root = image.node([(0, image.node(_leaf(0, 83))), (1000, image.node(_leaf(1000, 84)))], flags=INTERNAL)
    _, problems = image.look(root)
    assert problems.fatal_count == 0
    assert problems.other_count == 1
    assert "block 1: the node has less than a third" in _reasons(problems)


def test_blocks_that_the_disk_cannot_read() -> None:
    image = Image()
    leaves = [image.node(_leaf(first)) for first in range(0, 3000, 1000)]
    root = image.node(
        [(first, leaf) for first, leaf in zip(range(0, 3000, 1000), leaves, strict=True)], flags=INTERNAL
    )

    class Bad(MemoryDevice):
        def read_into(self, offset: int, buffer: object) -> None:
            if offset <= leaves[1] * BLOCK_SIZE < offset + memoryview(buffer).nbytes:
                raise DeviceIOError("cannot read it")
            super().read_into(offset, buffer)

        def read(self, offset: int, length: int) -> bytes:
            if offset <= leaves[1] * BLOCK_SIZE < offset + length:
                raise DeviceIOError("cannot read it")
            return super().read(offset, length)

    image.device = Bad(content=bytes(image.device.content))
    forest, problems = image.look(root)
    assert f"block {leaves[1]}: the device cannot read it" in _reasons(problems)
    assert len(forest.entries_of(int(forest.node_of(np.array([root], dtype=np.uint64))[0]))[0]) == 200


def test_the_list_of_problems_stays_short() -> None:
    problems = Problems()
    problems.add_blocks("tree", np.arange(100_000), "bad", fatal=True)
    assert problems.fatal_count == 100_000
    assert len(problems.found) == 21
    assert "99980 more blocks" in str(problems.found[-1])
