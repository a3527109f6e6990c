# SPDX-License-Identifier: Apache-2.0
"""No space in the pool, for its metadata or on the host, and a store that cannot be written."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.errors import DeviceIOError, NoSpaceError, ReadOnlyError
from lamella.fs.ext4.io_manager import Channel
from lamella.remedies import hint_of
from lamella.store import Store
from lamella.thin.kernel.volume import KernelVolume
from tests.support.images import Sample, make_tar, write_oci_layout
from tests.support.stores import (
    KERNEL,
    SMALL,
    assert_sound,
    assert_sound_for_real_tools,
    fails,
    state_of,
    take_down,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def large_layer(size: int, files: int = 1) -> bytes:
    return make_tar({f"f{number}": os.urandom(size // files) for number in range(files)})


@pytest.fixture
def impatient() -> Iterator[None]:
    """The kernel lets writers wait for a full pool to grow, by default for a minute: here not as long."""
    setting = Path("/sys/module/dm_thin_pool/parameters/no_space_timeout")
    before = setting.read_text() if KERNEL else ""
    if KERNEL:
        setting.write_text("1")
    yield
    if KERNEL:
        setting.write_text(before)


@pytest.mark.usefixtures("impatient")
def test_the_pools_data_is_full(tmp_path: Path) -> None:
    root = tmp_path / "root"
    Store.setup(root, storage_options=[*SMALL, "dm.loopdatasize=8M"]).close()
    layout = write_oci_layout(
        tmp_path / "big", [Sample(layers=[make_tar({"a": b"1"}), large_layer(20 << 20)])]
    )
    before = state_of(root)
    error = fails(root, NoSpaceError, lambda store: store.load(layout))
    assert ("is full: all 8.389MB of its data" if KERNEL else "chunks") in error.message
    assert "lamella" in str(hint_of(error))
    assert state_of(root) == before
    assert_sound(root)
    # And with room it goes on.
    with Store.setup(root, storage_options=["dm.loopdatasize=64M"]) as store:
        store.load(layout)
    assert_sound(root)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("names", [1, 3000], ids=["one file", "many names"])
def test_a_copy_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: int) -> None:
    """The container is as it was: its entries, also where thousands of them have left ext4's cache before the
    pool is full; and the chunks that it has to itself, which the copy would have changed."""
    monkeypatch.setitem(Channel.__init__.__kwdefaults__, "cache_limit", 1 << 18)
    root = tmp_path / "root"
    with Store.setup(root, storage_options=[*SMALL, "dm.loopdatasize=12M"]) as store:
        store.load(write_oci_layout(tmp_path / "one", [Sample(layers=[make_tar({"a": b"1"})])]))
        store.create("sample", name="web")
        mine = {f"mine/{number:05}": b"" for number in range(names)} | {"large": b"l" * (2 << 20)}
        store.copy_in("web", io.BytesIO(make_tar(mine)), b"/")
    before, tree = state_of(root), tree_of(root, "web")
    theirs = [(tarfile.TarInfo(f"mine/{number:05}"), b"") for number in range(names)]
    for info, _ in theirs:
        info.mode = 0o600
    archive = make_tar(members=theirs)[: 512 * names] + make_tar({"large": b"t", "z": os.urandom(16 << 20)})
    error = fails(root, NoSpaceError, lambda store: store.copy_in("web", io.BytesIO(archive), b"/"))
    assert "lamella" in str(hint_of(error))
    assert state_of(root) == before
    assert tree_of(root, "web") == tree
    assert_sound(root)
    assert_sound_for_real_tools(root, tmp_path)
    with Store.open(root) as store:
        store.copy_in("web", io.BytesIO(make_tar({"large": b"t"})), b"/")
        assert store.info().state == "fine"


def tree_of(root: Path, name: str) -> list[tuple[object, bytes]]:
    """Every entry of a container, and its content."""
    with Store.open(root, read_only=True) as store, store.tree(name) as tree:
        return [(entry, b"".join(tree.read(entry.path)) if entry.stored else b"") for entry in tree.walk()]


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory: freeing thousands of separate pieces of a file takes long on some disks."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def test_the_pools_metadata_is_full(tmp_path: Path, in_memory: Path) -> None:
    root = in_memory / "root"
    options = ["dm.basesize=8G", "dm.loopdatasize=16G", "dm.loopmetadatasize=1M", "dm.min_free_space=0%"]
    Store.setup(root, storage_options=options).close()
    chance = random.Random(5)

    def fill(store: Store) -> None:
        """Containers with single chunks all over: the dearest kind of mapping."""
        while True:
            made = store.create("sample")
            places = sorted(chance.sample(range(1 << 17), 1500))
            with store.devices.volume(made.id, read_only=False) as volume:
                if isinstance(volume, KernelVolume):
                    volume._pads = False  # whole chunks of zeros would fill the memory before the metadata
                volume.write_many((place << 16, b"x" * 512) for place in places)

    with Store.open(root) as store:
        store.load(write_oci_layout(tmp_path / "one", [Sample(layers=[make_tar({"a": b"1"})])]))
    full = "the pool is read-only: all "
    for _ in range(1 if KERNEL else 2):
        # By its version, the kernel makes such a pool read-only, or gives it up until it is taken down.
        error = fails(root, (NoSpaceError, DeviceIOError) if KERNEL else NoSpaceError, fill)
        assert "metadata" in error.message
        take_down(root)
        if not KERNEL:
            assert_sound(root, but=full)
    if KERNEL:
        # It deletes nothing then, not even what was being made, until there is room. Reading goes on.
        with pytest.raises(NoSpaceError, match="all 256 blocks of its metadata") as caught:
            Store.open(root)
        assert "lamella grow --metadata" in str(hint_of(caught.value))
        with Store.open(root, read_only=True) as store:
            assert [problem for problem in store.check().problems if not problem.startswith(full)] == []
            with store.tree("sample") as tree:
                assert b"".join(tree.read(b"/a")) == b"1"
        Store.grow(root, metadata="8M")
    with Store.setup(root, storage_options=["dm.loopmetadatasize=8M"]) as store:
        store.create("sample", name="after")
        for container in store.containers():
            store.remove_container(container.id)
    assert_sound(root)


@pytest.mark.user_engine  # such a limit is this process's own: the kernel writes the files by itself
def test_the_hosts_disk_is_full(unchanged: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: no write beyond it succeeds."""
    layout = write_oci_layout(tmp_path / "big", [Sample(layers=[large_layer(30 << 20)])])
    script = """
import resource, sys
from lamella.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (12 << 20, 12 << 20))
sys.exit(main(["--root", sys.argv[1], "load", "-i", sys.argv[2]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, unchanged, layout], capture_output=True, text=True, check=False
    )
    assert done.returncode == NoSpaceError.exit_code, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_real_full_disk(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """A small file system of its own, where everything that the store writes competes for the last blocks."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        [tool("mount"), "-t", "tmpfs", "-o", "size=12m", "none", mount], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        root = mount / "root"
        with Store.setup(root, storage_options=SMALL) as store:
            store.load(write_oci_layout(tmp_path / "small-image", [Sample()]))
        before = state_of(root)
        layout = write_oci_layout(
            tmp_path / "big", [Sample(layers=[large_layer(3 << 20), large_layer(20 << 20)])]
        )
        for _ in range(3):
            fails(root, (NoSpaceError, DeviceIOError), lambda store: store.load(layout))
            assert state_of(root) == before
        assert_sound(root)
        with Store.open(root) as store:
            store.create("sample")
    finally:
        take_down(root)
        subprocess.run([tool("umount"), mount], check=True)


def test_a_read_only_store(root: Path, tool: Callable[[str], str]) -> None:
    """On a file system that is mounted read-only everything can be read, and nothing is written."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    mount = root.parent / "mounted"
    mount.mkdir()
    subprocess.run([tool("mount"), "--bind", root, mount], check=True)
    try:
        subprocess.run([tool("mount"), "-o", "remount,ro,bind", mount], check=True)
        with Store.open(mount, read_only=True) as store:
            assert store.images()[0].references == ["sample:latest"]
            assert store.info().images == 1
            assert store.check().problems == []
            with store.tree("sample") as tree:
                assert tree.ls(b"/etc")
        with pytest.raises(ReadOnlyError):
            Store.open(mount)
        with pytest.raises(ReadOnlyError):
            Store.setup(mount)
    finally:
        subprocess.run([tool("umount"), mount], check=True)
