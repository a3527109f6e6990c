# SPDX-License-Identifier: Apache-2.0
"""Metadata that is wrong but carries right checksums: refused with a Lamella error, whatever is wrong."""

from __future__ import annotations

import random

import pytest

from lamella.block import MemoryDevice
from lamella.errors import LamellaError
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.format.checksum import BITMAP_XOR, INDEX_XOR, NODE_XOR, SUPERBLOCK_XOR, block_checksum, seal
from tests.support.failing import NowhereDevice

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
