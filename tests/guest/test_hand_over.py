# SPDX-License-Identifier: Apache-2.0
"""A direct-lvm store used in turn by our two engines and by LVM2 with the kernel."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.fs.ext4.reader import Reader
from lamella.store import Store
from tests.guest import trees
from tests.guest.machine import (
    ROUNDS,
    Disk,
    assert_same_tree,
    change_tree,
    disk,
    dmsetup,
    mounted,
    run,
    thin_device,
)
from tests.support.images import Sample, make_tar, write_docker_archive
from tests.support.stores import metadata_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Mounts = Callable[[str], AbstractContextManager[Path]]
    """Mounts a container, by its name, for as long as a block lasts."""

GROUP = "hand-over"
POOL = "hand--over-pool"
"""The pool's device-mapper name."""
DISK = 1 << 30


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path / "disk", DISK, GROUP) as made:
        yield made


class Pair:
    """A store, its devices in the kernel, and the expected content of its containers."""

    def __init__(self, folder: Path, place: Disk) -> None:
        self.folder, self.root, self.place = folder, folder / "root", place
        self.chooser = random.Random(11)
        self.exports: dict[str, Path] = {}
        self.expected: dict[str, trees.Found] = {}
        self.transaction = 0
        options = [
            *(f"dm.directlvm_device={place.device}", "dm.thinp_percent=90", "dm.thinp_metapercent=2"),
            *(f"lamella.vg={GROUP}", "lamella.pool=pool", "dm.blocksize=64K", "dm.basesize=160M"),
            "dm.min_free_space=0%",
        ]
        layers = [
            make_tar({f"etc/file-{n}": os.urandom(3000 + 700 * n) for n in range(40)}),
            make_tar({"srv/data": os.urandom(3 << 20), "etc/.wh.file-7": b"", "etc/file-8": b"8\n"}),
        ]
        write_docker_archive(folder / "image", [Sample(layers=layers)])
        with Store.setup(self.root, storage_options=options, engine="user") as store:
            store.load(folder / "image")

    # -- the engines' side -----------------------------------------------------------------------

    @contextlib.contextmanager
    def store(self, engine: str) -> Iterator[Store]:
        """Open the store; the transaction id in the pool and in ``state.db`` is still the last one."""
        with Store.open(self.root, engine=engine) as store:
            assert store.engine == engine
            if self.transaction:
                assert self.ids(store) == (self.transaction, self.transaction)
            yield store
            pool, state = self.ids(store)
            assert pool == state
            self.transaction = pool
        if engine == "kernel":
            Store.deactivate(root=self.root)

    def ids(self, store: Store) -> tuple[int, int]:
        return store.devices.pool.transaction_id, store.devices.state.pool().transaction_id

    def needs_recovery(self, store: Store, name: str) -> bool:
        """Whether the container's file system was not unmounted, read from the device."""
        data = store.inspect(name)["GraphDriver"]["Data"]
        pool = store.devices.pool
        volume = pool.open_volume(int(data["DeviceId"]), int(data["DeviceSize"]), read_only=True)
        try:
            return Reader.open(volume).needs_recovery
        finally:
            volume.close()

    def thin_check(self) -> None:
        with metadata_file(self.root, self.folder) as metadata:
            run("thin_check", metadata)

    # -- the kernel's side -----------------------------------------------------------------------

    @contextlib.contextmanager
    def mounted_by_lvm2(self) -> Iterator[Mounts]:
        """The pool activated by LVM2's own command, and its containers by dmsetup."""
        with Store.open(self.root, engine="user", read_only=True) as store:
            data = {name: store.inspect(name)["GraphDriver"]["Data"] for name in self.exports}
        self.place.lvm("lvchange", "-ay", f"{GROUP}/pool")
        try:
            assert self.kernels_transaction() == self.transaction

            @contextlib.contextmanager
            def mount(name: str) -> Iterator[Path]:
                number, size = int(data[name]["DeviceId"]), int(data[name]["DeviceSize"])
                with (
                    thin_device(POOL, f"hand-over-{name}", number, size) as device,
                    mounted(device, self.folder / "mounted") as folder,
                ):
                    yield folder

            yield mount
            assert self.kernels_transaction() == self.transaction
            shown = self.place.lvm("lvs", "--noheadings", "-o", "transaction_id", f"{GROUP}/pool")
            assert shown.strip() == "0"  # LVM's: the pool is somebody else's
        finally:
            self.place.lvm("lvchange", "-an", f"{GROUP}/pool")

    @contextlib.contextmanager
    def mounted_by_lamella(self) -> Iterator[Mounts]:
        """The containers mounted by our kernel engine."""

        @contextlib.contextmanager
        def mount(name: str) -> Iterator[Path]:
            with Store.open(self.root, engine="kernel") as store:
                folder = store.mount(name)
            try:
                yield folder
            finally:
                Store.unmount(name, root=self.root)

        try:
            yield mount
            assert self.kernels_transaction() == self.transaction
        finally:
            Store.deactivate(root=self.root)

    def kernels_transaction(self) -> int:
        return int(dmsetup("status", POOL).split()[3])


def cut_off(folder: Path) -> None:
    """Cut the file system mounted at *folder* off from the pool: later writes are lost."""
    number = os.stat(folder).st_dev
    name = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/dm/name").read_text().strip()
    sectors = dmsetup("table", name).split()[1]
    dmsetup("suspend", "--noflush", "--nolockfs", name)
    dmsetup("load", name, "--table", f"0 {sectors} error")
    dmsetup("resume", name)


@pytest.mark.timeout(300 + 200 * ROUNDS)
@pytest.mark.parametrize("sides", [("user",), ("user", "kernel")], ids=["user-lvm2", "at-random"])
def test_rounds(tmp_path: Path, place: Disk, sides: tuple[str, ...]) -> None:
    """Each side changes containers, sometimes cut off before unmounting; the other reads the changes."""
    pair = Pair(tmp_path, place)
    chooser = pair.chooser
    for number in range(ROUNDS):
        name = f"box-{number}"
        with pair.store(chooser.choice(sides)) as store:
            source = chooser.choice([image.references[0] for image in store.images()])
            store.create(source, name=name)
            store.copy_in(name, _host_folder(tmp_path, chooser), b"/opt")
            if len(pair.exports) > 2:
                gone = chooser.choice(sorted(pair.exports))
                store.remove_container(gone)
                del pair.exports[gone], pair.expected[gone]
            with store.tree(name) as tree:
                pair.expected[name] = trees.of_store(tree)
            pair.exports[name] = tmp_path / f"{name}.tar"
            store.export(name, pair.exports[name])
        pair.thin_check()
        with {"user": pair.mounted_by_lvm2, "kernel": pair.mounted_by_lamella}[
            chooser.choice(sides)
        ]() as mount:
            for each in pair.exports:
                with mount(each) as folder:
                    assert trees.of_mount(folder) == pair.expected[each]
                    assert_same_tree(pair.exports[each], folder)
                    if each != name and chooser.random() < 0.5:
                        continue
                    change_tree(folder, chooser, f"{number}-{each}")
                    run("sync", "-f", folder)
                    pair.expected[each] = trees.of_mount(folder)
                    if each == name and number % 2:
                        cut_off(folder)
        pair.thin_check()
        with pair.store(chooser.choice(sides)) as store:
            assert pair.needs_recovery(store, name) == bool(number % 2)
            for each in pair.exports:
                with store.tree(each) as tree:
                    assert trees.of_store(tree) == pair.expected[each]
                store.export(each, pair.exports[each])
            if number % 3 == 0:
                store.commit(name, f"made:{number}")
            assert store.check().problems == []


def _host_folder(folder: Path, chooser: random.Random) -> Path:
    made = folder / f"host-{chooser.random()}"
    made.mkdir()
    for number in range(30):
        (made / f"ours-{number}").write_bytes(chooser.randbytes(chooser.randrange(20000)))
    return made
