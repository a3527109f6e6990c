# SPDX-License-Identifier: Apache-2.0
"""containerd's snapshots on the user engine, mounted by this machine's kernel."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lamella.block import loop
from lamella.errors import BusyError
from lamella.fs.mounted import mount as kernel
from lamella.images.content import PathPiece
from lamella.images.stream import LayerStream
from lamella.services.fuse.connection import available
from lamella.services.fuse.loop_nodes import LoopNodes
from lamella.store import Store
from lamella.store.hosting import HostedStore
from tests.conftest import missing
from tests.support.daemon import wait_until
from tests.support.images import SAMPLE_LAYERS, sha256
from tests.support.stores import assert_sound, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lamella.store.snapshot_model import Mount

pytestmark = [pytest.mark.user_engine, pytest.mark.loop_lvm]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    if not loop.available() or not available():
        missing("a FUSE and a loop device that we may use")
    set_up(tmp_path / "store", "loop-lvm").close()
    return tmp_path / "store"


@pytest.fixture
def host(root: Path) -> Iterator[HostedStore]:
    with HostedStore.open(
        root, make_nodes=lambda devices: LoopNodes(devices, root / "run" / "fuse")
    ) as opened:
        yield opened


@contextmanager
def mounted(mounts: list[Mount], folder: Path) -> Iterator[Path]:
    (found,) = mounts
    folder.mkdir(exist_ok=True)
    options = [option for option in found.options if option != "ro"]
    kernel.mount(found.source, folder, found.type, options=options, read_only="ro" in found.options)
    try:
        yield folder
    finally:
        kernel.unmount(folder)


def test_a_chain(host: HostedStore, root: Path, tmp_path: Path) -> None:
    made = host.snapshots
    parent = ""
    for number in range(3):
        with mounted(made.prepare(f"work {number}", parent, {}), tmp_path / "mnt") as folder:
            assert sorted(os.listdir(folder)) == [f"file {old}" for old in range(number)]
            assert os.stat(folder).st_mode & 0o7777 == 0o755
            (folder / f"file {number}").write_bytes(bytes([number]) * 100_000)
        made.commit(f"layer {number}", f"work {number}", {})
        usage = made.usage(f"layer {number}")
        assert usage.inodes == 1
        assert usage.size >= 100_000
        parent = f"layer {number}"
    with mounted(made.view("look", parent, {}), tmp_path / "mnt") as folder:
        for number in range(3):
            assert (folder / f"file {number}").read_bytes() == bytes([number]) * 100_000
        with pytest.raises(OSError) as caught:
            (folder / "new").touch()
        assert caught.value.errno == errno.EROFS
    made.remove("look")
    for number in reversed(range(3)):
        made.remove(f"layer {number}")
    host.close()
    assert_sound(root)
    with Store.open(root, read_only=True) as store:
        assert [row.name for row in store.df()][1:] == ["base", "snapshot-base"]


def test_a_layer_is_seen_by_a_mount(host: HostedStore, tmp_path: Path) -> None:
    """What our writer writes past the loop device is what the kernel reads, also where it had read before."""
    made = host.snapshots
    (found,) = made.prepare("work", "", {})
    with open(found.source, "rb") as device:
        device.read(1 << 20)
    (tmp_path / "blob").write_bytes(SAMPLE_LAYERS[0])
    with LayerStream(PathPiece(str(tmp_path / "blob")), digest=sha256(SAMPLE_LAYERS[0])) as layer:
        made.apply(found.source, layer)
    with mounted([found], tmp_path / "mnt") as folder:
        assert (folder / "etc/hostname").read_text() == "lamella\n"
        assert (folder / "bin/sh").read_bytes() == b"#!" * 5000


def test_what_is_removed_while_it_is_mounted_goes_with_its_mount(
    host: HostedStore, root: Path, tmp_path: Path
) -> None:
    made = host.snapshots
    mounts = made.prepare("work", "", {})
    device = made._catalog.get("work").device
    with mounted(mounts, tmp_path / "mnt") as folder:
        assert host.nodes.is_open(device)
        (folder / "file").write_bytes(b"x" * 100_000)
        made.remove("work")
        assert made.walk() == []
        (folder / "file").write_bytes(b"y" * 100_000)  # it goes on for who has it
        os.sync()
        assert host.devices.state.device(device) is not None
        made.prepare("work", "", {})  # the key is free

    def is_gone() -> bool:
        made.clean_up()
        return host.devices.state.device(device) is None

    wait_until(is_gone)  # the kernel tells of the loop device's end a little later
    made.remove("work")
    host.close()
    assert_sound(root)


def test_a_commit_of_what_is_mounted(host: HostedStore, root: Path, tmp_path: Path) -> None:
    made = host.snapshots
    with mounted(made.prepare("work", "", {}), tmp_path / "mnt") as folder:
        (folder / "before").write_bytes(b"1" * 10_000)
        made.commit("layer", "work", {})
        (folder / "after").write_bytes(b"2" * 10_000)
    with mounted(made.view("look", "layer", {}), tmp_path / "look") as folder:
        assert os.listdir(folder) == ["before"]
        assert (folder / "before").read_bytes() == b"1" * 10_000
    made.clean_up()
    made.remove("look")
    made.remove("layer")
    host.close()
    assert_sound(root)


def test_the_size_holds(host: HostedStore, tmp_path: Path) -> None:
    """The container gets ENOSPC at the size that its label gave, and sees that size."""
    mounts = host.snapshots.prepare("work", "", {"containerd.io/snapshot/lamella/size": "96M"})
    with mounted(mounts, tmp_path / "mnt") as folder:
        found = os.statvfs(folder)
        assert 85 << 20 < found.f_blocks * found.f_frsize <= 96 << 20
        with pytest.raises(OSError) as caught:
            (folder / "big").write_bytes(bytes(97 << 20))
        assert caught.value.errno == errno.ENOSPC


def _write_through(path: Path) -> None:
    path.write_bytes(b"y")
    subprocess.run(["sync", "-f", path], check=True, stderr=subprocess.DEVNULL)


def test_the_end_while_something_is_mounted(root: Path, tmp_path: Path) -> None:
    """What was flushed is there afterwards."""
    nodes: list[LoopNodes] = []

    def make(devices: object) -> LoopNodes:
        nodes.append(LoopNodes(devices, root / "run" / "fuse"))  # type: ignore[arg-type]
        return nodes[-1]

    with HostedStore.open(root, make_nodes=make) as host:
        (found,) = host.snapshots.prepare("work", "", {})
        (tmp_path / "mnt").mkdir()
        kernel.mount(found.source, tmp_path / "mnt", "ext4", options=[], read_only=False)
        (tmp_path / "mnt/file").write_bytes(b"x" * 100_000)
        subprocess.run(["sync", "-f", tmp_path / "mnt/file"], check=True)
    changed = tmp_path / "mnt/changed"
    with pytest.raises((OSError, subprocess.CalledProcessError)):
        _write_through(changed)
    kernel.unmount(tmp_path / "mnt", lazy=True)
    with HostedStore.open(root, make_nodes=make) as host:
        with mounted(host.snapshots.mounts("work"), tmp_path / "again") as folder:
            assert (folder / "file").read_bytes() == b"x" * 100_000
        host.snapshots.remove("work")
    assert_sound(root)


class NoKeeper:
    """Nobody holds anything."""

    def keep(self, descriptor: int, token: str) -> None:
        raise BusyError("there is no room", hint="wait")

    def take(self, token: str) -> int | None:
        return None

    def discard(self) -> None:
        """Nothing."""


def test_the_end_where_nobody_keeps_what_is_mounted(root: Path, tmp_path: Path) -> None:
    """As without any keeper; and loop devices that were to stay do not."""
    with HostedStore.open(
        root, make_nodes=lambda devices: LoopNodes(devices, root / "run" / "fuse", NoKeeper())
    ) as host:
        (found,) = host.snapshots.prepare("work", "", {})
        (unused,) = host.snapshots.prepare("unused", "", {})
        (tmp_path / "mnt").mkdir()
        kernel.mount(found.source, tmp_path / "mnt", "ext4", options=[], read_only=False)
        (tmp_path / "mnt/file").write_bytes(b"x" * 100_000)
        subprocess.run(["sync", "-f", tmp_path / "mnt/file"], check=True)
    assert not (root / "run/fuse.json").exists()
    with pytest.raises((OSError, subprocess.CalledProcessError)):
        _write_through(tmp_path / "mnt/changed")
    kernel.unmount(tmp_path / "mnt", lazy=True)
    for each in found, unused:
        number = each.source.removeprefix("/dev/loop")
        wait_until(lambda number=number: loop.look(int(number)) is None)  # type: ignore[misc]
    with (
        HostedStore.open(root, make_nodes=lambda devices: LoopNodes(devices, root / "run" / "fuse")) as host,
        mounted(host.snapshots.mounts("work"), tmp_path / "again") as folder,
    ):
        assert (folder / "file").read_bytes() == b"x" * 100_000
    assert_sound(root)
