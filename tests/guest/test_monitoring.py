# SPDX-License-Identifier: Apache-2.0
"""LVM2's dmeventd monitors the pool of a direct-lvm store while it is active, and extends it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.block import loop
from lamella.devicemapper.client import DeviceMapper
from lamella.lvm.activation import dmeventd
from lamella.lvm.activation.dmeventd import Monitor
from lamella.store import Store
from lamella.thin.status import PoolStatus, parse_status
from tests.guest.machine import dmsetup, no_activation_by_events, run, thin_device

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
GROUP = f"watched{os.getpid()}"
POOL = f"{GROUP}-thinpool"
STRANGER = 4000
"""A thin device that is not the store's."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A loop device. A daemon that the test has started is ended with it."""
    running = Monitor.reachable()
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(400 * MIB)
    with no_activation_by_events(), loop.attach(path, autoclear=False) as attached:
        try:
            yield attached.path
        finally:
            for name in ("stranger", "", "_tdata", "_tmeta"):
                name = name if name == "stranger" else POOL + name
                subprocess.run(["dmsetup", "remove", "--retry", name], check=False, capture_output=True)
            subprocess.run(["losetup", "-d", attached.path], check=False)
            for profile in Path("/etc/lvm/profile").glob(f"{GROUP}-*"):
                profile.unlink()
            if not running:
                with suppress(OSError):
                    os.kill(int(Path("/run/dmeventd.pid").read_text()), signal.SIGTERM)


def status() -> PoolStatus:
    with DeviceMapper() as dm:
        return parse_status(dm.status(POOL, flush=False)[0].text)


def options(disk: str) -> list[str]:
    return [
        *(f"dm.directlvm_device={disk}", f"lamella.vg={GROUP}", "dm.thinp_percent=20"),
        *("dm.thinp_metapercent=2", "dm.basesize=64M", "dm.blocksize=64K"),
    ]


def test_the_pool_of_a_store_is_watched_and_grows(disk: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with Store.setup(root, mode="direct-lvm", storage_options=options(disk), engine="kernel") as store:
        assert not [line for line in store.warnings if "monitor" in line]
    assert run("lvs", "--noheadings", "-o", "seg_monitor", f"{GROUP}/thinpool").strip() == "monitored"
    with DeviceMapper() as dm:
        uuid = dm.info(POOL).uuid
    before = status()
    wanted = before.total_data * 17 // 20 - before.used_data
    dmsetup("message", POOL, "0", f"create_thin {STRANGER}")
    with thin_device(POOL, "stranger", STRANGER, 96 * MIB) as node:
        run("dd", "if=/dev/zero", f"of={node}", "bs=64K", f"count={wanted}", "oflag=direct")
        end = time.monotonic() + 120
        while status().total_data == before.total_data:
            assert time.monotonic() < end, "the pool did not grow"
            time.sleep(0.2)
    dmsetup("message", POOL, "0", f"delete {STRANGER}")
    # 20 per cent more, in whole extents of 4 MiB.
    assert status().total_data == -(-before.total_data * 6 // 5 // 64) * 64
    with Store.open(root, engine="kernel") as store:
        assert store.info().data_total == status().total_data << 16
    Store.deactivate(root=root)
    with Monitor() as daemon:
        assert not daemon.is_registered(uuid)
    with Store.open(root, engine="user") as store:
        assert not store.check().problems
        store.teardown(force=True)


def test_without_the_daemon_there_is_a_warning(
    disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    monkeypatch.setattr(dmeventd, "RUN", tmp_path)
    monkeypatch.setattr(dmeventd.set_monitored, "__defaults__", (tmp_path,))
    monkeypatch.setattr(dmeventd.listening, "__defaults__", (tmp_path, "no-such-program"))
    with Store.setup(root, mode="direct-lvm", storage_options=options(disk), engine="kernel") as store:
        said = store.warnings
    assert f"WARNING: Failed to monitor {GROUP}/thinpool: dmeventd is not installed." in said
    assert f"WARNING: {GROUP}/thinpool does not grow by itself when it is 80% full." in said
    Store.deactivate(root=root)
    with Store.open(root, engine="user") as store:
        store.teardown(force=True)
