# SPDX-License-Identifier: Apache-2.0
"""The reader against trees that mke2fs and a mounted kernel wrote."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.errors import LamellaError, NotFoundError, UsageError
from lamella.fs.entry import Kind
from lamella.fs.ext4.reader import Reader
from tests.conftest import missing
from tests.fs.ext4.tools import debugfs, unmount
from tests.fs.trees import ROOT, by_path, host_entries, make_ext4, make_rich_tree, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

FEATURES = {
    "ext4": ["-t", "ext4", "-b", "4096"],
    "ext2": ["-t", "ext2", "-b", "4096"],
    "ext2 of 1 KiB blocks": ["-t", "ext2", "-b", "1024", "-I", "128"],
    "ext3": ["-t", "ext3"],
    "1 KiB blocks": ["-t", "ext4", "-b", "1024"],
    "64 KiB blocks": ["-t", "ext4", "-b", "65536"],
    "inline data": ["-t", "ext4", "-b", "4096", "-O", "inline_data"],
    "attribute inodes": ["-t", "ext4", "-b", "4096", "-O", "ea_inode"],
    "no checksums": ["-t", "ext4", "-O", "^metadata_csum,^64bit"],
    "old group checksums": ["-t", "ext4", "-O", "^metadata_csum,uninit_bg"],
    "own checksum seed": ["-t", "ext4", "-O", "metadata_csum_seed"],
    "meta_bg": ["-t", "ext4", "-O", "meta_bg,^resize_inode"],
    "bigalloc": ["-t", "ext4", "-O", "bigalloc", "-C", "16384"],
    "no file types": ["-t", "ext4", "-O", "^filetype"],
}

SMALL = [b"small", b"a/second-name", b"zz-third-name"]
"""The names of one file."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("tree")
    make_rich_tree(top)
    return top


def content(reader: Reader, path: bytes) -> bytes:
    return b"".join(reader.read(path))


def assert_same_tree(reader: Reader, top: Path, skipped: Sequence[bytes] = ()) -> None:
    wanted = by_path(plain(host_entries(top)))
    found = by_path(plain(reader.walk()))
    assert list(found) == list(wanted)
    for path in skipped:
        del wanted[path]
    for path, entry in wanted.items():
        assert found[path] == entry
        if entry.kind in (Kind.FILE, Kind.HARDLINK):
            with open(os.fsencode(top) + b"/" + path, "rb") as file:
                assert content(reader, path) == file.read()


@pytest.mark.parametrize("options", FEATURES.values(), ids=FEATURES)
def test_a_tree_written_by_mke2fs(
    options: list[str], tree: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    tool("mke2fs")
    make_ext4(tmp_path / "image", tree, *options, size="96M")
    small_inodes = "128" in options
    with FileDevice(tmp_path / "image", read_only=True) as device:
        reader = Reader.open(device)
        assert not reader.needs_recovery
        if small_inodes:
            # No room for the extra bits of a time after 2038.
            assert [e.path for e in reader.walk()] == [e.path for e in host_entries(tree)]
            assert content(reader, b"large") == (tree / "large").read_bytes()
        else:
            # mke2fs makes the root its own way, and forgets the hole at a file's end under inline_data.
            skipped = [b"", b"sparse"] if "inline_data" in options else [b""]
            assert_same_tree(reader, tree, skipped)


def test_a_large_attribute_in_an_inode_of_its_own(
    tree: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    make_ext4(tmp_path / "image", tree, "-t", "ext4", "-b", "4096", "-O", "ea_inode")
    value = bytes(range(256)) * 16  # debugfs takes no more than a block
    (tmp_path / "value").write_bytes(value)
    debugfs(tool, tmp_path / "image", f"ea_set -f {tmp_path / 'value'} /small user.large")
    with FileDevice(tmp_path / "image", read_only=True) as device:
        reader = Reader.open(device)
        assert reader.stat(b"small").xattrs == {b"user.large": value}
        assert_same_tree(reader, tree, [b"", *SMALL])


def test_usage_is_what_dumpe2fs_says(tree: Path, tmp_path: Path, tool: Callable[[str], str]) -> None:
    make_ext4(tmp_path / "image", tree, "-t", "ext4", "-b", "4096")
    listing = subprocess.run(
        [tool("dumpe2fs"), "-h", str(tmp_path / "image")], check=True, capture_output=True, text=True
    ).stdout
    values = dict(line.split(":", 1) for line in listing.splitlines() if ":" in line)
    with FileDevice(tmp_path / "image", read_only=True) as device:
        usage = Reader.open(device).usage()
    assert usage.size == int(values["Block count"]) * 4096
    assert usage.free == int(values["Free blocks"]) * 4096
    assert usage.inodes == int(values["Inode count"])
    assert usage.inodes_free == int(values["Free inodes"])
    assert usage.used == usage.size - usage.free


@pytest.fixture
def mounted(tmp_path: Path, tool: Callable[[str], str]) -> Iterator[Callable[[Path], Path]]:
    """Mounts an image through a loop device, and takes it down again."""
    if not ROOT:
        pytest.skip("mounting needs root")
    tool("mount")
    points: list[tuple[Path, Path]] = []

    def mount(image: Path) -> Path:
        point = tmp_path / f"mounted{len(points)}"
        point.mkdir()
        done = subprocess.run(["mount", "-o", "loop", str(image), str(point)], capture_output=True, text=True)
        if done.returncode:
            missing(f"a kernel that mounts ext4 through a loop device ({done.stderr.strip()})")
        points.append((point, image))
        return point

    yield mount
    for point, image in points:
        unmount(point, image)


@pytest.mark.parametrize("kind", ["ext4", "ext3", "ext2"])
def test_a_tree_written_by_the_kernel(kind: str, tmp_path: Path, mounted: Callable[[Path], Path]) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 200 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", kind, str(image)], check=True)
    top = mounted(image)
    make_rich_tree(top, far=True)
    os.utime(top / "small", ns=(1, 1_234_567_890_987_654_321))
    for number in range(3000):
        (top / "many" / f"indexed-{number:05}-{'z' * 40}").touch()
    # Fragments: every other block of a file freed again, so that its map needs a tree.
    with open(top / "fragments", "wb") as file:
        for number in range(1500):
            file.seek(number * 8192)
            file.write(number.to_bytes(4, "little") * 1024)
    with open(top / "reserved", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        file.write(b"start")
    os.sync()
    subprocess.run(["fsfreeze", "-f", str(top)], check=True)
    try:
        with FileDevice(image, read_only=True, lock=False) as device:
            reader = Reader.open(device)
            assert_same_tree(reader, top)
            pieces = reader.file_pieces(b"fragments")
            assert len(pieces) == 1500
            assert device.read(pieces[7][1], 4) == (7).to_bytes(4, "little")
            assert reader.stat(b"fragments").data == [(offset, 4096) for offset, _, _ in pieces]
            assert reader.stat(b"only-a-hole").data == []
    finally:
        subprocess.run(["fsfreeze", "-u", str(top)], check=True)


def test_a_file_beyond_4_gib(tmp_path: Path, mounted: Callable[[Path], Path]) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 64 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(image)], check=True)
    top = mounted(image)
    with open(top / "huge", "wb") as file:
        file.seek(5 << 30)
        file.write(b"the end")
    os.sync()
    with FileDevice(image, read_only=True, lock=False) as device:
        reader = Reader.open(device)
        assert reader.stat(b"huge").size == (5 << 30) + 7
        assert reader.stat(b"huge").data == [(5 << 30, 7)]
        assert b"".join(reader.read(b"huge", (5 << 30) - 3)) == b"\0\0\0the end"
        assert b"".join(reader.read(b"huge", (5 << 30) + 1, 3)) == b"he "


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> Iterator[Reader]:
    tool("mke2fs")
    folder = tmp_path_factory.mktemp("paths")
    top = folder / "top"
    (top / "usr" / "lib").mkdir(parents=True)
    (top / "usr" / "lib" / "thing").write_text("thing")
    (top / "lib").symlink_to("usr/lib")
    (top / "etc").mkdir()
    (top / "etc" / "absolute").symlink_to("/usr/lib/thing")
    (top / "etc" / "escape").symlink_to("../../../../../usr/lib")
    (top / "etc" / "loop").symlink_to("loop")
    (top / "etc" / "ping").symlink_to("pong")
    (top / "etc" / "pong").symlink_to("/etc/ping")
    (top / "etc" / "dangling").symlink_to("/nowhere")
    (top / "etc" / "dotted").symlink_to("./.././lib/")
    make_ext4(folder / "image", top, "-t", "ext4", size="8M")
    with FileDevice(folder / "image", read_only=True) as device:
        yield Reader.open(device)


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "real"),
        [
            (b"", b""),
            (b"/", b""),
            (b"..", b""),
            (b"/../..//etc/../lib/./thing", b"usr/lib/thing"),
            (b"lib/thing", b"usr/lib/thing"),
            (b"etc/absolute", b"usr/lib/thing"),
            (b"etc/escape/thing", b"usr/lib/thing"),
            (b"etc/dotted/thing", b"usr/lib/thing"),
            (b"lib/", b"usr/lib"),
        ],
    )
    def test_symlinks_are_followed_inside_the_root(self, reader: Reader, path: bytes, real: bytes) -> None:
        assert reader.resolve(path)[0] == real
        assert reader.stat(path, follow=True).path == real

    def test_the_last_one_is_followed_only_if_asked(self, reader: Reader) -> None:
        assert reader.stat(b"lib").kind is Kind.SYMLINK
        assert reader.stat(b"lib").target == b"usr/lib"
        assert reader.stat(b"etc/dangling").kind is Kind.SYMLINK
        assert reader.stat(b"lib", follow=True).kind is Kind.DIRECTORY
        assert [entry.path for entry in reader.list(b"lib")] == [b"usr/lib/thing"]
        assert [entry.path for entry in reader.walk(b"lib")] == [b"usr/lib", b"usr/lib/thing"]

    def test_asking_again_and_in_other_ways_gives_the_same(self, reader: Reader) -> None:
        """What is remembered of former questions must not show."""
        questions = [
            (path, follow)
            for path in (
                b"lib",
                b"lib/",
                b"lib/.",
                b"lib/..",
                b"lib/thing",
                b"/lib//thing",
                b"etc/dotted/thing",
            )
            for follow in (True, False)
        ]
        answers = [Reader(reader.disk).stat(path, follow=follow).path for path, follow in questions]
        for _ in range(2):
            for (path, follow), answer in zip(questions, answers, strict=True):
                assert reader.stat(path, follow=follow).path == answer

    @pytest.mark.parametrize(
        "path", [b"nowhere", b"etc/loop", b"etc/ping", b"etc/dangling", b"lib/thing/x", b"lib/thing/"]
    )
    def test_what_is_not_there(self, reader: Reader, path: bytes) -> None:
        with pytest.raises(NotFoundError) as caught:
            reader.stat(path, follow=True)
        assert "/" + path.decode().strip("/") in str(caught.value)

    def test_only_files_have_bytes(self, reader: Reader) -> None:
        with pytest.raises(UsageError, match="/etc is a directory"):
            reader.read(b"etc")
        with pytest.raises(UsageError, match="directory"):
            reader.file_pieces(b"")

    def test_the_roots_list_leaves_out_lost_and_found(self, reader: Reader) -> None:
        assert [entry.path for entry in reader.list()] == [b"etc", b"lib", b"usr"]
        assert reader.stat(b"lost+found").kind is Kind.DIRECTORY


def test_a_waiting_journal_is_noted(tmp_path: Path, tree: Path, tool: Callable[[str], str]) -> None:
    make_ext4(tmp_path / "image", tree, "-t", "ext4")
    debugfs(tool, tmp_path / "image", "feature needs_recovery")
    with FileDevice(tmp_path / "image", read_only=True) as device:
        reader = Reader.open(device)
        assert reader.needs_recovery
        assert content(reader, b"small") == b"hello\n"


def test_no_file_system(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(8192))
    with (
        FileDevice(tmp_path / "image", read_only=True) as device,
        pytest.raises(LamellaError, match="no ext4"),
    ):
        Reader.open(device)
