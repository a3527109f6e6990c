# SPDX-License-Identifier: Apache-2.0
"""Files, parts and raw devices behave like the plain array of bytes that they stand for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.block import FileDevice, MemoryDevice, Part
from lamella.errors import (
    BusyError,
    DeviceIOError,
    ExistsError,
    LamellaError,
    NotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    UsageError,
)
from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.block import BlockDevice

SIZE = 64 * 1024

piece = st.tuples(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=9000))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), piece),
        st.tuples(st.just("write_many"), st.lists(piece, max_size=6)),
        st.tuples(st.just("zero"), st.tuples(st.integers(0, SIZE - 1), st.integers(0, 20000))),
        st.tuples(st.just("discard"), st.tuples(st.integers(0, SIZE - 1), st.integers(0, 20000))),
        st.tuples(st.just("read"), st.tuples(st.integers(0, SIZE - 1), st.integers(0, 20000))),
    ),
    max_size=15,
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FileDevice]:
    with FileDevice.create(tmp_path / "file", SIZE) as device:
        yield device


def without_overlaps(pieces: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """The pieces of one write_many may come in any order, so they must not overlap."""
    kept: list[tuple[int, bytes]] = []
    for offset, data in pieces:
        cut = data[: SIZE - offset]
        if all(offset + len(cut) <= other or other + len(there) <= offset for other, there in kept):
            kept.append((offset, cut))
    return kept


def replay(device: BlockDevice, model: bytearray, script: list[tuple[str, object]]) -> None:
    for name, argument in script:
        match name, argument:
            case "write", (int(offset), bytes(data)):
                cut = data[: SIZE - offset]
                device.write(offset, cut)
                model[offset : offset + len(cut)] = cut
            case "write_many", list(pieces):
                kept = without_overlaps(pieces)
                device.write_many(kept)
                for offset, data in kept:
                    model[offset : offset + len(data)] = data
            case "zero" | "discard", (int(offset), int(length)):
                length = min(length, SIZE - offset)
                (device.write_zeros if name == "zero" or not device.discard_zeroes else device.discard)(
                    offset, length
                )
                model[offset : offset + length] = bytes(length)
            case "read", (int(offset), int(length)):
                length = min(length, SIZE - offset)
                assert device.read(offset, length) == bytes(model[offset : offset + length])
    assert device.read(0, SIZE) == bytes(model)
    covered = bytearray(SIZE)
    last = -1
    for offset, length in device.data_ranges():
        assert offset > last
        assert length > 0
        last = offset + length
        covered[offset:last] = model[offset:last]
    assert covered == model, "bytes outside the data ranges must be zeros"


@settings(max_examples=60, deadline=None)
@given(steps, st.booleans())
def test_a_file_is_an_array_of_bytes(script: list[tuple[str, object]], direct: bool) -> None:
    path = Path(f"/var/tmp/lamella-test-{os.getpid()}")
    try:
        try:
            device = FileDevice.create(path, SIZE, direct=direct)
        except UsageError:
            pytest.skip("this file system has no direct I/O")
        with device:
            replay(device, bytearray(SIZE), script)
    finally:
        path.unlink(missing_ok=True)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_a_part_touches_nothing_around_it(script: list[tuple[str, object]]) -> None:
    whole = MemoryDevice(content=b"\xaa" * (SIZE + 2000))
    part = Part(whole, 1000, SIZE)
    part.write(0, bytes(SIZE))
    replay(part, bytearray(SIZE), script)
    assert whole.read(0, 1000) == whole.read(SIZE + 1000, 1000) == b"\xaa" * 1000


@settings(max_examples=40, deadline=None)
@given(steps)
def test_memory_is_an_array_of_bytes(script: list[tuple[str, object]]) -> None:
    replay(MemoryDevice(SIZE), bytearray(SIZE), script)


def test_many_neighbours_go_out_merged(file: FileDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = os.pwritev

    def counted(descriptor: int, views: list[memoryview], offset: int) -> int:
        calls.append(len(views))
        return real(descriptor, views, offset)

    monkeypatch.setattr(os, "pwritev", counted)
    file.write_many([(n * 16, bytes([n % 256]) * 16) for n in reversed(range(2000))])
    assert calls == [1024, 976]
    assert file.read(16 * 1999, 16) == bytes([1999 % 256]) * 16


def test_a_short_write_is_continued(file: FileDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def short(descriptor: int, views: list[memoryview], offset: int) -> int:
        return real(descriptor, [views[0][: max(1, len(views[0]) // 2)]], offset)

    monkeypatch.setattr(os, "pwritev", short)
    file.write_many([(0, b"abcdefg"), (7, b"hij"), (10, b"k")])
    assert file.read(0, 11) == b"abcdefghijk"


def test_holes_are_not_data(file: FileDevice) -> None:
    file.write(8192, b"x" * 4096)
    file.write(32768, b"y" * 8192)
    file.discard(32768, 4096)
    assert list(file.data_ranges()) == [(8192, 4096), (36864, 4096)]
    assert list(file.data_ranges(10000, 1000)) == [(10000, 1000)]
    assert os.stat(file.path).st_blocks * 512 <= 8192


@pytest.mark.parametrize(("offset", "length"), [(-1, 4), (SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1)])
def test_nothing_reaches_past_the_end(file: FileDevice, offset: int, length: int) -> None:
    data = bytes(max(length, 0))
    for request in (
        lambda: file.read(offset, length),
        lambda: file.write(offset, data),
        lambda: file.write_many([(offset, data)]),
        lambda: file.discard(offset, length),
        lambda: Part(file, 0, SIZE).write(offset, data),
    ):
        with pytest.raises(ValueError, match="reach outside"):
            request()


def test_a_second_writer_is_refused(file: FileDevice) -> None:
    with pytest.raises(BusyError, match="in use"):
        FileDevice(file.path)
    with pytest.raises(BusyError, match="in use"):
        FileDevice(file.path, read_only=True)
    file.close()
    with FileDevice(file.path, read_only=True), FileDevice(file.path, read_only=True) as reader:
        with pytest.raises(BusyError):
            FileDevice(file.path)
        with pytest.raises(ReadOnlyError):
            reader.write(0, b"x")
        with pytest.raises(ReadOnlyError):
            reader.discard(0, 4096)


def test_errors_name_the_thing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing-here"):
        FileDevice(tmp_path / "nothing-here")
    with pytest.raises(UsageError, match="neither a file nor a block device"):
        FileDevice(tmp_path)
    with pytest.raises(UsageError, match="0 bytes"):
        FileDevice.create(tmp_path / "empty", 0)
    FileDevice.create(tmp_path / "there", 512).close()
    with pytest.raises(ExistsError, match="there"):
        FileDevice.create(tmp_path / "there", 512)
    if os.geteuid():
        (tmp_path / "there").chmod(0)
        with pytest.raises(PermissionDeniedError):
            FileDevice(tmp_path / "there")
    with pytest.raises(LamellaError) as caught:
        FileDevice.create(tmp_path / "huge", 1 << 62)
    assert caught.value.hint
    assert not (tmp_path / "huge").exists()


def test_a_file_truncated_while_open_is_an_error(file: FileDevice) -> None:
    os.truncate(file.path, 100)
    with pytest.raises(DeviceIOError, match="ends at"):
        file.read(0, 4096)


def test_resize(file: FileDevice) -> None:
    file.write(0, b"start")
    file.resize(2 * SIZE)
    assert file.size == 2 * SIZE == os.path.getsize(file.path)
    assert file.read(0, 5) == b"start"
    assert file.read(2 * SIZE - 3, 3) == bytes(3)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A loop device of SIZE bytes over a file; only root makes one."""
    if os.geteuid() or not os.path.exists("/dev/loop-control"):
        missing_root = "root, or loop devices,"
        if os.geteuid():
            pytest.skip(f"{missing_root} are not here")
        missing(missing_root)
    backing = tmp_path / "backing"
    backing.write_bytes(b"\x55" * SIZE)
    made = subprocess.run(
        ["losetup", "-f", "--show", backing], capture_output=True, text=True, check=True
    ).stdout.strip()
    yield made
    subprocess.run(["losetup", "-d", made], check=True)


def test_a_raw_device(loop: str) -> None:
    with FileDevice(loop) as device:
        assert device.size == SIZE
        assert device.is_block_device
        device.write(0, bytes(SIZE))
        replay(device, bytearray(SIZE), [("write", (100, b"abc")), ("zero", (50, 9000)), ("read", (0, 512))])
        device.write_many([(512, b"x" * 512), (1024, b"y" * 512)])
        device.discard(4096, 8192)
        device.flush()
        with pytest.raises(BusyError):
            FileDevice(loop)
    with FileDevice(loop, direct=True) as device:
        device.write(700, b"unaligned")
        assert device.read(698, 13) == b"xxunalignedxx"
