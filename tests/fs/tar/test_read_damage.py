# SPDX-License-Identifier: Apache-2.0
"""Tar streams that are cut off, damaged or hostile."""

from __future__ import annotations

import io
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BadInputError, LamellaError
from lamella.fs.tar.read import read_tar
from tests.fs.tar.archives import END, GNU_FORMATS, header, one, padded, parse, pax

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class TestEnds:
    @pytest.mark.parametrize("end", [b"", bytes(512), END, bytes(10240), END + b"rest", bytes(513)])
    def test_that_are_fine(self, end: bytes) -> None:
        assert one(header() + end).path == b"file"

    def test_an_empty_stream_is_an_empty_archive(self) -> None:
        assert parse(b"") == []
        assert parse(END) == []

    def test_padding_may_be_missing_or_not_zero(self) -> None:
        assert parse(header(size=3) + b"abc")[0][1] == b"abc"
        assert parse(header(size=3) + b"abc" + b"x" * 509 + header(b"b") + END)[1][0].path == b"b"

    @pytest.mark.parametrize("cut", [1, 100, 511, 513, 600, 1023])
    def test_cut_off(self, cut: int) -> None:
        with pytest.raises(BadInputError, match="ends at byte"):
            parse((header(size=600) + padded(bytes(600)) + header(b"b", size=600) + b"x" * 600)[:cut])

    @pytest.mark.parametrize("data", [pax((b"path", b"x")), pax((b"path", b"x")) + END])
    def test_cut_off_after_an_extended_header(self, data: bytes) -> None:
        with pytest.raises(BadInputError, match="whose entry is missing"):
            parse(data)

    def test_a_lone_zero_block(self) -> None:
        with pytest.raises(BadInputError, match="zero block"):
            parse(header() + bytes(512) + header(b"b") + END)


HOSTILE = {
    "escape": (header(b"../../etc/passwd"), "points outside the root"),
    "escape below": (header(b"a/b/../../../x"), "points outside the root"),
    "escape by record": (pax((b"path", b"../x")) + header(), "points outside the root"),
    "link outside": (header(b"x", b"1", link=b"../../etc/shadow"), "target points outside the root"),
    "link to the root": (header(b"x", b"1", link=b"/"), "hard link to nothing"),
    "a file as the root": (header(b"./"), "in place of the root"),
    "a link as the root": (header(b"/", b"2", link=b"x"), "in place of the root"),
    "no name": (header(b""), "an empty name"),
    "NUL in a name": (pax((b"path", b"a\0b")) + header(), "NUL"),
    "long component": (pax((b"path", b"d/" + b"x" * 256)) + header(), "256 bytes, more than 255"),
    "long path": (pax((b"path", b"x/" * 2048 + b"y")) + header(), "more than 4095"),
    "long target": (pax((b"linkpath", b"x/" * 2048)) + header(kind=b"2"), "target has 4096 bytes"),
    "empty target": (header(kind=b"2"), "target has 0 bytes"),
    "unknown type": (header(kind=b"Z"), "unknown type"),
    "continuation": (header(kind=b"M"), "unknown type"),
    "bad octal": (header(mode=b"00009zz\0"), "octal"),
    "underscores": (header(uid=b"1_000  \0"), "octal"),
    "signs": (header(uid=b"-7     \0"), "octal"),
    "negative size": (header(size=(-5).to_bytes(12, "big", signed=True)), "negative size"),
    "negative size in a record": (pax((b"size", b"-5")) + header(), "a size of -5"),
    "size in a record not a number": (pax((b"size", b"5x")) + header(), "not a number"),
    "huge size in a record": (pax((b"size", b"9" * 19)) + header(), "a size of 9999"),
    "owner too large": (header(uid=b"\x80" + (1 << 33).to_bytes(7, "big")), "out of range"),
    "owner -1": (header(uid=b"\xff" * 8), "out of range"),
    "device number": (header(kind=b"3", device=b"0010000\x000000000\0"), "4096:0"),
    "no record length": (header(b"x", b"x", 512) + b"path".ljust(512, b"?"), "without a length"),
    "absurd record length": (header(b"x", b"x", 20) + padded(b"99999999 path=abcdef"), "length 99999999"),
    "record cut off": (header(b"x", b"x", 12) + padded(b"13 path=abcd\n"), "length 13"),
    "record without a key": (header(b"x", b"x", 6) + padded(b"6 =ab\n"), "without a key"),
    "huge extended header": (header(b"x", b"x", 1 << 24), "more than 1048576"),
    "huge long name": (header(b"x", b"L", 1 << 40), "more than 1048576"),
    "huge attribute": (pax((b"SCHILY.xattr.user.x", bytes(70_000))) + header(), "70000 bytes"),
    "attribute's name": (pax((b"SCHILY.xattr.user." + b"x" * 255, b"")) + header(), "260 bytes"),
    "attribute not base64": (pax((b"LIBARCHIVE.xattr.user.x", b"?!")) + header(), "base64"),
    "checksum": (header() + header(b"evil", checksum=b"000000\0 "), "checksum is wrong"),
    "sparse overlap": (
        pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"0,10,5,10")) + header(size=20),
        "out of place",
    ),
    "sparse outside": (
        pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"95,10")) + header(size=10),
        "out of place",
    ),
    "sparse sum": (
        pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"0,9")) + header(size=10),
        "9 bytes",
    ),
    "sparse odd": (pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"0")) + header(size=10), "odd"),
    "sparse version": (pax((b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")) + header(), "version"),
    "sparse map too long": (
        pax(
            (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", b"x"), (b"GNU.sparse.realsize", b"100"),
        )
        + header(size=512)
        + padded(b"99999\n"),
        "99999 pieces",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("archive", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_entries_are_refused_by_name(archive: bytes, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason) as caught:
        parse(archive + END)
    assert "tar stream: " in str(caught.value)
    assert caught.value.hint


def test_the_entry_is_named_in_the_error() -> None:
    with pytest.raises(BadInputError, match=r"layer 3: entry '\.\./caf\\\\xe9' \(header at byte 512\)"):
        list(read_tar(io.BytesIO(header() + header(b"../caf\xe9") + END), name="layer 3"))


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04" * 300, b"x" * 512, random.Random(1).randbytes(2048)], ids=["zip", "text", "noise"]
)
def test_what_is_no_tar_archive(data: bytes) -> None:
    with pytest.raises(BadInputError, match="not a tar archive"):
        parse(data)


@pytest.mark.parametrize("seed", range(8))
def test_damage_never_ends_in_anything_but_an_error(
    seed: int, tree: Path, tool: Callable[[str], str]
) -> None:
    """Bits flipped, parts cut out and doubled, in archives of all formats."""
    generator = random.Random(seed)
    options = list(GNU_FORMATS.values())[seed][0]
    names = ["small", "a", "sparse", "only-a-hole", "marked", "bin", "n" * 255, "long-link", "fifo"]
    command = [tool("tar"), *options, "-C", str(tree), "-cf", "-", *names]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    archive = archive[: 200 * 512]
    for _ in range(150):
        damaged = bytearray(archive)
        for _ in range(generator.choice((1, 1, 2, 20))):
            at = generator.randrange(len(damaged) * 8)
            damaged[at // 8] ^= 1 << at % 8
        match generator.randrange(4):
            case 0:
                del damaged[generator.randrange(len(damaged)) :]
            case 1:
                start = generator.randrange(len(damaged) // 512) * 512
                del damaged[start : start + 512 * generator.randrange(4)]
            case 2:
                start = generator.randrange(len(damaged) // 512) * 512
                damaged[start : start + 512] = _sealed(damaged[start : start + 512], generator)
        try:
            for entry, payload in read_tar(io.BytesIO(damaged)):
                assert not entry.path.startswith(b"/")
                assert b".." not in entry.path.split(b"/")
                assert b"\0" not in entry.path
                for _view in payload.pieces():
                    pass
        except LamellaError:
            pass


def _sealed(block: bytearray, generator: random.Random) -> bytes:
    """A header with a field replaced by rubbish and a checksum that fits again."""
    if len(block) < 512:
        return bytes(block)
    start, end = generator.choice(
        [(0, 100), (100, 124), (124, 136), (136, 148), (156, 157), (257, 500), (345, 500)]
    )
    for at in range(start, end):
        if generator.random() < 0.3:
            block[at] = generator.choice((0, 0x20, 0x2F, 0x37, 0x80, 0xFF, generator.randrange(256)))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
