# SPDX-License-Identifier: Apache-2.0
"""Journals left by mounts that were cut off: replayed as e2fsck replays them."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.errors import CorruptError, LamellaError
from lamella.fs.ext4.journal import recover_journal
from lamella.fs.ext4.superblock import check_superblock, read_superblock
from lamella.fs.ext4.tree import Tree
from tests.fs.ext4.tools import MIB, fsck, make_image, mounted, tree_of
from tests.fs.layers import apply, layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN: the file system stops at once, as if power was lost."""
LOG_FLUSHED = 1


def cut_off(path: Path) -> None:
    """Change the file system through a kernel, and stop it with a full journal."""
    with mounted(path, read_only=False) as root:
        for number in range(400):
            (root / f"f{number}").write_bytes(b"%d" % number * 500)
        (root / "d").mkdir()
        os.sync()
        for number in range(0, 400, 3):
            (root / f"f{number}").unlink()
        for number in range(300):
            (root / f"d/g{number}").mkdir()
        os.sync()
        shutil.rmtree(root / "d")
        (root / "late").write_bytes(struct.pack(">I", 0xC03B3998) + b"looks like a journal block" * 200)
        held = [(root / f"f{number}").open("r+b") for number in range(1, 30, 3)]
        for number in range(1, 30, 3):
            (root / f"f{number}").unlink()
        (root / "many").mkdir()
        held_directory = os.open(root / "many", os.O_RDONLY)
        (root / "many").rmdir()
        os.sync()
        descriptor = os.open(root, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", LOG_FLUSHED))
        except OSError as error:
            pytest.skip(f"this kernel cannot shut a file system down: {error}")
        finally:
            os.close(descriptor)
            os.close(held_directory)
            for file in held:
                file.close()


@pytest.mark.parametrize("arguments", [(), ("-O", "^metadata_csum"), ("-O", "^64bit,^metadata_csum")])
def test_it_is_replayed_as_e2fsck_does(
    tmp_path: Path, tool: Callable[[str], str], arguments: tuple[str, ...]
) -> None:
    path = make_image(tmp_path / "i", 100 * MIB, *arguments)
    cut_off(path)
    theirs = tmp_path / "theirs"
    shutil.copy(path, theirs)
    subprocess.run([tool("e2fsck"), "-fy", str(theirs)], capture_output=True, check=False)
    with FileDevice(path) as device:
        assert check_superblock(device).needs_recovery
        assert recover_journal(device) > 0
        assert not check_superblock(device).needs_recovery
        assert not read_superblock(device).last_orphan
        assert recover_journal(device) == 0
    fsck(path)
    with mounted(path) as ours, mounted(theirs) as its:
        assert tree_of(ours) == tree_of(its)
    apply(path, layer(("more", "f", b"x" * 10_000)))
    fsck(path)


def test_deleted_files_that_were_open_are_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []
    clear = Tree.clear_orphans
    monkeypatch.setattr(Tree, "clear_orphans", lambda tree: freed.append(clear(tree)))
    path = make_image(tmp_path / "i", 100 * MIB)
    cut_off(path)
    with FileDevice(path) as device:
        recover_journal(device)
    assert freed == [11]
    fsck(path)


def test_writing_before_the_replay_is_refused(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 100 * MIB)
    cut_off(path)
    with pytest.raises(CorruptError, match="journal must be replayed"):
        apply(path, layer(("more", "f")))


def test_a_damaged_journal_does_no_harm(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 100 * MIB)
    cut_off(path)
    content = path.read_bytes()
    head = content.index(struct.pack(">II", 0xC03B3998, 4)) // 4096 * 4096
    damaged = tmp_path / "damaged"
    for at, raises in ((head + 20, True), (head + 100, True), (head + 4096 + 40, False), (head + 8, False)):
        changed = bytearray(content)
        changed[at] ^= 0x55
        damaged.write_bytes(changed)
        with FileDevice(damaged) as device:
            try:
                recover_journal(device)
            except LamellaError:
                assert raises or at == head + 8
                assert damaged.read_bytes() == changed
