# SPDX-License-Identifier: Apache-2.0
"""Directories: hash trees that a kernel and e2fsck take as their own, and changes to existing ones."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.fs.entry import Entry, Kind
from lamella.fs.ext4.tree import Tree
from tests.fs.ext4.tools import GIB, MIB, fsck, make_image, mounted
from tests.fs.layers import apply, layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def add(path: Path, names: Iterable[bytes], directory: bytes = b"d") -> None:
    with FileDevice(path) as device, Tree.open(device) as tree:
        for name in names:
            tree.put(Entry(directory + b"/" + name, Kind.FILE, mode=0o644))


def listed(path: Path, directory: str = "d") -> set[bytes]:
    with mounted(path) as root:
        return set(os.listdir(os.fsencode(root / directory)))


@pytest.mark.slow
def test_100000_names_are_indexed_and_a_kernel_goes_on_with_them(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    path = make_image(tmp_path / "i", 2 * GIB)
    names = [b"a-file-with-some-name-%d" % number for number in range(100_000)]
    add(path, names)
    fsck(path)
    dump = subprocess.run(
        [tool("debugfs"), "-R", "htree_dump d", str(path)], capture_output=True, text=True, check=True
    )
    assert "Indirect levels: 1" in dump.stdout
    assert "Hash Version: 1" in dump.stdout
    with mounted(path, read_only=False) as root:
        for number in range(0, 100_000, 7):
            (root / f"d/a-file-with-some-name-{number}").unlink()
        for number in range(10_000):
            (root / f"d/new-{number}").touch()
        assert (root / "d/a-file-with-some-name-99999").exists()
    fsck(path)
    add(path, [b"third-%d" % number for number in range(5000)])
    fsck(path)
    want = {name for number, name in enumerate(names) if number % 7}
    want |= {b"new-%d" % number for number in range(10_000)} | {b"third-%d" % n for n in range(5000)}
    assert listed(path) == want


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-b", "1024"),
        ("-O", "^metadata_csum,uninit_bg"),
        ("-O", "^dir_index"),
        ("-O", "metadata_csum_seed,large_dir"),
    ],
)
def test_names_come_and_go_in_many_steps(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = make_image(tmp_path / "i", 300 * MIB, *arguments)
    chance = random.Random(5)
    have: set[bytes] = set()
    with FileDevice(path) as device, Tree.open(device) as tree:
        tree.put(Entry(b"d", Kind.DIRECTORY, mode=0o755))
    for step in range(8):
        with FileDevice(path) as device, Tree.open(device) as tree:
            for name in chance.sample(sorted(have), len(have) // (2 + step % 3)):
                tree.remove(b"d/" + name)
                have.discard(name)
            for number in range(chance.choice((1, 30, 600, 3000))):
                name = b"%d-%d-" % (step, number) + os.urandom(chance.randrange(1, 90)).hex().encode()
                tree.put(Entry(b"d/" + name, Kind.FILE))
                have.add(name)
        fsck(path)
    assert listed(path) == have


def test_names_hash_alike_whatever_their_bytes(tmp_path: Path) -> None:
    """A kernel must find each name by its hash: also with bytes above 127, and of every length."""
    path = make_image(tmp_path / "i", 100 * MIB)
    chance = random.Random(1)
    names = {bytes(chance.choice(range(128, 256)) for _ in range(length)) for length in range(1, 256)}
    names |= {bytes(chance.choice(range(33, 256)) for _ in range(50)).replace(b"/", b"x") for _ in range(500)}
    add(path, names)
    fsck(path)
    with mounted(path) as root:
        for name in names:
            assert os.path.lexists(os.path.join(os.fsencode(root), b"d", name))


def test_70000_subdirectories(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 600 * MIB, "-N", "80000")
    with FileDevice(path) as device, Tree.open(device) as tree:
        for number in range(66_000):
            tree.put(Entry(b"d/%d" % number, Kind.DIRECTORY, mode=0o755))
    fsck(path)
    with mounted(path) as root:
        assert (root / "d").stat().st_nlink == 1
    with FileDevice(path) as device, Tree.open(device) as tree:
        for number in range(60_000):
            tree.remove(b"d/%d" % number)
    fsck(path)
    with mounted(path) as root:
        assert (root / "d").stat().st_nlink == 6002


def test_deep_paths_are_made_and_removed_without_recursion(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 100 * MIB)
    deep = b"/".join([b"x"] * 2040)
    with FileDevice(path) as device, Tree.open(device) as tree:
        tree.put(Entry(deep, Kind.FILE))
    fsck(path)
    apply(path, layer((".wh.x", "f")))
    fsck(path)
    with mounted(path) as root:
        assert os.listdir(root) == ["lost+found"]


def test_directories_are_dropped_from_memory_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lamella.fs.ext4 import tree as module

    monkeypatch.setattr(module, "NAMES_LIMIT", 50)
    path = make_image(tmp_path / "i", 100 * MIB)
    items = [(f"d{number % 20}/e{number % 7}/f{number}", "f", b"%d" % number) for number in range(2000)]
    again = [(name, "f", b"again") for name, *_ in items[::3]]
    apply(path, layer(*items, *again), layer(*((f"d3/.wh.e{n}", "f") for n in range(7)), *items[:50]))
    fsck(path)
    changed = {name: content for name, _, content in [*items, *again] if not name.startswith("d3/")}
    changed.update({name: content for name, _, content in items[:50]})
    with mounted(path) as root:
        for name, content in changed.items():
            assert (root / name).read_bytes() == content
        assert sum(len(files) for _, _, files in os.walk(root)) == len(changed)


def test_a_directory_made_by_a_kernel_is_changed_in_place(tmp_path: Path) -> None:
    """Adding one name to a large directory rewrites few blocks: chunks below stay shared."""
    path = make_image(tmp_path / "i", 300 * MIB)
    with mounted(path, read_only=False) as root:
        (root / "d").mkdir()
        for number in range(5000):
            (root / f"d/{number}-{'y' * 40}").touch()
    before = path.read_bytes()
    apply(path, layer(("d/one-more", "f"), (f"d/.wh.77-{'y' * 40}", "f")))
    fsck(path)
    after = path.read_bytes()
    changed = sum(before[at : at + 4096] != after[at : at + 4096] for at in range(0, len(before), 4096))
    assert changed <= 12
    names = listed(path)
    assert b"one-more" in names
    assert len(names) == 5000


def test_put_takes_a_payload_of_exactly_the_size(tmp_path: Path) -> None:
    class Short:
        def read_into(self, buffer: memoryview) -> int:
            return 0

    path = make_image(tmp_path / "i", 64 * MIB)
    with FileDevice(path) as device:
        tree = Tree.open(device)
        with pytest.raises(ValueError, match="promised"), tree:
            tree.put(Entry(b"f", Kind.FILE, size=10), Short())
    fsck(path)
