# SPDX-License-Identifier: Apache-2.0
"""Growing ext4 offline: clean to e2fsck at every size, nothing lost, and refused where it cannot be."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.errors import CorruptError, UnsupportedError
from lamella.fs.ext4.grow import grow_ext4
from tests.fs.ext4.tools import GIB, MIB, fsck, make_image, mounted, tree_of
from tests.fs.layers import apply, layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = layer(
    ("d", "d"), *((f"d/file-{number:04}-with-a-name", "f", b"x" * number) for number in range(300))
)


def grow(path: Path, size: int) -> int:
    with FileDevice(path) as device:
        device.resize(size)
        return grow_ext4(device)


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        ((), (10 * GIB, 20 * GIB, 300 * GIB, 1024 * GIB)),
        ((), (100 * MIB, 100 * MIB + 4096 * 3, 128 * MIB + 4096 * 900, 384 * MIB)),
        (("-O", "^metadata_csum"), (GIB, 3 * GIB, 20 * GIB)),
        (("-O", "^metadata_csum,uninit_bg"), (GIB, 3 * GIB, 100 * GIB)),
        (("-O", "^64bit"), (GIB, 5 * GIB, 600 * GIB)),
        (("-O", "^resize_inode"), (GIB, 5 * GIB, 30 * GIB)),
        (("-O", "meta_bg"), (GIB, 9 * GIB, 33 * GIB)),
        (("-O", "^sparse_super"), (GIB, 5 * GIB)),
        (("-b", "1024"), (300 * MIB, 900 * MIB, 5 * GIB)),
        (("-E", "resize=262145"), (GIB, GIB + 200 * MIB, 5 * GIB)),
    ],
)
def test_growing_keeps_it_clean(tmp_path: Path, arguments: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    path = make_image(tmp_path / "i", sizes[0], *arguments)
    apply(path, CONTENT)
    reached = 0
    for size in sizes[1:]:
        grown = grow(path, size)
        assert reached <= grown <= size
        assert size - grown < 128 * MIB
        reached = grown
        fsck(path)
    apply(path, layer(("more", "f", b"y" * 100_000)))
    fsck(path)


def test_a_kernel_finds_everything_and_can_use_the_new_room(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 200 * MIB)
    apply(path, CONTENT)
    with mounted(path) as root:
        before = tree_of(root)
    assert grow(path, 600 * MIB) == 600 * MIB
    with mounted(path, read_only=False) as root:
        assert tree_of(root) == before
        with (root / "big").open("wb") as file:
            for _ in range(400):
                file.write(b"z" * MIB)
    fsck(path)


def test_a_file_system_of_mke2fs_grows_and_resize2fs_can_go_on(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    path = tmp_path / "i"
    subprocess.run([tool("mke2fs"), "-q", "-F", "-t", "ext4", str(path), "500M"], check=True)
    subprocess.run([tool("tune2fs"), "-O", "^orphan_file", str(path)], capture_output=True, check=False)
    grow(path, 3 * GIB)
    fsck(path)
    with path.open("r+b") as file:
        file.truncate(5 * GIB)
    subprocess.run([tool("e2fsck"), "-fy", str(path)], capture_output=True, check=True)
    subprocess.run([tool("resize2fs"), str(path)], capture_output=True, check=True)
    fsck(path)
    grow(path, 9 * GIB)
    fsck(path)


def test_growing_to_the_same_size_changes_nothing(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 100 * MIB)
    before = path.read_bytes()
    assert grow(path, 100 * MIB) == 100 * MIB
    assert path.read_bytes() == before


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 100 * MIB, "-O", "^64bit")
    with FileDevice(path) as device:
        device.size = 17 << 40  # larger than the files of most file systems may be
        with pytest.raises(UnsupportedError, match="64bit"):
            grow_ext4(device)
    path = make_image(tmp_path / "j", 100 * MIB)
    with path.open("r+b") as file:
        file.truncate(50 * MIB)
    with FileDevice(path) as device, pytest.raises(CorruptError, match="its device has"):
        grow_ext4(device)
