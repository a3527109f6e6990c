# SPDX-License-Identifier: Apache-2.0
"""A power cut while metadata is being written to a device leaves the old, or what is refused, or the new."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

import pytest

from lamella.block import MemoryDevice
from lamella.errors import CorruptError
from lamella.thin.engine.pool import Pool
from lamella.thin.tools import metadata_builder
from lamella.thin.tools.check import check
from lamella.thin.tools.restore import restore_xml
from tests.support.recording import Recording
from tests.thin.metadata_files import dumped, xml

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 64 << 10
NEW = {1: [(0, 0, 900, 1), (2000, 1000, 900, 1)], 7: [(n * 3, 4000 + n, 1, 1) for n in range(900)]}


@pytest.mark.parametrize("in_memory", [4, 65536])
def test_metadata_is_the_old_or_unusable_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    """A pool that is formatted where the metadata should have been would lose it: never leave zeros."""
    monkeypatch.setattr(metadata_builder, "BLOCKS_IN_MEMORY", in_memory)
    device = MemoryDevice(1 << 20, name="metadata")
    with Pool.create(device, MemoryDevice(100 * CHUNK), chunk_size=CHUNK) as pool:
        for dev_id in range(40):
            pool.create_thin(dev_id)
    old = dumped(bytes(device.content))
    recording = Recording(tmp_path)
    restore_xml(io.BytesIO(xml(NEW).encode()).read, recording.wrap(device, "metadata", atomic=512))
    recording.mark("restored")
    new = dumped(bytes(device.content))
    seen = {"old": 0, "refused": 0, "new": 0}
    for crash in recording.crashes(random.Random(1), subsets=8):
        left = crash.devices["metadata"]
        assert any(left.read(0, 4096)), crash.what
        try:
            report = check(left)
        except CorruptError:
            report = None
        if report is None or report.superblock is None:
            seen["refused"] += 1
            assert not crash.finished, crash.what
            with pytest.raises(CorruptError):
                Pool.open(left, MemoryDevice(100 * CHUNK))
            continue
        assert [str(problem) for problem in report.problems] == [], crash.what
        content = dumped(left.read(0, left.size))
        assert content in (old, new), crash.what
        seen["new" if content == new else "old"] += 1
        assert content == new or not crash.finished, crash.what
    assert all(seen.values()), seen
    recording.close()
