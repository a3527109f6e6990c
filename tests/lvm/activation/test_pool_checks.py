# SPDX-License-Identifier: Apache-2.0
"""The check before a pool is activated: what is let in, and what it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import NoSpaceError
from lamella.lvm.activation.pool_checks import check_metadata
from lamella.thin.engine.pool import Pool
from lamella.thin.format import superblock
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.tools import leak_repair
from lamella.thin.tools.check import check
from tests.support.leaks import leak

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 64 << 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Metadata of a pool with one device, marked as needing a check."""
    path = tmp_path / "metadata"
    data = MemoryDevice(50 * CHUNK)
    with FileDevice.create(path, 1 << 20) as metadata:
        Pool.create(metadata, data, chunk_size=CHUNK).close()
        with Pool.open(metadata, data) as pool:
            pool.create_thin(1)
            with pool.open_volume(1, 20 * CHUNK) as volume:
                volume.write(0, b"x" * (3 * CHUNK))
            pool.commit()
        _mark(metadata)
    return path


def _mark(metadata: FileDevice) -> None:
    fields = superblock.unpack(metadata.read(0, BLOCK_SIZE), name="it")
    fields.flags |= superblock.NEEDS_CHECK
    metadata.write(0, fields.pack())
    metadata.flush()


def _marked(path: Path) -> bool:
    return superblock.unpack(path.read_bytes()[:BLOCK_SIZE], name="it").needs_check


def _leak(path: Path) -> None:
    with FileDevice(path) as metadata:
        leak(metadata, data=4, metadata=2, too_high=1)


def test_sound_metadata_loses_its_mark(path: Path) -> None:
    assert check_metadata(str(path), write=False)
    assert _marked(path)
    assert check_metadata(str(path))
    assert not _marked(path)


def test_leaks_are_freed(path: Path) -> None:
    _leak(path)
    before = path.read_bytes()
    assert check_metadata(str(path), write=False)
    assert path.read_bytes() == before
    assert check_metadata(str(path))
    with FileDevice(path, read_only=True) as metadata:
        assert check(metadata).ok
    assert not _marked(path)


def test_leaks_that_cannot_be_freed_stop_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise NoSpaceError("no room for new space maps")

    _leak(path)
    monkeypatch.setattr(leak_repair._FreeBlocks, "take", full)
    assert check_metadata(str(path))
    assert not _marked(path)
    with FileDevice(path, read_only=True) as metadata:
        assert check(metadata).only_space_maps


def test_damage_is_refused_and_not_written(path: Path) -> None:
    _leak(path)
    with FileDevice(path) as metadata:
        root = superblock.unpack(metadata.read(0, BLOCK_SIZE), name="it").details_root
        metadata.write(root * BLOCK_SIZE, bytes(BLOCK_SIZE))
        metadata.flush()
    before = path.read_bytes()
    assert not check_metadata(str(path))
    assert path.read_bytes() == before
