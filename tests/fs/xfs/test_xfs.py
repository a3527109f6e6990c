# SPDX-License-Identifier: Apache-2.0
"""XFS on a loop device: made, probed, unpacked into, compared, grown, replayed; xfs_repair is the judge."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import CorruptError, NotFoundError, ReadOnlyError, UnsupportedError, UsageError
from lamella.fs.difference import list_changes, write_layer
from lamella.fs.kinds import of_kind
from lamella.fs.mounted import detached
from lamella.fs.xfs.superblock import read_superblock
from tests.conftest import missing
from tests.fs.ext4.tools import MIB
from tests.fs.layers import BASE, layer
from tests.fs.trees import host_entries, make_rich_tree, plain
from tests.fs.trees_in_guest import LoopVolume

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 320 * MIB
KNOWN = "xfs" in Path("/proc/filesystems").read_text().split()
XFS = of_kind("xfs")


@contextmanager
def attached(image: Path, *, read_only: bool = False) -> Iterator[LoopVolume]:
    if os.geteuid() or not KNOWN or not Path("/dev/loop-control").exists():
        pytest.skip("mounting XFS needs root, loop devices and a kernel that knows it")
    for name in ("mkfs.xfs", "xfs_repair"):
        if shutil.which(name) is None:
            missing(f"the program {name}")
    flags = ["-r"] if read_only else []
    done = subprocess.run(
        ["losetup", "-f", "--show", *flags, str(image)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr}")
    node = done.stdout.strip()
    try:
        with LoopVolume(node, read_only=read_only, lock=False) as volume:
            yield volume
    finally:
        subprocess.run(["losetup", "-d", node], check=True)


def make(image: Path, size: int = SIZE) -> None:
    with image.open("wb") as file:
        file.truncate(size)
    with attached(image) as volume:
        XFS.make(volume)


def repair(image: Path) -> None:
    done = subprocess.run(["xfs_repair", "-n", "-f", str(image)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_made_unpacked_and_read(tmp_path: Path) -> None:
    image, tree = tmp_path / "image", tmp_path / "tree"
    make(image)
    repair(image)
    tree.mkdir()
    make_rich_tree(tree, far=True)
    tar = tmp_path / "tar"
    flags = ["--xattrs", "--xattrs-include=*", "--acls", "-S", "--format=posix"]
    subprocess.run(["tar", *flags, "-cf", str(tar), "-C", str(tree), "."], check=True)
    with attached(image) as volume:
        assert not XFS.condition(volume).needs_recovery
        with tar.open("rb", buffering=0) as stream:
            stats = XFS.apply_layer(volume, stream)
        assert stats.entries == len(host_entries(tree))
        assert not XFS.condition(volume).needs_recovery
        with XFS.reader(volume) as reader:
            assert plain(reader.walk()) == plain(host_entries(tree))
            assert reader.stat(b"sparse").stored < 1 << 20
            assert reader.usage().size > 200 * MIB
            assert b"".join(reader.read(b"many/007-" + b"y" * 7)) == b"7"
    repair(image)
    with attached(image, read_only=True) as volume, XFS.reader(volume) as reader:
        assert plain(reader.walk()) == plain(host_entries(tree))


def test_two_states_compared(tmp_path: Path) -> None:
    lower, upper, copy = (tmp_path / name for name in ("lower", "upper", "copy"))
    make(lower)
    with attached(lower) as volume:
        XFS.apply_layer(volume, io.BytesIO(BASE))
    for image in (upper, copy):
        subprocess.run(["cp", "--sparse=always", lower, image], check=True)
    change = layer(
        ("d/a", "f", b"z"), ("e/.wh.f", "f"), ("new/x", "f", b"new"), (".wh.ln", "f"), ("d/h", "h", "d/a")
    )
    with attached(upper) as volume:
        XFS.apply_layer(volume, io.BytesIO(change))
    out = io.BytesIO()
    with attached(lower) as below, attached(upper) as above, XFS.pair(below, above) as pair:
        said = [str(line) for line in list_changes(pair)]
        write_layer(pair, out)
    assert said == ["C /d", "C /d/a", "A /d/h", "C /e", "D /e/f", "D /ln", "A /new", "A /new/x"]
    with attached(copy) as volume:
        XFS.apply_layer(volume, io.BytesIO(out.getvalue()))
        with XFS.reader(volume) as have, attached(upper) as other, XFS.reader(other) as want:
            assert plain(have.walk()) == plain(want.walk())
    with attached(lower) as below, attached(lower) as above, XFS.pair(below, above) as pair:
        assert list_changes(pair) == []


def test_growing(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image)
    with attached(image) as volume:
        XFS.apply_layer(volume, io.BytesIO(BASE))
    os.truncate(image, 2 * SIZE)
    with attached(image) as volume:
        XFS.grow(volume)
        XFS.grow(volume)
        assert read_superblock(volume).size == 2 * SIZE
        with XFS.reader(volume) as reader:
            assert reader.stat(b"d/a").size == 1
    repair(image)


def test_a_log_that_waits_is_seen_and_replayed(tmp_path: Path) -> None:
    """A copy of the image in the middle of a mount, as a power cut leaves it; for many lengths of the log."""
    image, cut = tmp_path / "image", tmp_path / "cut"
    make(image)
    for number in range(4):
        with attached(image) as volume:
            with detached.mounted(volume.path, "xfs", "nouuid") as root:
                for name in range(200 * number):
                    os.mkdir(f"{number}-{name}", dir_fd=root)
                last = os.open(f"file-{number}", os.O_CREAT | os.O_WRONLY, dir_fd=root)
                os.write(last, b"x" * 5000)
                os.fsync(last)
                os.close(last)
                subprocess.run(["cp", "--sparse=always", volume.path, cut], check=True)
            assert not XFS.condition(volume).needs_recovery
        with (
            attached(cut, read_only=True) as volume,
            pytest.raises(ReadOnlyError, match="log has to be replayed"),
            XFS.reader(volume),
        ):
            pass
        with attached(cut) as volume:
            assert XFS.condition(volume).needs_recovery
            with XFS.reader(volume) as reader:  # which replays it, as the device may be written
                assert reader.stat(b"file-%d" % number).size == 5000
            assert not XFS.condition(volume).needs_recovery
        repair(cut)


def test_no_mount_stays(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image)
    before = Path("/proc/self/mountinfo").read_text()
    with attached(image) as volume:
        with XFS.tree(volume) as tree:
            assert Path("/proc/self/mountinfo").read_text() == before
            tree.make_directory(b"x")
        with pytest.raises(ZeroDivisionError), XFS.tree(volume):
            raise ZeroDivisionError
        with FileDevice(volume.path):  # claims it: nobody has it mounted
            pass
    repair(image)


def test_an_old_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    make(image)
    monkeypatch.setattr(detached, "_FSOPEN", 9999)  # no such call
    before = Path("/proc/self/mountinfo").read_text()
    with attached(image) as volume:
        XFS.apply_layer(volume, io.BytesIO(BASE))
        with XFS.reader(volume) as reader:
            assert Path("/proc/self/mountinfo").read_text() == before
            assert reader.stat(b"d/sub/x").size == 1
        with FileDevice(volume.path):
            pass


def test_what_is_no_xfs(tmp_path: Path) -> None:
    nothing = MemoryDevice(1 * MIB)
    with pytest.raises(NotFoundError, match="no XFS"):
        XFS.condition(nothing)
    with pytest.raises(UnsupportedError, match="only the kernel"), XFS.reader(nothing):
        pass
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    with attached(image) as volume:
        with pytest.raises(UsageError, match=r"mkfs\.xfs cannot make"):
            XFS.make(volume)
        with pytest.raises(CorruptError, match="the kernel refuses it"), XFS.reader(volume):
            pass
    make(image)
    with image.open("r+b") as file:
        file.seek(33)
        file.write(b"\x99")
    with attached(image) as volume, pytest.raises(CorruptError, match="checksum"):
        XFS.uuid(volume)


@pytest.mark.parametrize("length", [4, 63, 103, 511])
def test_what_is_shorter_than_a_superblock_is_none(length: int) -> None:
    device = MemoryDevice(content=b"XFSB".ljust(length, b"\x01"), name="short")
    with pytest.raises(NotFoundError, match="no XFS file system in short"):
        read_superblock(device)
