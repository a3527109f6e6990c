# SPDX-License-Identifier: Apache-2.0
"""Tar splits: any stream that is accepted comes out again bit for bit."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.errors import BadInputError, CorruptError, LamellaError
from lamella.fs.entry import Kind
from lamella.fs.tar.read import read_tar
from lamella.fs.tar.split import TarSplitWriter, reassemble
from tests.fs.tar.archives import END, GNU_FORMATS, header, padded, pax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Store:
    """A file system of files alone, with the manners that a layer's writer has."""

    def __init__(self) -> None:
        self.files: dict[bytes, bytes] = {}

    def read(self, path: bytes, offset: int, length: int) -> Iterator[bytes]:
        data = self.files[path][offset : offset + length]
        for at in range(0, len(data), 100_000):
            yield data[at : at + 100_000]

    def apply(self, archive: bytes) -> io.BytesIO:
        """Unpack an archive; returns its split."""
        split = io.BytesIO()
        with TarSplitWriter(split) as recorder:
            for entry, payload in read_tar(io.BytesIO(archive), recorder=recorder):
                if entry.kind is Kind.FILE and b".wh." in entry.path:
                    continue
                for path in [entry.path, *(p for p in self.files if p.startswith(entry.path + b"/"))]:
                    if path in self.files and entry.kind is not Kind.DIRECTORY:
                        recorder.before_removal(path, lambda at, size, path=path: self.read(path, at, size))
                        del self.files[path]
                if entry.kind is Kind.FILE:
                    content = bytearray(entry.size)
                    for offset, length in [(0, entry.size)] if entry.data is None else entry.data:
                        content[offset : offset + length] = payload.read(length)
                    self.files[entry.path] = bytes(content)
        return split


def assemble(split: io.BytesIO, store: Store) -> bytes:
    out = io.BytesIO()
    assert reassemble(split, store.read, out) == len(out.getvalue())
    return out.getvalue()


def assert_round_trip(archive: bytes) -> io.BytesIO:
    store = Store()
    split = store.apply(archive)
    assert assemble(split, store) == archive
    return split


@pytest.mark.parametrize(
    "options", [options for options, _, _ in GNU_FORMATS.values()], ids=list(GNU_FORMATS)
)
def test_archives_of_gnu_tar(options: list[str], tree: Path, tool: Callable[[str], str]) -> None:
    command = [tool("tar"), *options, "-C", str(tree), "-cf", "-", "."]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    split = assert_round_trip(archive)
    assert len(split.getvalue()) < len(archive) / 20


@pytest.mark.parametrize("form", ["pax", "gnutar"])
def test_archives_of_bsdtar(form: str, tree: Path, tool: Callable[[str], str]) -> None:
    command = [tool("bsdtar"), f"--format={form}", "-C", str(tree), "-cf", "-", "."]
    assert_round_trip(subprocess.run(command, check=True, capture_output=True).stdout)


ODD = {
    "empty": b"",
    "only the end": END,
    "no end": header(size=3) + padded(b"abc"),
    "no padding": header(size=3) + b"abc",
    "dirty padding": header(size=3) + b"abc" + b"\xaa" * 509 + END,
    "rest": header(size=3) + padded(b"abc") + END + b"anything at all" * 1000,
    "one zero block": header() + bytes(512),
    "duplicates": header(b"a", size=3) + padded(b"one") + header(b"a", size=3) + padded(b"two")
    + header(b"b", size=1) + padded(b"b") + header(b"a", size=5) + padded(b"three") + END,
    "a file turned link": header(b"a", size=3) + padded(b"one") + header(b"a", b"2", link=b"x") + END,
    "a folder turned file": header(b"d/", b"5") + header(b"d/a", size=3) + padded(b"one")
    + header(b"d", size=3) + padded(b"two") + END,
    "link with a body": header(b"a", size=3) + padded(b"abc")
    + header(b"b", b"1", 700, link=b"a") + padded(b"z" * 700) + header(b"c") + END,
    "whiteout with a body": header(b"d/.wh.x", size=700) + padded(b"z" * 700) + END,
    "global header": pax((b"comment", b"x" * 3000), kind=b"g") + header() + END,
    "names in odd spelling": header(b"./a//./b", size=1) + padded(b"1")
    + header(b"/a/c", size=1) + padded(b"2"),
}  # fmt: skip


@pytest.mark.parametrize("archive", ODD.values(), ids=ODD)
def test_odd_streams(archive: bytes) -> None:
    assert_round_trip(archive)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a", b"b", b"d/a", b"d", b"d/.wh.a"]),
            st.binary(max_size=1500),
            st.binary(max_size=511),
        ),
        max_size=12,
    ),
    st.binary(max_size=2000),
)
@settings(max_examples=100, deadline=None)
def test_any_order_of_files(files: list[tuple[bytes, bytes, bytes]], rest: bytes) -> None:
    archive = b"".join(
        header(name, size=len(data)) + data + dirt[: -len(data) % 512].ljust(-len(data) % 512, b"\0")
        for name, data, dirt in files
    )
    assert_round_trip(archive + END + rest)


def test_large_files_and_many() -> None:
    generator = random.Random(5)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(3000):
            member = tarfile.TarInfo(f"folder{number % 7}/file{number}")
            data = generator.randbytes(generator.choice((0, 10, 3000)))
            member.size, member.mtime = len(data), number + 0.25
            archive.addfile(member, io.BytesIO(data))
        member = tarfile.TarInfo("large")
        member.size = 5 << 20
        archive.addfile(member, io.BytesIO(generator.randbytes(member.size)))
    assert_round_trip(out.getvalue())


def test_where_the_writer_put_a_file_is_recorded() -> None:
    archive = header(b"lib/x", size=3) + padded(b"abc") + END
    split = io.BytesIO()
    with TarSplitWriter(split) as recorder:
        for _, payload in read_tar(io.BytesIO(archive), recorder=recorder):
            payload.stored_as = b"usr/lib/x"
            payload.read()
    store = Store()
    store.files[b"usr/lib/x"] = b"abc"
    assert assemble(split, store) == archive


def test_a_refused_stream_leaves_no_valid_split() -> None:
    split = io.BytesIO()
    recorder = TarSplitWriter(split)
    with pytest.raises(BadInputError), recorder:
        list(read_tar(io.BytesIO(header() + header(b"../x")), recorder=recorder))
    with pytest.raises(CorruptError):
        reassemble(split, Store().read, io.BytesIO())


class TestDamage:
    ARCHIVE = (
        header(b"a", size=3000) + padded(b"x" * 3000) + header(b"a", size=3) + padded(b"two")
        + header(b"b", size=9) + padded(b"something") + END
    )  # fmt: skip

    @pytest.mark.parametrize("damaged", [b"Something", b"somethin", b"something more", b""])
    def test_a_file_that_changed(self, damaged: bytes) -> None:
        store = Store()
        split = store.apply(self.ARCHIVE)
        store.files[b"b"] = damaged
        if damaged.startswith(b"something"):
            # Only as many bytes as were recorded are asked for.
            assert assemble(split, store) == self.ARCHIVE
        else:
            with pytest.raises(CorruptError, match="the file 'b' has changed since"):
                assemble(split, store)

    def test_a_file_that_changes_while_it_is_replaced(self) -> None:
        recorder = TarSplitWriter(io.BytesIO())
        for _, payload in read_tar(io.BytesIO(header(b"a", size=1) + padded(b"x")), recorder=recorder):
            payload.read()
        with pytest.raises(CorruptError, match="a: its content changed"):
            recorder.before_removal(b"a", lambda _offset, _length: [b"y"])

    def test_every_bit_counts(self) -> None:
        store = Store()
        split = store.apply(self.ARCHIVE).getvalue()
        for at in range(len(split)):
            for bit in (0, 3, 7):
                damaged = bytearray(split)
                damaged[at] ^= 1 << bit
                out = io.BytesIO()
                try:
                    reassemble(io.BytesIO(damaged), store.read, out)
                except CorruptError:
                    continue
                # A bit that says nothing (such as a hint in the frame's header) may differ.
                assert out.getvalue() == self.ARCHIVE

    def test_cut_off_anywhere(self) -> None:
        store = Store()
        split = store.apply(self.ARCHIVE).getvalue()
        for length in range(len(split)):
            with pytest.raises(CorruptError):
                reassemble(io.BytesIO(split[:length]), store.read, io.BytesIO())

    def test_rubbish_inside_a_sound_frame(self) -> None:
        import zstandard

        generator = random.Random(9)
        store = Store()
        good = store.apply(self.ARCHIVE).getvalue()
        body = zstandard.ZstdDecompressor().decompressobj().decompress(good[16:-16])
        for _ in range(400):
            damaged = bytearray(body)
            for _ in range(generator.choice((1, 3))):
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            if generator.random() < 0.3:
                del damaged[generator.randrange(len(damaged)) :]
            split = good[:16] + zstandard.ZstdCompressor().compress(bytes(damaged)) + good[-16:]
            try:
                reassemble(io.BytesIO(split), store.read, io.BytesIO())
            except LamellaError:
                pass
            except KeyError:
                pass  # the store's own answer to a path that it does not have
