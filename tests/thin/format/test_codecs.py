# SPDX-License-Identifier: Apache-2.0
"""The codecs of metadata blocks: what is packed comes back, and equals what the kernel wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.errors import CorruptError, UnsupportedError
from lamella.thin.format import checksum, node, space_map, superblock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_crc32c_is_the_raw_form() -> None:
    # The usual crc32c of "123456789" is 0xe3069283; the kernel stores it uninverted.
    assert checksum.crc32c(b"123456789") == 0xE3069283 ^ 0xFFFFFFFF


def test_seal_and_verify_one_and_many() -> None:
    rows = np.arange(3 * 4096, dtype=np.uint32).astype(np.uint8).reshape(3, 4096)
    checksum.seal_many(rows, checksum.BITMAP_XOR)
    assert checksum.verify_many(rows, checksum.BITMAP_XOR).all()
    assert not checksum.verify_many(rows, checksum.NODE_XOR).any()
    single = bytearray(rows[1].tobytes())
    single[:4] = bytes(4)
    checksum.seal(single, checksum.BITMAP_XOR)
    assert bytes(single) == rows[1].tobytes()
    rows[2, 4095] ^= 1
    assert checksum.verify_many(rows, checksum.BITMAP_XOR).tolist() == [True, True, False]


@pytest.mark.parametrize(("value_size", "expected"), [(8, 252), (24, 126), (16, 168), (4, 336)])
def test_max_entries(value_size: int, expected: int) -> None:
    assert node.max_entries(value_size) == expected


@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=252), min_size=1, max_size=5),
    st.sampled_from([node.LEAF, node.INTERNAL]),
)
@settings(max_examples=50)
def test_nodes_come_back(contents: list[list[int]], flags: int) -> None:
    counts = np.array([len(entries) for entries in contents], dtype=np.int64)
    keys = np.array([key for entries in contents for key in entries], dtype=np.uint64)
    values = keys[::-1].copy()
    places = np.arange(7, 7 + len(contents), dtype=np.uint64)
    blocks = node.pack_nodes(keys, values, counts, places, flags=flags)
    assert checksum.verify_many(blocks, checksum.NODE_XOR).all()
    assert (node.headers(blocks)["blocknr"] == places).all()
    again = node.unpack_nodes(blocks, node.MAPPING)
    assert again[0].tolist() == counts.tolist()
    assert (again[1] == keys).all()
    assert (again[2] == values).all()


def test_nodes_of_different_shapes_are_unpacked_together() -> None:
    def one(limit: int, entries: int) -> np.ndarray:
        row = np.zeros((1, 4096), dtype=np.uint8)
        head = node.headers(row)
        head["nr_entries"], head["max_entries"] = entries, limit
        keys, values = node.entry_views(row, limit, node.MAPPING)
        keys[0, :entries] = np.arange(entries)
        values[0, :entries] = np.arange(entries) + 1000
        return row

    counts, keys, values = node.unpack_nodes(
        np.concatenate([one(252, 3), one(9, 2), one(252, 1)]), node.MAPPING
    )
    assert counts.tolist() == [3, 2, 1]
    assert keys.tolist() == [0, 1, 2, 0, 1, 0]
    assert values.tolist() == [1000, 1001, 1002, 1000, 1001, 1000]


def test_a_node_that_claims_too_much_is_cut_to_the_block() -> None:
    row = np.full((1, 4096), 0xFF, dtype=np.uint8)
    counts, keys, _ = node.unpack_nodes(row, node.MAPPING)
    assert counts.tolist() == [254]
    assert len(keys) == 254


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(0, 16119))
@settings(max_examples=50)
def test_bitmaps_come_back(some: list[int], start: int) -> None:
    counts = np.zeros((2, space_map.ENTRIES_PER_BITMAP), dtype=np.uint8)
    counts[1, start : start + len(some)] = some
    blocks = space_map.pack_bitmaps(counts, np.array([5, 6], dtype=np.uint64))
    assert checksum.verify_many(blocks, checksum.BITMAP_XOR).all()
    assert space_map.block_numbers(blocks).tolist() == [5, 6]
    assert (space_map.unpack_bitmaps(blocks) == counts).all()


def test_the_high_bit_of_a_pair_comes_first() -> None:
    counts = np.zeros((1, space_map.ENTRIES_PER_BITMAP), dtype=np.uint8)
    counts[0, :4] = [1, 2, 3, 0]
    block = space_map.pack_bitmaps(counts, np.array([1], dtype=np.uint64))
    # Bit 2b is the high bit, so a count of 1 is the pair 0b10 and a count of 2 the pair 0b01.
    assert block[0, 16] == 0b00_11_01_10


def test_metadata_index_comes_back() -> None:
    entries = np.zeros(3, dtype=space_map.INDEX_ENTRY)
    entries["blocknr"], entries["nr_free"], entries["none_free_before"] = [9, 8, 7], [1, 2, 3], [4, 5, 6]
    block = space_map.pack_metadata_index(entries, 77)
    again = space_map.unpack_metadata_index(block)
    assert (again[:3] == entries).all()
    assert not again[3:]["blocknr"].any()
    assert int.from_bytes(block[8:16], "little") == 77


@pytest.mark.parametrize("which", ["clean", "held"])
def test_the_kernels_superblock_is_packed_alike(fixture_dir: Callable[[str], Path], which: str) -> None:
    content = (fixture_dir("thin-a.tar.zst") / "thin-a" / which / "meta.bin").read_bytes()
    fields = superblock.unpack(content[:4096], name="it")
    assert fields.pack() == content[:4096]
    assert fields.transaction_id == 7
    if which == "held":
        block = fields.held_root
        copy = content[block * 4096 : (block + 1) * 4096]
        assert superblock.unpack(copy, name="it", location=block).pack() == copy


def test_the_kernels_nodes_are_packed_alike(fixture_dir: Callable[[str], Path]) -> None:
    content = (fixture_dir("thin-c.tar.zst") / "thin-c/clean/meta.bin").read_bytes()
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, 4096)
    shapes = {8: node.MAPPING, 24: node.DEVICE_DETAILS, 16: space_map.INDEX_ENTRY, 4: space_map.REF_COUNT}
    found = np.flatnonzero(checksum.verify_many(rows, checksum.NODE_XOR))
    assert len(found) > 1000
    for block in found.tolist():
        head = node.headers(rows[block : block + 1])[0]
        counts, keys, values = node.unpack_nodes(rows[block : block + 1], shapes[int(head["value_size"])])
        again = node.pack_nodes(keys, values, counts, np.array([block]), flags=int(head["flags"]))
        for before, after in zip(node.unpack_nodes(again, values.dtype)[1:], (keys, values), strict=True):
            assert (before == after).all()
        assert again[0, 4:32].tobytes() == rows[block, 4:32].tobytes()


def _sample(**changes: int) -> bytes:
    root = space_map.SpaceMapRoot(10, 5, 3, 4)
    fields = superblock.Superblock(root, root, mapping_root=1, details_root=2, data_block_size=128)
    for name, value in changes.items():
        setattr(fields, name, value)
    return fields.pack()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"magic": 1}, "magic is 1, wanted 27022010"),
        ({"blocknr": 3}, "it has the number of block 3"),
        ({"data_block_size": 0}, "data blocks of 0 sectors"),
    ],
)
def test_a_wrong_superblock_is_refused_with_the_reason(changes: dict[str, int], reason: str) -> None:
    with pytest.raises(CorruptError, match="superblock of pool0") as caught:
        superblock.unpack(_sample(**changes), name="pool0")
    assert reason in str(caught.value)


@pytest.mark.parametrize("changes", [{"version": 9}, {"flags": 0x80000004}, {"metadata_block_size": 16}])
def test_what_the_kernel_does_not_look_at_is_kept(changes: dict[str, int]) -> None:
    """``sb_check`` and ``__open_metadata`` of dm-thin-metadata.c read none of these but one flag."""
    fields = superblock.unpack(_sample(**changes), name="pool0")
    assert {key: getattr(fields, key) for key in changes} == changes
    assert superblock.decode(fields.pack()) == fields


def test_a_damaged_superblock_tells_its_checksum_only() -> None:
    block = bytearray(_sample())
    block[32] ^= 1
    with pytest.raises(CorruptError, match="bad checksum in superblock"):
        superblock.unpack(bytes(block), name="pool0")
    with pytest.raises(CorruptError, match="only 100 bytes"):
        superblock.unpack(bytes(block[:100]), name="pool0")


def test_unknown_features_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="0x2"):
        superblock.unpack(_sample(incompat_flags=2), name="pool0", read_only=True)
    with pytest.raises(UnsupportedError, match="reading only"):
        superblock.unpack(_sample(compat_ro_flags=1), name="pool0")
    assert superblock.unpack(_sample(compat_ro_flags=1), name="pool0", read_only=True).compat_ro_flags == 1
    assert superblock.unpack(_sample(compat_flags=9), name="pool0").compat_flags == 9
