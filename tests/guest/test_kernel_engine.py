# SPDX-License-Identifier: Apache-2.0
"""The kernel engine: the same results as the user engine, no stale data, and no leftovers of a kill."""

from __future__ import annotations

import os
import random
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, mountinfo
from lamella.devicemapper.client import DeviceMapper
from lamella.driver import backends
from lamella.driver.kernel_devices import deactivate_all, of_store
from lamella.driver.kernel_engine import KernelEngine
from lamella.errors import BusyError
from lamella.store import Store
from lamella.store.catalog import Catalog
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.metadata.reader import Metadata
from tests.guest.machine import run
from tests.support.images import Sample, write_docker_archive
from tests.support.kernel_pool import CHUNK, OLD, dirty_files, kernel_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from lamella.thin.interface import ThinPool as EitherPool

SMALL = ("dm.basesize=64M", "dm.loopdatasize=192M", "dm.loopmetadatasize=4M", "dm.min_free_space=0%")


# -- the pool alone ----------------------------------------------------------------------------------


def do_at_random(pool: EitherPool, seed: int) -> dict[int, bytes]:
    """Send messages and write at random, by *seed*; gives the expected content of each device."""
    pick = random.Random(seed)
    size = 24 * CHUNK
    contents: dict[int, bytearray] = {}
    for number in range(1, 31):
        what = pick.choice(["create", "snap", "write", "write", "write", "discard", "zeros", "delete"])
        chosen = pick.choice(sorted(contents)) if contents else 0
        if what == "create" or not contents:
            pool.create_thin(number)
            contents[number] = bytearray(size)
        elif what == "snap":
            pool.create_snap(number, chosen)
            contents[number] = bytearray(contents[chosen])
        elif what == "delete" and len(contents) > 2:
            pool.delete(chosen)
            del contents[chosen]
        else:
            volume = pool.open_volume(chosen, size, zero_fresh=True)
            for _ in range(4):
                offset = pick.randrange(size)
                length = pick.choice([1, 700, 4096, CHUNK, 3 * CHUNK])
                length = min(length, size - offset)
                model = contents[chosen]
                if what == "discard":
                    first, last = -(-offset // CHUNK) * CHUNK, (offset + length) // CHUNK * CHUNK
                    volume.discard(offset, length)
                    model[first : max(first, last)] = bytes(max(0, last - first))
                elif what == "zeros":
                    volume.write_zeros(offset, length)
                    model[offset : offset + length] = bytes(length)
                else:
                    data = bytes([number]) * length
                    volume.write(offset, data)
                    model[offset : offset + length] = data
            volume.flush()
            assert volume.read(0, size) == contents[chosen]
            volume.close()
    pool.set_transaction_id(0, seed + 1)
    pool.commit()
    return {dev_id: bytes(content) for dev_id, content in contents.items()}


def shape(metadata: Path) -> tuple[int, dict[int, Any]]:
    """The whole metadata, with data blocks numbered in order of appearance."""
    with FileDevice(metadata, read_only=True, lock=False) as device:
        found = Metadata.open(device)
        found.load()
        names: dict[int, int] = {}
        devices = {}
        for dev_id, details in found.details.items():
            keys, values = found.mappings(dev_id)
            blocks = [
                (key, names.setdefault(value >> 24, len(names)))
                for key, value in zip(keys.tolist(), values.tolist(), strict=True)
            ]
            devices[dev_id] = (tuple(details), blocks)
        return found.superblock.transaction_id, devices


def test_both_engines_make_the_same_of_the_same(tmp_path: Path) -> None:
    for seed in (int(os.environ.get("LAMELLA_SEED", "1")),):
        with kernel_pool(tmp_path / f"kernel{seed}", f"lamella-test-same-{os.getpid()}") as pool:
            wanted = do_at_random(pool, seed)
            assert set(pool.devices()) == pool.device_ids() == set(wanted)
        folder = tmp_path / f"user{seed}"
        with (
            dirty_files(folder) as (metadata, data),
            Pool.open(metadata, data, options=PoolOptions(zero=False)) as own,
        ):
            assert do_at_random(own, seed) == wanted
        assert shape(tmp_path / f"kernel{seed}" / "metadata") == shape(folder / "metadata")
        run("thin_check", "-q", str(tmp_path / f"kernel{seed}" / "metadata"))
        with (
            FileDevice(tmp_path / f"kernel{seed}" / "metadata") as metadata,
            FileDevice(tmp_path / f"kernel{seed}" / "data") as data,
            Pool.open(metadata, data, options=PoolOptions(zero=False)) as own,
        ):
            for dev_id, content in wanted.items():
                with own.open_volume(dev_id, len(content), read_only=True) as volume:
                    assert volume.read(0, len(content)) == content


# -- a store -----------------------------------------------------------------------------------------


def take_down(root: Path) -> None:
    with DeviceMapper() as dm:
        deactivate_all(dm, backends.backend("loop-lvm", root), root)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_docker_archive(tmp_path / "docker.tar", [Sample()])


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A small store, active in the kernel."""
    place = tmp_path / "root"
    try:
        Store.setup(place, engine="kernel", storage_options=SMALL).close()
        yield place
    finally:
        with ExitStack() as stack:
            stack.callback(take_down, place)
            for mounted in mountinfo.mounts():
                if mounted.point.startswith(str(tmp_path)):
                    run("umount", mounted.point)


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Run *work* in a process killed at its *number*-th device-mapper call; False if it made fewer."""
    process = os.fork()
    if not process:
        code = 1
        try:
            real, calls = DeviceMapper._call, 0

            def counted(self: DeviceMapper, *words: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(self, *words, **named)

            DeviceMapper._call = counted  # type: ignore[method-assign]
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def device_of(store: Store, name: str) -> str:
    """The name of a container's device."""
    return Catalog(store.devices.state).find_container(name).device


def assert_consistent(root: Path) -> None:
    """No unfinished operation is left in the record, the pool or the kernel."""
    with Store.open(root) as store:
        devices = store.devices
        assert isinstance(devices.engine, KernelEngine)
        kernel = devices.engine.kernel
        assert devices.state.note() is None
        assert devices.unknown_devices() == ([], [])
        assert kernel.temporaries.ids() == set()
        assert devices.pool.status().held_root == 0
        active = {info.name: info for info in of_store(kernel.dm, root)}
        assert not [name for name, info in active.items() if info.uuid or info.suspended]


def test_a_kill_at_any_call_leaves_nothing_behind(root: Path, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("copied\n")

    def command(work: Callable[[Store], object]) -> Callable[[], object]:
        def done() -> None:
            with Store.open(root) as store:
                work(store)

        return done

    def boxes(store: Store) -> list[str]:
        return [box.name for box in store.containers()]

    def copied(store: Store) -> bool:
        with store.tree("box") as tree:
            return "copied" in [entry.path.rpartition(b"/")[2].decode() for entry in tree.ls(b"/etc")]

    def names(store: Store) -> list[str]:
        return [name for image in store.images() for name in image.references]

    # The command, whether it is finished, and the calls at which to kill it; the first are those of opening.
    steps: list[tuple[Callable[[Store], object], Callable[[Store], bool], tuple[int, ...]]] = [
        (lambda store: store.load(archive), lambda store: bool(names(store)), (40, 80)),
        (lambda store: store.create("sample", name="box"), lambda store: "box" in boxes(store), (26,)),
        (lambda store: store.copy_in("box", tmp_path / "file", b"/etc/copied"), copied, (34, 50)),
        (lambda store: store.commit("box", "mine:1"), lambda store: "mine:1" in names(store), (50,)),
        (lambda store: store.remove_container("box"), lambda store: "box" not in boxes(store), (27,)),
    ]
    kills = 0
    for work, is_done, numbers in steps:
        for number in numbers:
            kills += killed_at(number, command(work))
            assert_consistent(root)
            with Store.open(root) as store:
                if is_done(store):
                    break
        else:
            command(work)()
        with Store.open(root, read_only=True) as store:
            assert is_done(store)
    assert kills >= len(steps)
    take_down(root)
    run("thin_check", "-q", str(root / "pool/metadata"))
    with Store.open(root, engine="user") as store:
        assert store.check().problems == []
        assert "mine:1" in names(store)


def test_no_container_sees_old_bytes(root: Path, archive: Path, tmp_path: Path) -> None:
    take_down(root)
    with FileDevice(root / "pool/data") as data:
        with (
            FileDevice(root / "pool/metadata") as metadata,
            Pool.open(metadata, data, options=PoolOptions(zero=False), read_only=True) as pool,
        ):
            used = pool.status().used_data
        # The pool allocates the first free chunks: these are more than are needed here.
        data.write(used * CHUNK, bytes([OLD]) * (24 << 20))
        data.flush()
    (tmp_path / "file").write_bytes(b"x" * 5000)
    with Store.open(root) as store:
        store.load(archive)
        store.create("sample", name="box", size=(80 << 20) + 512)
        store.copy_in("box", tmp_path / "file", b"/etc/copied")
        with store.devices.volume(device_of(store, "box")) as volume:
            for offset, length in volume.data_ranges():
                assert bytes([OLD]) * 16 not in volume.read(offset, length)
        node = store.devices.activate(device_of(store, "box"))
        run("e2fsck", "-fn", str(node))
    take_down(root)


def test_a_mounted_container_is_read_as_it_is_and_not_written(
    root: Path, archive: Path, tmp_path: Path
) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    with Store.open(root) as store:
        store.load(archive)
        store.create("sample", name="box")
        device = device_of(store, "box")
        node = store.devices.activate(device)
    run("mount", str(node), str(mounted))
    (mounted / "by-the-kernel").write_text("by the kernel\n")

    def read_and_die() -> None:
        with Store.open(root, read_only=True) as store, store.devices.volume(device):
            os.kill(os.getpid(), signal.SIGKILL)

    def hold_and_die() -> None:
        with Store.open(root, read_only=True) as store, store.devices.pool.metadata_view():
            os.kill(os.getpid(), signal.SIGKILL)

    assert killed_at(0, read_and_die)
    assert killed_at(0, hold_and_die)
    with Store.open(root, read_only=True) as store:
        with store.tree("box") as tree:
            assert b"".join(tree.read(b"/by-the-kernel")) == b"by the kernel\n"
        assert "A /by-the-kernel" in [str(change) for change in store.diff("box")]
    with Store.open(root) as store:
        with pytest.raises(BusyError, match=str(mounted)):
            store.copy_in("box", archive, b"/archive")
        assert store.devices.pool.device_ids() == {each.device_id for each in store.devices.state.devices()}
    with pytest.raises(BusyError, match="active in the kernel"), Store.open(root, engine="user") as store:
        store.info()
    with pytest.raises(BusyError, match="in use"):
        take_down(root)
    run("umount", str(mounted))
    take_down(root)
    with Store.open(root, engine="user") as store, store.tree("box") as tree:
        assert b"".join(tree.read(b"/by-the-kernel")) == b"by the kernel\n"
