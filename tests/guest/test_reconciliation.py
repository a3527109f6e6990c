# SPDX-License-Identifier: Apache-2.0
"""Leftovers of killed processes and foreign changes in the kernel: the next command repairs or explains."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lamella.block import loop
from lamella.devicemapper.client import DeviceMapper, own_major
from lamella.devicemapper.ioctl import Command
from lamella.devicemapper.nodes import QUIET_COOKIE, make_name, mapper_path
from lamella.devicemapper.table import Thin, Zero
from lamella.driver.device_names import device_name, pool_name
from lamella.driver.kernel_devices import of_store
from lamella.driver.state import State
from lamella.errors import BusyError
from lamella.fs.mounted import mount as mounts
from lamella.store import Store
from tests.guest.machine import wait_for
from tests.guest.stores_in_kernel import helper, kernel_store, mount_points, names_in_kernel, write

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHANGING = {
    Command.DEV_CREATE,
    Command.TABLE_LOAD,
    Command.DEV_SUSPEND,
    Command.DEV_REMOVE,
    Command.TABLE_CLEAR,
    Command.TARGET_MSG,
    Command.DEV_RENAME,
}
"""Commands that change state in the kernel (a resume is DEV_SUSPEND too)."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with kernel_store(tmp_path_factory.mktemp("reconciling")) as path:
        with Store.open(path, engine="kernel") as store:
            store.create("sample", name="box")
        yield path


@pytest.fixture
def dm() -> Iterator[DeviceMapper]:
    with DeviceMapper() as opened:
        yield opened


def opened(root: Path) -> list[str]:
    """Open the store for writing; gives its warnings but the one about loop devices."""
    with Store.open(root, engine="kernel") as store:
        store.devices.verify_base()
        return [text for text in store.warnings if "loopback devices" not in text]


def box(root: Path) -> str:
    with Store.open(root, engine="kernel", read_only=True) as store:
        [found] = store.containers()
        return device_name(root, found.id)


def assert_consistent(root: Path) -> None:
    with Store.open(root, engine="kernel") as store:
        assert_store_is_consistent(root, store)


def assert_store_is_consistent(root: Path, store: Store) -> None:
    """The state of the kernel and the record just after a writer has opened the store."""
    assert store.devices.unknown_devices() == ([], [])
    assert [text for text in store.warnings if "loopback devices" not in text] == []
    with DeviceMapper() as dm:
        for info in of_store(dm, root):
            assert info.live_table, info
            assert not info.suspended, info
            assert not info.inactive_table, info
            assert not info.uuid.startswith("LAMELLA-"), info
            assert os.stat(mapper_path(info.name)).st_rdev == os.makedev(info.major, info.minor)
    prefix = pool_name(root).removesuffix("pool")
    for name in os.listdir("/dev/mapper"):
        if name.startswith(prefix):
            assert os.path.exists(f"/dev/mapper/{name}"), name


def test_suspended_half_made_and_half_reloaded(root: Path, dm: DeviceMapper) -> None:
    name = box(root)
    with Store.open(root, engine="kernel") as store:
        store.activate(["box"])
        device = store.devices.get(store.containers()[0].id)
        table = store.devices.pool.table_for(device.device_id, device.size)  # type: ignore[attr-defined]
    dm.suspend(name)
    assert_consistent(root)
    dm.load(name, [table])
    assert_consistent(root)
    dm.load(name, [table])
    dm.suspend(name)
    assert_consistent(root)
    dm.suspend(pool_name(root), flush=False)
    assert_consistent(root)
    Store.deactivate(["box"], root=root)
    dm.create(name)
    assert_consistent(root)
    assert names_in_kernel(root) == {"pool"}


def test_devices_and_names_that_nothing_accounts_for(root: Path, dm: DeviceMapper) -> None:
    name, stray = box(root), device_name(root, "5" * 64)
    pool = dm.info(pool_name(root))
    with Store.open(root, engine="kernel") as store:
        base = store.devices.get("base")
    # Without udev, which may come so late that the next device already has the number.
    # Active without a row; a row's name on another device; a name without a device, and one without a name.
    info = dm.create_with_table(
        stray, [Thin(0, 2048, pool=pool.number, device_id=base.device_id)], cookie=QUIET_COOKIE
    )
    make_name(stray, info.major, info.minor)
    dm.create_with_table(
        name, [Thin(0, base.size // 512, pool=pool.number, device_id=base.device_id)], cookie=QUIET_COOKIE
    )
    gone = device_name(root, "6" * 64)
    make_name(gone, own_major(), 4000)
    assert_consistent(root)
    assert names_in_kernel(root) == {"pool"}
    assert not os.path.lexists(mapper_path(gone))
    with Store.open(root, engine="kernel") as store:
        store.activate(["box"])
    mapper_path(name).unlink()
    assert_consistent(root)
    Store.deactivate(["box"], root=root)
    # The same while it is open: it is left, with a warning.
    dm.create_with_table(stray, [Zero(0, 2048)], cookie=QUIET_COOKIE)
    with helper("device = open(sys.argv[1], 'rb')", f"/dev/dm-{dm.info(stray).minor}") as process:
        [warning] = opened(root)
        assert "state.db has no such device" in warning
        assert f"open in process {process}" in warning
    assert_consistent(root)


def test_a_busy_device(root: Path, dm: DeviceMapper) -> None:
    name = box(root)
    with Store.open(root, engine="kernel") as store:
        [_, node] = store.activate(["box"])
    with helper("device = open(sys.argv[1], 'rb')", node) as process:
        for wanted in (["box"], []):
            with pytest.raises(BusyError, match=f"open in process {process}"):
                Store.deactivate(wanted, root=root)
        with Store.open(root, engine="kernel") as store, pytest.raises(BusyError, match=f"process {process}"):
            store.resize("box", 1 << 20, more=True)
        assert dm.find(name) is not None
    Store.deactivate(["box"], root=root)
    assert_consistent(root)


def test_loop_devices_gone_or_twice(root: Path) -> None:
    data = root / "pool" / "data"
    [info] = loop.find(data)
    assert not loop.detach(info)  # the pool has it open: it goes with the pool
    assert_consistent(root)
    backing = os.open(data, os.O_RDWR)
    control = os.open(loop.CONTROL, os.O_RDWR)
    try:
        second = loop._attach_new(control, str(data), backing, loop.LO_FLAGS_AUTOCLEAR, 0)
    finally:
        os.close(backing)
        os.close(control)
    with second:
        [warning] = opened(root)
        assert f"attached to {second.path} as well" in warning
    assert wait_for(lambda: len(loop.find(data)) == 1)  # udev may be the last one who has it open
    assert_consistent(root)


class Steps:
    """Counts the persistent changes that a process makes, and kills it just before one of them.

    They are the kernel's devices, mounts, commits of ``state.db``, and names of the store's and of devices.
    """

    def __init__(self, last: int, root: Path) -> None:
        self.left = last
        self.places = (f"{root}/", "/dev/mapper/")

    def step(self) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

    def count(self) -> None:
        """Start counting, for the rest of this process."""
        real = DeviceMapper._call
        commit = State.transaction

        def call(client: DeviceMapper, command: Command, *rest: Any, **more: Any) -> Any:
            if command in CHANGING:
                self.step()
            return real(client, command, *rest, **more)

        @contextmanager
        def transaction(state: State, *words: Any, **more: Any) -> Iterator[sqlite3.Connection]:
            with commit(state, *words, **more) as connection:
                yield connection
                self.step()

        # In a child process, which is killed: the patches do not reach other tests.
        DeviceMapper._call = call  # type: ignore[assignment, method-assign]
        State.transaction = transaction  # type: ignore[assignment, method-assign]
        for name in ("_mount", "_umount"):
            setattr(mounts, name, self.stepping(getattr(mounts, name)))
        sys.addaudithook(self.on_names)

    def stepping(self, function: Callable[..., None]) -> Callable[..., None]:
        def stepped(*words: object) -> None:
            self.step()
            function(*words)

        return stepped

    def on_names(self, event: str, words: tuple[object, ...]) -> None:
        if event in ("os.mkdir", "os.rmdir", "os.symlink", "os.remove", "os.rename"):
            paths = [os.fsdecode(word) for word in words if isinstance(word, (str, os.PathLike))]
            if any(path.startswith(self.places) for path in paths):
                self.step()


def killed_before(step: int, root: Path, work: Callable[[Path], object]) -> bool:
    """Run *work* in a process that is killed before its *step*-th change; False if it made fewer."""
    child = os.fork()
    if child == 0:
        try:
            Steps(step, root).count()
            work(root)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status != 0


def is_mounted(root: Path) -> bool:
    """Whether "box" is mounted; the mount of the folder of mount points may be left by a kill."""
    return any(point.startswith(f"{root}/mnt/") for point in mount_points(root))


def mounting(root: Path) -> None:
    with Store.open(root, engine="kernel") as store:
        store.mount("box")


def unmounting(root: Path) -> None:
    Store.unmount("box", root=root)


def growing(root: Path) -> None:
    with Store.open(root, engine="kernel") as store:
        store.resize("box", 1 << 20, more=True)


def copying(root: Path) -> None:
    with Store.open(root, engine="kernel") as store:
        store.copy_in("box", root / "config.toml", b"/etc/copied")


def removing(root: Path) -> None:
    with Store.open(root, engine="kernel") as store:
        store.create("sample", name="short-lived")
        store.remove_container("short-lived", force=True)


@pytest.mark.parametrize(
    ("work", "mounted"),
    [(mounting, False), (unmounting, True), (growing, True), (copying, False), (removing, False)],
    ids=["mount", "umount", "resize", "cp", "create and rm"],
)
def test_killed_at_each_step(root: Path, work: Callable[[Path], None], mounted: bool) -> None:
    with Store.open(root, engine="kernel") as store:
        write(store.mount("box") / "kept", b"kept")
    # The long ones at every second change in what runs each time: emulation takes a second for each.
    stride = 2 if work in (growing, copying) and "CI" in os.environ else 1
    step = 0
    killed = True
    while killed:
        if mounted and not is_mounted(root):
            mounting(root)
        elif not mounted and is_mounted(root):
            unmounting(root)
        step += stride
        killed = killed_before(step, root, work)
        with Store.open(root, engine="kernel", read_only=True) as store, store.tree("box") as tree:
            assert b"".join(tree.read(b"/kept")) == b"kept"
        with Store.open(root, engine="kernel") as store:
            assert_store_is_consistent(root, store)
            if any(each.name == "short-lived" for each in store.containers()):
                store.remove_container("short-lived")
        assert step < 99
    assert step > 1
    if is_mounted(root):
        unmounting(root)
    with Store.open(root, engine="kernel") as store:
        store.devices.deactivate(store.containers()[0].id)
        assert store.check().problems == []
    assert names_in_kernel(root) == {"pool"}
