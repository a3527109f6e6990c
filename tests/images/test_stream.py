# SPDX-License-Identifier: Apache-2.0
"""Layer streams: every compression, every way to be wrong, and leaving early."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import shutil
import subprocess
import threading
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.errors import BadInputError, DeviceIOError, LamellaError, NotFoundError
from lamella.images.content import FilePiece, OpenFile, PathPiece
from lamella.images.digest import digest_of, verify_bytes
from lamella.images.stream import PIECE, PIECES_WAITING, LayerStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAIN = random.Random(1).randbytes(700_000) + bytes(3_000_000) + b"the end"


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


PACKED: dict[str, bytes] = {
    "plain": PLAIN,
    "gzip": gzip.compress(PLAIN, 1),
    "gzip of members": gzip.compress(PLAIN[:1000]) + gzip.compress(b"") + gzip.compress(PLAIN[1000:], 1),
    "gzip with padding": gzip.compress(PLAIN, 1) + bytes(1000),
    "zstd": _zstd(PLAIN),
    "zstd of frames": _zstd(PLAIN[:1000]) + _zstd(b"") + _zstd(PLAIN[1000:]),
    "zstd with a skippable frame": b"\x50\x2a\x4d\x18\x05\0\0\0hello" + _zstd(PLAIN),
    "bzip2": bz2.compress(PLAIN),
    "xz": lzma.compress(PLAIN, preset=0),
    "xz of streams": lzma.compress(PLAIN[:1000], preset=0) + bytes(4) + lzma.compress(PLAIN[1000:], preset=0),
}


class Bytes:
    """A piece that lies in memory."""

    def __init__(self, data: bytes, name: str = "the layer") -> None:
        self.data = data
        self.name = name
        self.size = len(data)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.data)


def _stream(packed: bytes, **changes: object) -> LayerStream:
    known = {"digest": digest_of(packed), "size": len(packed), "diff_id": digest_of(PLAIN)} | changes
    return LayerStream(Bytes(packed), **known)  # type: ignore[arg-type]  # a table of cases


@pytest.mark.parametrize("kind", PACKED)
def test_every_compression_gives_the_tar(kind: str) -> None:
    with _stream(PACKED[kind]) as stream:
        assert stream.read(10) == PLAIN[:10]
        assert stream.read(PIECE + 5) == PLAIN[10 : PIECE + 15]
        rest = bytearray(len(PLAIN))
        assert stream.readinto(memoryview(rest)) == len(PLAIN) - PIECE - 15
        assert rest[: len(PLAIN) - PIECE - 15] == PLAIN[PIECE + 15 :]
        assert stream.position == len(PLAIN)
        assert stream.read(1) == b""
        assert stream.readinto(bytearray(5)) == 0
    assert stream.taken == len(PACKED[kind])


def test_without_digests_they_are_found_out() -> None:
    with LayerStream(Bytes(PACKED["gzip"])) as stream:
        stream.verify()
    assert stream.diff_id == digest_of(PLAIN)


def test_other_digest_algorithms() -> None:
    packed = PACKED["gzip"]
    with _stream(packed, digest=digest_of(packed, "sha512"), diff_id=digest_of(PLAIN, "sha384")) as stream:
        stream.verify()
    with _stream(PLAIN, digest=digest_of(PLAIN, "sha512")) as stream:
        stream.verify()


@pytest.mark.parametrize("kind", PACKED)
def test_wrong_digests_and_sizes_never_reach_the_end(kind: str) -> None:
    packed = PACKED[kind]
    other = digest_of(b"other")
    for changes, why in (
        ({"digest": other}, f"digest it should have: {other}"),
        ({"diff_id": other}, f"diff id it should have: {other}"),
        ({"size": len(packed) + 1}, "wrong size"),
        ({"max_size": 1 << 20}, "larger than 1048576"),
    ):
        stream = _stream(packed, **changes)
        with pytest.raises(BadInputError, match=why):
            stream.verify()
        with pytest.raises(BadInputError, match=why):
            stream.read(1)  # and it stays an error
        stream.close()
        with pytest.raises(BadInputError, match=why), _stream(packed, **changes):
            pass  # nothing was read, and yet it does not pass


@pytest.mark.parametrize("kind", [kind for kind in PACKED if kind != "plain"])
def test_damaged_and_cut_blobs(kind: str) -> None:
    packed = PACKED[kind]
    for damaged in (
        packed[:-100] if "padding" not in kind else packed[:5000],
        packed[: len(packed) // 2],
        packed[:12],
    ):
        with pytest.raises(BadInputError), _stream(damaged):
            pass
        with (
            pytest.raises(BadInputError, match="does not have the digest"),
            _stream(damaged, digest=digest_of(packed)),
        ):
            pass
    flipped = bytearray(packed)
    flipped[len(packed) // 3] ^= 0x55
    if "padding" not in kind:
        flipped[-3] ^= 1
    with pytest.raises(BadInputError), _stream(bytes(flipped)):
        pass


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_rubbish_after_the_end(kind: str) -> None:
    with pytest.raises(BadInputError), _stream(PACKED[kind] + b"rubbish after the end"):
        pass


def test_a_zstd_stream_that_was_cut_is_told_as_that() -> None:
    """Everywhere but after a whole frame (RFC 8878, section 3.1); the library itself takes it for an end."""
    frames = _zstd(PLAIN[:3000]), b"\x50\x2a\x4d\x18\x05\0\0\0hello", _zstd(PLAIN[3000:])
    body = b"".join(frames)
    ends = {len(frames[0]), len(frames[0]) + len(frames[1])}
    for end in {*range(1, 40), *range(len(frames[0]) - 9, len(frames[0]) + 40), *range(40, len(body), 397)}:
        if end in ends or end < 4:
            continue
        with pytest.raises(BadInputError, match="truncated: its zstd stream ends too early"):
            LayerStream(Bytes(body[:end])).verify()
    for end in ends:
        LayerStream(Bytes(body[:end])).verify()


def test_real_zstd_with_every_option_is_complete(tool: Callable[[str], str]) -> None:
    for options in (
        [],
        ["--no-check"],
        ["-19", "--long"],
        ["--no-content-size"],
        [f"--stream-size={len(PLAIN)}"],
    ):
        run = subprocess.run([tool("zstd"), "-qc", *options], input=PLAIN, capture_output=True, check=True)
        stream = LayerStream(Bytes(run.stdout))
        assert stream.read() == PLAIN


def test_digests_are_compared_to_their_last_digit() -> None:
    def other(digest: str) -> str:
        return digest[:-1] + ("0" if digest[-1] != "0" else "1")

    packed = PACKED["gzip"]
    for changes in ({"digest": other(digest_of(packed))}, {"diff_id": other(digest_of(PLAIN))}):
        with pytest.raises(BadInputError, match="does not have the"), _stream(packed, **changes):
            pass
    with pytest.raises(BadInputError, match="does not have the digest"):
        verify_bytes(packed, other(digest_of(packed)), "it")
    verify_bytes(packed, digest_of(packed), "it")


@pytest.mark.parametrize("kind", PACKED)
def test_bytes_after_a_layer_are_told(kind: str) -> None:
    """Also where nothing but the size is known of it: a blob is what its descriptor says, no more."""
    packed = PACKED[kind]
    for more in (b"\1", b"rubbish" * 1000, packed):
        with pytest.raises(BadInputError, match=f"wrong size: {len(packed)} bytes expected|not valid"):
            LayerStream(Bytes(packed + more), size=len(packed)).verify()


def test_leaving_early_stops_the_thread() -> None:
    before = threading.active_count()
    stream = _stream(PACKED["gzip"])
    stream.read(10)
    stream.close()
    stream.close()
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)
    with pytest.raises(KeyError), _stream(PACKED["gzip"], diff_id=digest_of(b"")) as stream:
        raise KeyError  # the consumer's own error is not replaced
    assert threading.active_count() == before


def test_a_bomb_takes_no_memory() -> None:
    bomb = gzip.compress(bytes(64 << 20), 9) * 4
    tracemalloc.start()
    with LayerStream(Bytes(bomb)) as stream:
        while stream.read(1 << 16):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stream.position == 256 << 20
    assert peak < (PIECES_WAITING + 4) * PIECE


def test_a_zstd_window_beyond_the_limit_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    packed = compressor.compressobj(size=-1)
    body = packed.compress(PLAIN) + packed.flush()
    with pytest.raises(BadInputError, match="not valid zstd"), _stream(body):
        pass


def test_real_compressors(tmp_path: Path, tool: Callable[[str], str]) -> None:
    path = tmp_path / "plain"
    path.write_bytes(PLAIN)
    for command in (["gzip", "-9"], ["zstd", "-19"], ["xz", "-0"], ["bzip2"]):
        if shutil.which(command[0]) is None:
            continue
        packed = subprocess.run([*command, "-c", path], check=True, capture_output=True).stdout
        with _stream(packed) as stream:
            stream.verify()


def test_files_and_parts_of_files(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"before" + PLAIN + b"after")
    file = OpenFile.open(path)
    with LayerStream(FilePiece(file, "the layer", 6, len(PLAIN)), diff_id=digest_of(PLAIN)) as stream:
        assert stream.read() == PLAIN
    with pytest.raises(BadInputError, match="truncated"), LayerStream(FilePiece(file, "it", 20, len(PLAIN))):
        pass
    file.close()
    file.close()
    with pytest.raises(DeviceIOError), LayerStream(FilePiece(file, "it", 0, 5)):
        pass
    with pytest.raises(NotFoundError), LayerStream(PathPiece(str(tmp_path / "none"))):
        pass
    os.mkfifo(tmp_path / "fifo")
    with (
        pytest.raises(BadInputError, match="not a regular file"),
        LayerStream(PathPiece(str(tmp_path / "fifo"))),
    ):
        pass


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PACKED)), st.integers(0, 3000), st.binary(min_size=1, max_size=30))
def test_damage_anywhere_is_an_error_of_ours(kind: str, place: int, noise: bytes) -> None:
    small = PACKED[kind][:place] + noise + PACKED[kind][place + len(noise) :]
    if small == PACKED[kind] or kind == "plain":
        return
    # A few bits of a gzip header mean nothing; the blob's own digest tells then.
    with pytest.raises(LamellaError), _stream(small, digest=digest_of(PACKED[kind])):
        pass
    with contextlib.suppress(LamellaError), _stream(small):
        pass
