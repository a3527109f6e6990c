# SPDX-License-Identifier: Apache-2.0
"""Power cuts: every write of a load, a commit and a removal, cut off after each one.

The pool's two devices are recorded, or the two disks that its volumes lie on; ``state.db``, which SQLite
makes durable by itself, is kept as it was after each of its transactions. A crash leaves the devices as
the recording says, with what was not flushed dropped, torn and reordered, and the ``state.db`` of that
moment.
"""

from __future__ import annotations

import hashlib
import io
import random
import shutil
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from lamella.block import FileDevice
from lamella.driver import backends
from lamella.driver.backend import PoolDevices
from lamella.driver.direct_lvm.backend import DirectLvm
from lamella.driver.loop_lvm.backend import LoopLvm
from lamella.driver.state import State
from lamella.store import Store
from lamella.store.catalog import Catalog
from lamella.thin.tools.check import check as check_metadata
from tests.support.images import Sample, make_tar, write_oci_layout
from tests.support.recording import Recording
from tests.support.stores import files_of, set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lamella.block import BlockDevice


class OnDevices(LoopLvm):
    """loop-lvm whose two devices are given."""

    given: dict[str, BlockDevice]

    def open(self, *, read_only: bool = False) -> PoolDevices:
        return PoolDevices(*self.given.values())

    def exists(self) -> bool:
        return True

    def host_space(self) -> None:
        return None


class Lasting(FileDevice):
    """Stays open when it is given up, for a command that opens the same disk several times."""

    def close(self) -> None:
        pass


@pytest.fixture
def on_devices(monkeypatch: pytest.MonkeyPatch, mode: str) -> Callable[[dict[str, BlockDevice]], None]:
    """From now on stores lie on these devices: path of the file that each one stands for, and device."""

    def use(devices: dict[str, BlockDevice]) -> None:
        if mode == "loop-lvm":
            monkeypatch.setattr(OnDevices, "given", devices, raising=False)
            monkeypatch.setitem(backends.MODES, mode, OnDevices)
        else:
            opened = partial(DirectLvm, opener=lambda path, read_only: devices[path])
            monkeypatch.setitem(backends.MODES, mode, opened)

    return use


def database_files(path: Path) -> dict[str, bytes]:
    """What is on the disk between two transactions: the file, and the log that a longer run keeps."""
    log = path.with_name(f"{path.name}-wal")
    return {each.name: each.read_bytes() for each in (path, log) if each.exists()}


def contents(store: Store) -> dict[str, str]:
    """Each image and container with a digest of its whole tree."""
    found = {}
    names = [name for image in store.images() for name in image.references]
    for name in [*names, *(container.name for container in store.containers())]:
        digest = hashlib.sha256()
        with store.tree(name) as tree:
            for entry in tree.walk():
                digest.update(repr(entry).encode())
                if entry.size:
                    digest.update(b"".join(tree.read(entry.path)))
        found[name] = digest.hexdigest()
    return found


def work(store: Store, layout: Path) -> Iterator[None]:
    """What is cut off; each step is finished at its ``yield``."""
    store.load(layout)
    yield
    store.create("sample", name="web")
    yield
    store.copy_in("web", io.BytesIO(make_tar({"etc/hostname": b"mine\n", "add": b"a" * 150_000})), b"/")
    yield
    store.commit("web", "mine")
    yield
    store.remove_container("web")
    yield
    store.remove_image("mine")
    yield


@pytest.mark.user_engine  # its writes are recorded; scripts/power_cuts.py cuts the kernel's off
@pytest.mark.slow
def test_power_cuts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    on_devices: Callable[[dict[str, BlockDevice]], None],
) -> None:
    root = tmp_path / "root"
    chance = random.Random(7)
    layers = [
        make_tar({"etc/": None, "etc/hostname": b"x", "data": chance.randbytes(200_000)}),
        make_tar({"etc/hostname": b"y" * 5000, "more/": None, **{f"more/{n}": b"z" * n for n in range(40)}}),
        make_tar({".wh.data": b"", "last": chance.randbytes(70_000)}),
    ]
    layout = write_oci_layout(tmp_path / "layout", [Sample(layers=layers)])
    set_up(root, mode).close()

    (tmp_path / "recording").mkdir()
    recording = Recording(tmp_path / "recording")
    files = [Lasting(path) for path in files_of(root)]
    on_devices({file.name: recording.wrap(file, file.name.replace("/", "_")) for file in files})
    recording.mark(("db", database_files(root / "state.db")))
    plain = State.transaction

    @contextmanager
    def noted(self: State, *, lazy: bool = False) -> Iterator[Any]:
        with plain(self, lazy=lazy) as connection:
            yield connection
        recording.mark(("db", database_files(self.path)))

    monkeypatch.setattr(State, "transaction", noted)
    with Store.open(root) as store:
        states = [contents(store)]
        for _ in work(store, layout):
            states.append(contents(store))
            recording.mark(("step", len(states) - 1))
    monkeypatch.setattr(State, "transaction", plain)

    seen = set()
    crashes = 0
    for crash in recording.crashes(chance, every=1):
        crashes += 1
        database = [value for kind, value in crash.finished if kind == "db"][-1]
        finished = max((value for kind, value in crash.finished if kind == "step"), default=0)
        place = tmp_path / "crashed"
        place.mkdir()
        (place / "run").mkdir()
        for name in ("config.toml", "direct-lvm.json", "devices"):
            if (root / name).exists():
                shutil.copy(root / name, place)
        for name, content in database.items():
            (place / name).write_bytes(content)
        on_devices(dict(zip((file.name for file in files), crash.devices.values(), strict=True)))
        with Store.open(place) as store:
            assert store.check().problems == [], crash.what
            found = contents(store)
            # Everything finished is there; of the step that was cut off there is all or nothing.
            assert found in states[finished : finished + 2], crash.what
            seen.add(states.index(found, finished))
            assert store.devices.state.note() is None
            known = {device.device_id for device in store.devices.state.devices()}
            report = check_metadata(store.devices.devices.metadata)
            assert report.problems == [], crash.what
            assert set(report.devices) == known, crash.what
            assert len(known) == 1 + len(Catalog(store.devices.state).layers()) + len(store.containers())
            if not crashes % 20:
                store.load(layout)
                assert store.check().problems == []
        shutil.rmtree(place)
    recording.close()
    for file in files:
        FileDevice.close(file)
    assert len(seen) > len(states) - 3  # a removal is decided before the pool hears of it
    assert crashes > 100
