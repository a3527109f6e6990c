# SPDX-License-Identifier: Apache-2.0
"""Writing tar streams: read back by ourselves, by GNU tar, bsdtar, Python and umoci (Go)."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.errors import BadInputError, UnsupportedError
from lamella.fs.entry import Entry, Kind
from lamella.fs.tar.read import read_tar
from lamella.fs.tar.write import TarWriter
from tests.fs.trees import ROOT, by_path, host_entries, plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def archive_of(top: Path) -> bytes:
    out = io.BytesIO()
    with TarWriter(out) as writer:
        for entry in host_entries(top):
            chunks: list[bytes] = []
            if entry.kind is Kind.FILE:
                with open(os.fsencode(top) + b"/" + entry.path, "rb") as file:
                    data = file.read()
                chunks = [data[at : at + 300_000] for at in range(0, len(data), 300_000)]
            writer.add(entry, chunks)
    return out.getvalue()


def assert_same(found: Path, wanted: Path, *, but_root: bool = False) -> None:
    left, right = by_path(plain(host_entries(found))), by_path(plain(host_entries(wanted)))
    assert list(left) == list(right)
    if but_root:
        del left[b""], right[b""]
    for path, entry in right.items():
        assert left[path] == entry
        if entry.kind is Kind.FILE:
            name = b"/" + path
            with (
                open(os.fsencode(found) + name, "rb") as one,
                open(os.fsencode(wanted) + name, "rb") as other,
            ):
                assert one.read() == other.read()


@pytest.mark.parametrize("acls", [[], ["--acls"]], ids=["xattrs", "acls"])
def test_gnu_tar_extracts_it(tree: Path, tmp_path: Path, tool: Callable[[str], str], acls: list[str]) -> None:
    options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", *acls]
    done = subprocess.run(
        [tool("tar"), *options, "-C", str(tmp_path), "-xf", "-"], input=archive_of(tree), capture_output=True
    )
    assert done.returncode == 0
    assert b"xtended header" not in done.stderr
    assert_same(tmp_path, tree)


def test_bsdtar_lists_it(tree: Path, tool: Callable[[str], str]) -> None:
    done = subprocess.run([tool("bsdtar"), "-tf", "-"], input=archive_of(tree), capture_output=True)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(host_entries(tree))


def test_python_reads_it(tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_of(tree))) as archive:
        members = {os.fsencode(member.name).strip(b"/"): member for member in archive}
    for entry in host_entries(tree):
        member = members[entry.path or b"."]
        assert (member.mode, member.uid, member.gid, member.size) == (
            entry.mode, entry.uid, entry.gid, entry.size,
        )  # fmt: skip
        assert member.mtime == pytest.approx(entry.mtime_ns / 1e9)
        if entry.target:
            assert os.fsencode(member.linkname) == entry.target


def test_umoci_unpacks_it(tree: Path, tmp_path: Path, tool: Callable[[str], str]) -> None:
    if not ROOT:
        pytest.skip("umoci sets owners and makes devices only as root")
    umoci = tool("umoci")
    (tmp_path / "layer.tar").write_bytes(archive_of(tree))
    image = f"{tmp_path}/image"
    for command in (
        ["init", "--layout", image],
        ["new", "--image", f"{image}:test"],
        ["raw", "add-layer", "--image", f"{image}:test", f"{tmp_path}/layer.tar"],
        ["unpack", "--image", f"{image}:test", f"{tmp_path}/bundle"],
    ):
        subprocess.run([umoci, *command], check=True, capture_output=True)
    found = by_path(plain(host_entries(tmp_path / "bundle" / "rootfs")))
    wanted = by_path(plain(host_entries(tree)))
    assert list(found) == list(wanted)
    for path, entry in wanted.items():
        # Go drops attributes that are empty; umoci keeps trusted.* from reaching the disk.
        entry.xattrs = {name: value for name, value in entry.xattrs.items() if value}
        for each in (entry, found[path]):
            each.xattrs.pop(b"trusted.overlay.opaque", None)
        assert found[path] == entry


names = st.binary(min_size=1, max_size=80).filter(
    lambda name: not {0, 47} & set(name) and name not in (b".", b"..")
)
paths = st.lists(names, min_size=1, max_size=5).map(b"/".join)
xattrs = st.dictionaries(
    st.binary(min_size=1, max_size=40).map(lambda name: b"user." + name.replace(b"\0", b"")),
    st.binary(max_size=300),
    max_size=3,
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from([kind for kind in Kind if kind is not Kind.SOCKET]))
    entry = Entry(
        draw(paths),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(st.integers(0, 2**32 - 2)),
        draw(st.integers(0, 2**32 - 2)),
        draw(st.integers(-(2**62), 2**62)),
        xattrs=draw(xattrs),
    )
    if kind is Kind.SYMLINK:
        entry.target = draw(st.binary(min_size=1, max_size=300).filter(lambda text: 0 not in text))
    elif kind is Kind.HARDLINK:
        entry.target = draw(paths)
    elif kind in (Kind.CHAR, Kind.BLOCK):
        entry.major, entry.minor = draw(st.integers(0, 4095)), draw(st.integers(0, (1 << 20) - 1))
    elif kind is Kind.FILE:
        entry.size = draw(st.integers(0, 3000))
    return entry


@given(st.lists(entries(), max_size=8))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_again(wanted: list[Entry]) -> None:
    out = io.BytesIO()
    with TarWriter(out) as writer:
        for entry in wanted:
            writer.add(entry, [b"x" * entry.size])
    assert len(out.getvalue()) % 512 == 0
    found = []
    for entry, payload in read_tar(io.BytesIO(out.getvalue())):
        assert payload.read() == b"x" * entry.size
        found.append(entry)
    assert found == wanted


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), max_size=6), st.integers(0, 5000))
@settings(max_examples=60, deadline=None)
def test_sparse_files(gaps: list[tuple[int, int]], tail: int) -> None:
    pieces, position = [], 0
    for gap, length in gaps:
        pieces.append((position + gap, length))
        position += gap + length
    size = position + tail
    entry = Entry(b"dir/sparse", Kind.FILE, 0o644, size=size, data=pieces)
    out = io.BytesIO()
    with TarWriter(out) as writer:
        writer.add(entry, [b"y" * length for _, length in pieces], sparse=True)
    [(found, stored)] = [(found, payload.read()) for found, payload in read_tar(io.BytesIO(out.getvalue()))]
    assert stored == b"y" * sum(length for _, length in pieces)
    assert found == replace(entry, data=pieces if size else None)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        [member] = archive.getmembers()
        content = archive.extractfile(member)
        assert content is not None
        data = bytearray(size)
        for offset, length in pieces:
            data[offset : offset + length] = b"y" * length
        assert content.read() == bytes(data)


def test_the_same_entries_make_the_same_bytes(tree: Path) -> None:
    assert archive_of(tree) == archive_of(tree)


def test_a_file_beyond_8_gib() -> None:
    class Count:
        """Keeps the start of what is written and its length."""

        length = 0
        start = b""

        def write(self, data: bytes) -> None:
            self.length += len(data)
            self.start += data[: max(0, 4096 - len(self.start))]

    out = Count()
    size = (8 << 30) + 5
    piece = bytes(1 << 24)
    with TarWriter(out) as writer:
        writer.add(Entry(b"huge", Kind.FILE, size=size), [piece] * (size >> 24) + [b"tail!"])
    assert out.length == 512 * 3 + size + 507 + 1024
    found, _ = next(read_tar(io.BytesIO(out.start)))
    assert found.size == size


@pytest.mark.parametrize("chunks", [[], [b"abcd"], [b"abc", b"def"]])
def test_bytes_that_do_not_fit_the_size(chunks: list[bytes]) -> None:
    with pytest.raises(BadInputError, match=r"file: its bytes are (more|fewer) than its 5"):
        TarWriter(io.BytesIO()).add(Entry(b"file", Kind.FILE, size=5), chunks)


def test_sockets_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="socket"):
        TarWriter(io.BytesIO()).add(Entry(b"file", Kind.SOCKET))
