# SPDX-License-Identifier: Apache-2.0
"""Reading tar streams: what GNU tar, bsdtar and Python write, and old oddities."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from lamella.fs import acl
from lamella.fs.entry import Entry, Kind
from lamella.fs.tar.read import read_tar
from tests.fs.tar.archives import END, GNU_FORMATS, header, one, padded, parse, pax
from tests.fs.trees import ACL, by_path, host_entries, plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def whole(entry: Entry, stored: bytes) -> bytes:
    """A file's bytes with its holes."""
    if entry.data is None:
        return stored
    out, at = bytearray(entry.size), 0
    for offset, length in entry.data:
        out[offset : offset + length] = stored[at : at + length]
        at += length
    return bytes(out)


def check_against(
    tree: Path, archive: bytes, *, fractions: bool = False, xattrs: bool = False, bsdtar: bool = False
) -> None:
    """The archive has the tree's entries; attributes its format does not carry are left out.

    *bsdtar* writes times before 1970 as 0 or with a wrong fraction, and modes without their ACL's mask.
    """
    found: dict[bytes, tuple[Entry, bytes]] = {
        entry.path: (entry, whole(entry, data)) for entry, data in parse(archive)
    }
    wanted = by_path(plain(host_entries(tree), whole_seconds=not fractions))
    assert found.keys() == wanted.keys()
    files: dict[bytes, bytes] = {path: data for path, (entry, data) in found.items() if not entry.target}
    for path, (entry, data) in found.items():
        expected = wanted[path]
        if not xattrs:
            expected.xattrs = {}
        links = (Kind.FILE, Kind.HARDLINK)
        if expected.kind in links and entry.kind in links:
            # Which of a file's names comes first is the archiver's choice.
            with open(os.fsencode(tree) + b"/" + path, "rb") as file:
                assert (data if entry.kind is Kind.FILE else files[entry.target]) == file.read()
            expected.kind, expected.target, expected.size = entry.kind, entry.target, entry.size
        if bsdtar and expected.mtime_ns < 0:
            expected.mtime_ns = entry.mtime_ns
        if bsdtar and path == b"one-block":
            assert entry.mode | 0o070 == expected.mode | 0o070
            expected.mode = entry.mode
        entry.data = None
        if entry.xattrs and not xattrs:
            entry.xattrs = {}
        assert entry == expected


@pytest.mark.parametrize(("options", "fractions", "xattrs"), GNU_FORMATS.values(), ids=GNU_FORMATS)
def test_what_gnu_tar_writes(
    options: list[str], fractions: bool, xattrs: bool, tree: Path, tool: Callable[[str], str]
) -> None:
    command = [tool("tar"), *options, "-C", str(tree), "-cf", "-", "."]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    check_against(tree, archive, fractions=fractions, xattrs=xattrs)


@pytest.mark.parametrize("form", ["v7", "ustar"])
def test_what_gnu_tar_writes_in_old_formats(form: str, tree: Path, tool: Callable[[str], str]) -> None:
    """They carry no long names, large owners, times before 1970 or devices; the rest must be right."""
    left_out = ["deep" * 20, "n" * 255, "sticky", "long-link", "large-numbers", "null", "fifo"]
    names = [name for name in os.listdir(tree) if name not in left_out]
    command = [tool("tar"), f"--format={form}", "-C", str(tree), "-cf", "-", "--mtime=@1000000000", *names]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    entries = {entry.path: (entry, data) for entry, data in parse(archive)}
    for entry, data in entries.values():
        where = os.fsencode(tree) + b"/" + entry.path
        status = os.lstat(where)
        assert (entry.mode, entry.uid, entry.gid) == (status.st_mode & 0o7777, status.st_uid, status.st_gid)
        assert entry.mtime_ns == 1_000_000_000 * 1_000_000_000
        if entry.kind is Kind.FILE:
            with open(where, "rb") as file:
                assert data == file.read()
    assert entries[b"many"][0].kind is Kind.DIRECTORY
    assert entries[b"latin/caf\xe9-\xff\x01"][0].kind is Kind.FILE


@pytest.mark.parametrize(
    ("form", "fractions", "xattrs"),
    [("pax", True, True), ("gnutar", False, False), ("ustar", False, False), ("v7tar", False, False)],
)
def test_what_bsdtar_writes(
    form: str, fractions: bool, xattrs: bool, tree: Path, tool: Callable[[str], str]
) -> None:
    command = [tool("bsdtar"), f"--format={form}", "-C", str(tree), "-cf", "-"]
    if form in ("ustar", "v7tar"):
        # Long names do not fit, and bsdtar leaves out what was changed before 1970.
        names = [
            name for name in ("bin/tool", "bin/other", "small", "a/x") if os.stat(tree / name).st_mtime >= 0
        ]
        archive = subprocess.run([*command, *names], check=True, capture_output=True).stdout
        assert {entry.path for entry, _ in parse(archive)} == {name.encode() for name in names}
        return
    environment = {**os.environ, "LC_ALL": "C"}
    archive = subprocess.run([*command, "."], check=True, capture_output=True, env=environment).stdout
    check_against(tree, archive, fractions=fractions, xattrs=xattrs, bsdtar=True)


@pytest.mark.parametrize(
    ("form", "fractions"), [(tarfile.PAX_FORMAT, False), (tarfile.GNU_FORMAT, False)], ids=["pax", "gnu"]
)
def test_what_python_writes(form: int, fractions: bool, tree: Path) -> None:
    def whole_seconds(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = int(member.mtime // 1)
        return member

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        archive.add(tree, arcname=".", filter=whole_seconds)
    check_against(tree, out.getvalue(), fractions=fractions)


class TestFields:
    def test_numbers_in_all_their_forms(self) -> None:
        entry = one(header(mode=b"   755 \0", uid=b"     12 ", mtime=b"7777777777 \0") + END)
        assert (entry.mode, entry.uid, entry.mtime_ns) == (0o755, 0o12, 0o7777777777 * 10**9)
        entry = one(header(mode=b"0100644\0", uid=bytes(8), mtime=b" " * 12) + END)
        assert (entry.mode, entry.uid, entry.mtime_ns) == (0o644, 0, 0)
        negative = (-86_401).to_bytes(12, "big", signed=True)
        large = b"\x80" + (3_000_000_000).to_bytes(7, "big")
        entry = one(header(uid=large, mtime=negative) + END)
        assert (entry.uid, entry.mtime_ns) == (3_000_000_000, -86_401 * 10**9)
        nobody = (-2).to_bytes(8, "big", signed=True)
        assert one(header(uid=nobody) + END).uid == 0xFFFFFFFE

    def test_signed_checksums(self) -> None:
        block = header("näme".encode("latin-1"))
        rest = block[:148] + b" " * 8 + block[156:]
        signed = sum(byte - 256 if byte > 127 else byte for byte in rest)
        assert one(block[:148] + b"%06o\0 " % signed + block[156:] + END).path == b"n\xe4me"

    def test_prefixes(self) -> None:
        assert one(header(b"name", prefix=b"some/folder") + END).path == b"some/folder/name"
        assert (
            one(header(b"name", prefix=b"some/folder", magic=b"ustar  \0") + END).path == b"some/folder/name"
        )
        times = b"00000000000\x0000000000000\0"
        assert one(header(b"name", prefix=times, magic=b"ustar  \0") + END).path == b"name"
        star = header(b"name", prefix=b"p".ljust(131, b"\0") + times + bytes(8) + b"tar\0")
        assert one(star + END).path == b"p/name"

    def test_old_directories_end_with_a_slash(self) -> None:
        entry = one(header(b"folder/", b"\0", magic=bytes(8)) + END)
        assert (entry.path, entry.kind) == (b"folder", Kind.DIRECTORY)

    def test_long_names_win(self) -> None:
        long = b"l" * 200
        data = header(b"././@LongLink", b"L", 201) + padded(long + b"\0")
        data += header(b"././@LongLink", b"K", 5) + padded(b"link\0")
        entry = one(data + header(b"short", b"2", link=b"other") + END)
        assert (entry.path, entry.target) == (long, b"link")

    def test_local_records_override_global_ones_and_empty_ones_take_them_back(self) -> None:
        data = pax((b"uid", b"7"), (b"mtime", b"1.5"), kind=b"g")
        data += header(b"a") + pax((b"uid", b"8")) + header(b"b") + pax((b"uid", b"")) + header(b"c")
        assert [(e.uid, e.mtime_ns) for e, _ in parse(data + END)] == [
            (7, 1_500_000_000),
            (8, 1_500_000_000),
            (0, 1_500_000_000),
        ]

    def test_times_in_records(self) -> None:
        def time(text: bytes) -> int:
            return one(pax((b"mtime", text)) + header() + END).mtime_ns

        assert time(b"1.000000001") == 1_000_000_001
        assert time(b"-1.5") == -1_500_000_000
        assert time(b"-0.000000001") == -1
        assert time(b"12.") == 12 * 10**9
        assert time(b"1.1234567899999") == 1_123_456_789

    def test_attributes(self) -> None:
        data = pax(
            (b"SCHILY.xattr.security.capability", b"\x01\x00\xff=\n"),
            (b"SCHILY.xattr.user.empty", b""),
            (b"LIBARCHIVE.xattr.user.a%3Db", b"AAEC"),
            (
                b"SCHILY.acl.access",
                b"user::rwx,user:joe:rw-:1000,user:70000:r-x,group::r-x,mask::rwx,other::r--",
            ),
            (b"RHT.security.selinux", b"system_u:object_r:etc_t:s0"),
        )
        assert one(data + header() + END).xattrs == {
            b"security.capability": b"\x01\x00\xff=\n",
            b"user.empty": b"",
            b"user.a=b": b"\0\1\2",
            b"system.posix_acl_access": ACL,
            b"security.selinux": b"system_u:object_r:etc_t:s0\0",
        }

    def test_acls_that_need_another_machines_names_are_left_out(self) -> None:
        assert acl.from_text(b"user::rwx,user:joe:rw-,group::r-x,other::---") is None
        assert acl.from_text(b"what is this") is None
        assert acl.from_text(b"") is None
        assert acl.from_text(b"user:" + b"9" * 5000 + b":rwx,user::rwx,group::r-x,other::---") is None

    def test_sizes_beyond_8_gib(self) -> None:
        class Huge:
            """A header, 9 GiB of zeros, the end."""

            def __init__(self) -> None:
                self.size = 9 << 30
                block = header(size=b"\x80\0\0\0" + self.size.to_bytes(8, "big"))
                self.left = [len(block), self.size, 1024]
                self.block = block

            def readinto(self, view: memoryview) -> int:
                while self.left and not self.left[0]:
                    self.left.pop(0)
                if not self.left:
                    return 0
                count = min(len(view), self.left[0])
                if len(self.left) == 3:
                    view[:count] = self.block[512 - self.left[0] :][:count]
                elif len(self.left) == 1:
                    view[:count] = bytes(count)
                self.left[0] -= count
                return count

        source = Huge()
        [(entry, left)] = [(entry, payload.remaining) for entry, payload in read_tar(source)]
        assert entry.size == left == 9 << 30

    def test_hard_links_with_and_without_a_body(self) -> None:
        body = padded(b"body of the link")
        data = header(b"a", size=3) + padded(b"abc")
        with_body = data + header(b"b", b"1", 16, link=b"a") + body + header(b"c") + END
        without = data + header(b"b", b"1", 16, link=b"a") + header(b"c") + END
        at_the_end = data + header(b"c") + header(b"b", b"1", 16, link=b"a") + END
        for archive in (with_body, without, at_the_end):
            assert {entry.path for entry, _ in parse(archive)} == {b"a", b"b", b"c"}

    def test_dump_directories_and_labels_are_passed_over(self) -> None:
        data = header(b"label", b"V") + header(b"d/", b"D", 10) + padded(b"Ya\0Nb\0\0\0\0\0") + header(b"d/a")
        assert [(entry.path, entry.kind) for entry, _ in parse(data + END)] == [
            (b"d", Kind.DIRECTORY),
            (b"d/a", Kind.FILE),
        ]


class TestPayloads:
    DATA = random.Random(3).randbytes(3_000_000)

    @pytest.fixture
    def archive(self) -> bytes:
        return (
            header(size=len(self.DATA)) + padded(self.DATA) + header(b"next", size=5) + padded(b"small") + END
        )

    def test_all_ways_to_read(self, archive: bytes) -> None:
        def pieces(payload: object) -> bytes:
            return b"".join(bytes(view) for view in payload.pieces())  # type: ignore[attr-defined]  # a Payload

        for entry, payload in read_tar(io.BytesIO(archive)):
            assert pieces(payload) == (self.DATA if entry.size > 5 else b"small")
        for entry, payload in read_tar(io.BytesIO(archive)):
            target = bytearray(entry.size + 10)
            head = payload.read(3)
            assert payload.read_into(target) == entry.size - 3
            assert head + target[: entry.size - 3] == (self.DATA if entry.size > 5 else b"small")
            assert not payload.remaining
            assert payload.read() == b""
            assert payload.read_into(target) == 0
            assert list(payload.pieces()) == []

    def test_left_alone(self, archive: bytes) -> None:
        assert [entry.path for entry, _ in read_tar(io.BytesIO(archive))] == [b"file", b"next"]
        for _, payload in read_tar(io.BytesIO(archive)):
            payload.read(7)

    def test_streams_that_dribble(self, archive: bytes) -> None:
        class Dribble:
            def __init__(self) -> None:
                self.file = io.BytesIO(archive)

            def read(self, size: int) -> bytes:
                return self.file.read(min(size, 777))

        assert [payload.read() for _, payload in read_tar(Dribble())] == [self.DATA, b"small"]

    def test_the_stream_is_read_to_its_end(self) -> None:
        file = io.BytesIO(header() + END + b"and something else" * 10_000)
        assert len(list(read_tar(file))) == 1
        assert file.read() == b""


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (b"/etc/passwd", b"etc/passwd"),
        (b"./././a//b/", b"a/b"),
        (b"a/../b", b"b"),
        (b"a/b/..", b"a"),
        (b"...", b"..."),
        (b".hidden/..x", b".hidden/..x"),
        (b"./", b""),
        (b".", b""),
        (b"/", b""),
    ],
)
def test_names_are_made_relative_as_docker_does(written: bytes, path: bytes) -> None:
    assert one(header(written, b"5") + END).path == path
