# SPDX-License-Identifier: Apache-2.0
"""Damaged file systems: a clear error or a result, never a traceback, a crash or a hang."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from lamella.block import MemoryDevice
from lamella.errors import CorruptError, LamellaError, UnsupportedError
from lamella.fs.ext4.filesystem import Ext4
from lamella.fs.ext4.grow import grow_ext4
from lamella.fs.ext4.make import make_ext4
from lamella.fs.ext4.superblock import SuperBlock, check_superblock, seal
from tests.fs.layers import apply_layer, layer

MIB = 1 << 20
FIRST = layer(
    ("d", "d"),
    *((f"d/file-{number:05}-{'x' * 30}", "f", b"q" * 100) for number in range(300)),
    ("s", "l", "k" * 100),
    ("ln", "l", "d"),
    ("e", "d"),
    ("e/sub", "d"),
    ("e/sub/f", "f", b"z" * 200_000),
)
SECOND = layer(
    (f"d/.wh.file-00005-{'x' * 30}", "f"),
    *((f"d/new-{number:05}-{'x' * 30}", "f", b"q" * 100) for number in range(100)),
    (".wh.e", "f"),
    ("s", "f", b"a" * 10),
    ("ln/o", "f", b"1"),
)


def filled(*arguments: str) -> MemoryDevice:
    device = MemoryDevice(24 * MIB)
    make_ext4(device, mkfs_args=arguments)
    apply_layer(device, io.BytesIO(FIRST))
    return device


def damage(content: bytearray, chance: random.Random, used: list[int]) -> None:
    """Flip bits, zero or scramble blocks, mostly where it hurts."""
    what = chance.choice(("superblock", "sealed superblock", "metadata", "anywhere", "zero", "scramble"))
    for _ in range(chance.choice((1, 1, 2, 8))):
        if "superblock" in what:
            at = 1024 + chance.randrange(1024)
        else:
            at = chance.choice(used[:60] if what == "metadata" else used) + chance.randrange(4096)
        if what in ("zero", "scramble"):
            at -= at % 4096
            content[at : at + 4096] = bytes(4096) if what == "zero" else chance.randbytes(4096)
        else:
            content[at] ^= 1 << chance.randrange(8)
    if what == "sealed superblock":
        block = SuperBlock.from_buffer_copy(bytes(content[1024:2048]))
        seal(block)
        content[1024:2048] = bytes(block)


def fuzz(seed: int, rounds: int, *arguments: str) -> None:
    """Damage, then use; only Lamella's own errors may come."""
    base = bytes(filled(*arguments).content)
    used = [at for at in range(0, len(base), 4096) if any(base[at : at + 4096])]
    for number in range(rounds):
        device = MemoryDevice(32 * MIB, content=base)
        damage(device.content, random.Random(seed * 1_000_003 + number), used)
        for use in (check_superblock, lambda d: apply_layer(d, io.BytesIO(SECOND)), grow_ext4):
            try:
                use(device)
            except LamellaError as error:
                if not (error.message and error.hint):
                    raise AssertionError(f"no message or hint: {error!r}") from error


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("-O", "^metadata_csum"), ("-b", "1024", "-O", "^metadata_csum")])
def test_damage_gives_errors_not_crashes(arguments: tuple[str, ...]) -> None:
    """In a process of its own: a crash of the library would take the tests with it."""
    seed = random.SystemRandom().randrange(1 << 30)
    code = f"from tests.fs.ext4.test_damage import fuzz; fuzz({seed}, 60, *{arguments!r})"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr[-3000:]}"
    assert not done.stderr


def change(device: MemoryDevice, **fields: int) -> None:
    """Set fields of the superblock, with a right checksum."""
    block = SuperBlock.from_buffer_copy(bytes(device.content[1024:2048]))
    for name, value in fields.items():
        setattr(block, name, value)
    seal(block)
    device.content[1024:2048] = bytes(block)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"log_block_size": 40}, CorruptError, "block size"),
        ({"blocks_count_lo": 1 << 31}, CorruptError, "its device has"),
        ({"blocks_per_group": 0}, CorruptError, "blocks in a group"),
        ({"inodes_per_group": 0}, CorruptError, "inodes in a group"),
        ({"inodes_per_group": 8}, CorruptError, "inodes in"),
        ({"inode_size": 100}, CorruptError, "inode size"),
        ({"desc_size": 60}, CorruptError, "descriptor size"),
        ({"first_data_block": 1}, CorruptError, "first data block"),
        ({"checksum_type": 2}, CorruptError, "checksum type"),
        ({"free_inodes_count": 0xFFFFFFFF}, CorruptError, "more is free"),
        ({"state": 2}, CorruptError, "recorded errors"),
        ({"error_count": 1}, CorruptError, "recorded errors"),
        ({"last_orphan": 12}, CorruptError, "orphan"),
        ({"feature_incompat": 0x2C2 | 0x10000}, UnsupportedError, "encrypt"),
        ({"feature_incompat": 0x2C2 | 0x40000000}, UnsupportedError, "0x40000000"),
        ({"feature_incompat": 0x2C2 | 0x8000}, UnsupportedError, "inline_data"),
        ({"feature_incompat": 0x282}, UnsupportedError, "older"),
        ({"feature_ro_compat": 0x46B | 0x200}, UnsupportedError, "bigalloc"),
        ({"feature_ro_compat": 0x46B | 0x100}, UnsupportedError, "quota"),
        ({"feature_incompat": 0x2C2 | 0x4}, CorruptError, "journal"),
    ],
)
def test_superblocks_that_are_refused(fields: dict[str, int], error: type, said: str) -> None:
    device = filled()
    change(device, **fields)
    before = bytes(device.content)
    with pytest.raises(error, match=said):
        apply_layer(device, io.BytesIO(SECOND))
    with pytest.raises(error, match=said):
        grow_ext4(device)
    assert device.content == before


def test_a_flipped_bit_in_the_superblock_or_a_descriptor_is_named() -> None:
    device = filled()
    device.content[1024 + 200] ^= 1
    with pytest.raises(CorruptError, match="its checksum is"):
        check_superblock(device)
    device = filled()
    device.content[4096 + 5] ^= 1
    with pytest.raises(CorruptError, match=r"group descriptor 0 .* fails its checksum"):
        Ext4.open(device)


def test_states_are_reported() -> None:
    device = filled()
    assert check_superblock(device).clean
    change(device, feature_incompat=0x2C2 | 0x4)
    state = check_superblock(device)
    assert (state.clean, state.needs_recovery, state.errors) == (False, True, False)
    change(device, feature_incompat=0x2C2, state=3)
    assert check_superblock(device).errors
