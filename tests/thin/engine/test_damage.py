# SPDX-License-Identifier: Apache-2.0
"""Metadata that is wrong but carries right checksums: refused with a Lamella error, whatever is wrong."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

import pytest

from lamella.block import MemoryDevice
from lamella.errors import CorruptError, LamellaError
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.format import superblock
from lamella.thin.format.checksum import BITMAP_XOR, INDEX_XOR, NODE_XOR, SUPERBLOCK_XOR, block_checksum, seal
from lamella.thin.format.node import max_entries
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.restore import restore_xml
from tests.support.failing import NowhereDevice
from tests.thin.metadata_files import change

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CHUNK = 64 << 10
KINDS = (SUPERBLOCK_XOR, NODE_XOR, BITMAP_XOR, INDEX_XOR)


def make() -> bytes:
    """A pool with all that there can be: shared trees, large counts, a held snapshot, two levels."""
    metadata = MemoryDevice(1 << 20, name="metadata")
    with Pool.create(metadata, NowhereDevice(1 << 30), chunk_size=CHUNK) as pool:
        pool.create_thin(1)
        with pool.open_volume(1, 1 << 30) as volume:
            volume.write_many([(at * 3 * CHUNK, b"x") for at in range(600)])
            for dev_id in range(2, 8):
                pool.create_snap(dev_id, 1)
                volume.write(dev_id * 30 * CHUNK, b"y")
        pool.reserve_metadata_snap()
        pool.create_thin(9)
    return bytes(metadata.content)


def use(metadata: MemoryDevice) -> None:
    pool = Pool.open(metadata, NowhereDevice(1 << 30), options=PoolOptions(error_if_no_space=True))
    pool.status()
    for dev_id in pool.devices():
        with pool.open_volume(dev_id, 1 << 30) as volume:
            list(volume.mapped_ranges())
            volume.read(0, 100 * CHUNK)
            volume.write_many([(at * 50 * CHUNK, b"z") for at in range(20)])
            volume.discard(10 * CHUNK, 200 * CHUNK)
            volume.discard(0, 1 << 30)
    list(pool.differing_ranges(1, 4))
    pool.create_snap(100, 1)
    pool.release_metadata_snap()
    pool.commit()
    for dev_id in pool.devices():
        pool.delete(dev_id)
    pool.close()


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_gives_anything_but_our_errors(seed: int) -> None:
    sound = make()
    use(MemoryDevice(content=sound))
    chance = random.Random(seed)
    used = [at for at in range(0, len(sound), 4096) if any(sound[at : at + 4096])]
    refused = 0
    for _ in range(50):
        metadata = MemoryDevice(content=sound, name="metadata")
        at = chance.choice([0, *used])
        block = memoryview(metadata.content)[at : at + 4096]
        kinds = [kind for kind in KINDS if block_checksum(block, kind) == int.from_bytes(block[:4], "little")]
        for _ in range(chance.choice((1, 1, 3))):
            place = chance.choice(
                (chance.randrange(4, 48), chance.randrange(4, 400), chance.randrange(4, 4096))
            )
            if chance.random() < 0.5:
                block[place] ^= 1 << chance.randrange(8)
            else:
                place -= place % 8
                if place >= 8:
                    value = chance.choice((0, 1, 5, 255, (1 << 64) - 1, chance.randrange(1 << 64)))
                    block[place : place + 8] = value.to_bytes(8, "little")
        seal(block, kinds[0] if kinds else NODE_XOR)
        block.release()
        try:
            use(metadata)
        except LamellaError:
            refused += 1
    assert refused > 10


def test_mappings_far_away_cost_no_more_than_near_ones() -> None:
    """Keys of a mapping tree may be any 64-bit number; the gap between two of them is not walked through."""
    content = _pool_with_mappings([0, 1, 5000, 1 << 40, (1 << 55) - 1, 1 << 55, (1 << 64) - 1])
    with Pool.open(MemoryDevice(content=content), NowhereDevice(64 << 20), read_only=True) as pool:
        with pool.open_volume(1, 1 << 20, read_only=True) as volume:
            assert [(first, length) for first, length, _, _ in volume.mapped_ranges()] == [
                (0, 2), (5000, 1), (1 << 40, 1), ((1 << 55) - 1, 2), ((1 << 64) - 1, 1),
            ]  # fmt: skip
        # A volume of an exbibyte, as a kernel may have it.
        with pool.open_volume(1, 1 << 60, read_only=True) as volume:
            chunk = 64 << 10
            assert list(volume.data_ranges()) == [
                (0, 2 * chunk), (5000 * chunk, chunk), (chunk << 40, chunk),
            ]  # fmt: skip
            assert list(volume.data_ranges(5000 * chunk + 512, 1 << 59)) == [
                (5000 * chunk + 512, chunk - 512), (chunk << 40, chunk),
            ]  # fmt: skip


def test_a_mapping_past_the_data_device_is_named() -> None:
    content = _pool_with_mappings([0, 7], data=[3, 5000])
    with (
        Pool.open(MemoryDevice(content=content), NowhereDevice(64 << 20), read_only=True) as pool,
        pool.open_volume(1, 1 << 20, read_only=True) as volume,
        pytest.raises(CorruptError, match="refers to data block 5000, but there are only 1024"),
    ):
        list(volume.mapped_ranges())


def test_a_mapping_tree_that_is_the_list_of_details() -> None:
    """A block that was read as one of another tree is not taken for a node of this one."""
    image = bytearray(_pool_with_mappings([0]))
    fields = superblock.decode(bytes(image))
    first_value = 32 + 8 * max_entries(8)
    change(image, fields.mapping_root, [(first_value, fields.details_root.to_bytes(8, "little"))])
    wrong = rf"block {fields.details_root} is a node with values of 24 bytes, not 8"
    with Pool.open(MemoryDevice(content=bytes(image)), NowhereDevice(1 << 30), read_only=True) as pool:
        [dev_id] = pool.devices()
        with (
            pytest.raises(CorruptError, match=wrong),
            pool.open_volume(dev_id, 1 << 30, read_only=True) as it,
        ):
            it.read(0, CHUNK)
        with (
            pytest.raises(CorruptError, match=wrong),
            pool.open_volume(dev_id, 1 << 30, read_only=True) as it,
        ):
            list(it.mapped_ranges())


def test_damage_met_while_a_grown_device_is_taken_note_of() -> None:
    image = bytearray(make())
    root = superblock.decode(bytes(image[:4096])).data_sm_root.bitmap_root
    image[root * 4096 + 100] ^= 1
    with pytest.raises(CorruptError, match=f"block {root} is a corrupt B-tree node"):
        Pool.open(MemoryDevice(content=bytes(image)), NowhereDevice(1 << 31))


def test_a_tree_cannot_lead_to_one_node_twice() -> None:
    """Two levels whose entries all lead to one node below: 252 times 252 leaves, were they believed."""
    image = bytearray(_pool_with_mappings(range(0, 252 * 252 * 8, 8)))
    metadata = Metadata.open(MemoryDevice(content=bytes(image)))
    root = metadata.roots[1]
    inner = image[root * 4096 : root * 4096 + 4096]
    first = inner[32 + 252 * 8 : 32 + 252 * 8 + 8]
    count = int.from_bytes(inner[16:20], "little")
    change(image, root, [(32 + 252 * 8 + 8 * place, first) for place in range(count)])
    with (
        Pool.open(MemoryDevice(content=bytes(image)), NowhereDevice(1 << 33), read_only=True) as pool,
        pool.open_volume(1, 1 << 20, read_only=True) as volume,
        pytest.raises(CorruptError, match="other keys than its place in the tree of block"),
    ):
        list(volume.mapped_ranges())


def _pool_with_mappings(keys: Iterable[int], data: Sequence[int] | None = None) -> bytes:
    """Metadata of a pool with one device, 1, that maps each of *keys*."""
    places = list(keys)
    blocks = range(len(places)) if data is None else data
    size = max(1024, len(places))
    lines = [
        f'<superblock uuid="" time="1" transaction="1" version="2" data_block_size="128" '
        f'nr_data_blocks="{max(size, max(blocks) + 1)}"><device dev_id="1" mapped_blocks="0" transaction="0" '
        'creation_time="0" snap_time="0">',
        *(
            f'<single_mapping origin_block="{key}" data_block="{block}" time="1"/>'
            for key, block in zip(places, blocks, strict=True)
        ),
        "</device></superblock>",
    ]
    target = MemoryDevice(8 << 20)
    restore_xml(io.BytesIO("".join(lines).encode()).read, target)
    image = bytearray(target.content)
    if data is not None:
        change(image, 0, [(64, size.to_bytes(8, "little"))])
    return bytes(image)
