# SPDX-License-Identifier: Apache-2.0
"""Metadata damaged at random, resealed or not: told or refused, never a traceback or a hang."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lamella.block import MemoryDevice
from lamella.cli.thin.tools import main
from lamella.errors import LamellaError
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.check import check
from lamella.thin.tools.dump import dump
from lamella.thin.tools.leak_repair import repair_leaks
from tests.thin.metadata_files import change, sealed_blocks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 10.0
"""More than any of these small images may take; a hang takes for ever."""
TEXT_LIMIT = 200 << 20

INTERESTING = (0, 1, 2, 3, 7, 126, 252, 253, 255, 1000, 1024, 2**16, 2**24, 2**31, 2**32 - 1)


class _TooMuch(Exception):
    """The dump is far larger than its metadata can mean."""


def _exercise(content: bytes) -> None:
    """Run everything that reads metadata over *content*."""
    started = time.monotonic()
    device = MemoryDevice(content=content)
    report = check(device)
    for tolerant in (False, True):
        size = 0

        def count(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size > TEXT_LIMIT:
                raise _TooMuch

        try:
            dump(Metadata.open(device, tolerant=tolerant), count)
        except LamellaError:
            # Whatever cannot be dumped, the check must have seen.
            assert report.fatal
    if report.complete and not report.fatal and not report.ok:
        try:
            repair_leaks(device, report)
        except LamellaError:
            assert bytes(device.content) == content
        else:
            assert not check(device).fatal
    assert time.monotonic() - started < SECONDS


@pytest.fixture(scope="module")
def originals(fixture_dir: Callable[[str], Path]) -> list[tuple[bytes, list[int]]]:
    """Images of the real kernel, with the blocks of them that are in use."""
    found = []
    for letter, part in (("a", "held"), ("c", "clean")):
        path = fixture_dir(f"thin-{letter}.tar.zst") / f"thin-{letter}" / part / "meta.bin"
        content = path.read_bytes()
        device = MemoryDevice(content=content)
        report = check(device)
        assert report.metadata_references is not None
        counts = report.metadata_references.counts(0, device.size // 4096)
        found.append((content, [block for block in sealed_blocks(content) if counts[block]]))
    return found


_EDIT = st.tuples(
    st.integers(0, 10_000),
    st.one_of(st.integers(4, 31), st.sampled_from([32, 40, 320, 328, 64, 72, 80, 88, 192, 200, 208, 216]),
              st.integers(4, 4088)),
    st.one_of(st.sampled_from(INTERESTING), st.integers(0, 2**64 - 1)),
    st.sampled_from([1, 4, 8]),
)  # fmt: skip


@given(st.integers(0, 1), st.lists(_EDIT, min_size=1, max_size=6))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_edits_under_right_checksums(
    originals: list[tuple[bytes, list[int]]], which: int, edits: list[tuple[int, int, int, int]]
) -> None:
    content, blocks = originals[which]
    image = bytearray(content)
    for place, offset, value, width in edits:
        data = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
        change(image, blocks[place % len(blocks)], [(offset, data)])
    _exercise(bytes(image))


@given(st.integers(0, 1), st.integers(0, 10_000), st.integers(0, 4096 * 8 - 1))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(0, 0, 0)
def test_one_flipped_bit_in_a_block_in_use_is_always_found(
    originals: list[tuple[bytes, list[int]]], which: int, place: int, bit: int
) -> None:
    content, blocks = originals[which]
    image = bytearray(content)
    image[blocks[place % len(blocks)] * 4096 + bit // 8] ^= 1 << bit % 8
    assert check(MemoryDevice(content=bytes(image))).fatal
    _exercise(bytes(image))


@given(st.integers(0, 1), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_in_the_wrong_places(originals: list[tuple[bytes, list[int]]], which: int, seed: int) -> None:
    """Blocks swapped whole, with their checksums right and their numbers corrected: trees of any shape."""
    content, blocks = originals[which]
    image = bytearray(content)
    source = random.Random(seed)
    for _ in range(source.randint(1, 8)):
        one, other = source.choice(blocks[1:]), source.choice(blocks[1:])
        image[other * 4096 : other * 4096 + 4096] = image[one * 4096 : one * 4096 + 4096]
        change(image, other, [(8, other.to_bytes(8, "little"))])
    _exercise(bytes(image))


@given(st.binary(max_size=20_000))
@settings(max_examples=50, deadline=None)
def test_rubbish(content: bytes) -> None:
    assert check(MemoryDevice(content=content)).fatal
    if content:
        with pytest.raises(LamellaError):
            Metadata.open(MemoryDevice(content=content))


@given(st.integers(0, 1), st.integers(1, 4096 * 1024))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncated(originals: list[tuple[bytes, list[int]]], which: int, size: int) -> None:
    content, _ = originals[which]
    report = check(MemoryDevice(content=content[:size]))
    assert report.fatal == (size < len(content))


def test_the_commands_on_rubbish(
    originals: list[tuple[bytes, list[int]]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content, blocks = originals[0]
    source = random.Random(5)
    path = tmp_path / "meta.bin"
    for _ in range(40):
        image = bytearray(content)
        for _ in range(3):
            edit = (source.randrange(4, 4088), source.randbytes(source.choice([1, 4, 8])))
            change(image, source.choice(blocks), [edit])
        path.write_bytes(image)
        assert main("thin_check", [str(path)]) in (0, 1)
        assert main("thin_check", ["--auto-repair", str(path)]) in (0, 1)
        assert main("thin_dump", [str(path)]) in (0, 1)
        assert main("thin_dump", ["-r", str(path)]) in (0, 1)
        assert "Traceback" not in capfd.readouterr().err
