# SPDX-License-Identifier: Apache-2.0
"""LVM2's event-based activation of a new volume group, at any moment of a set-up."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamella.driver.direct_lvm.backend import DirectLvm
from lamella.lvm.session.session import Session
from lamella.store import Store
from lamella.store.pool_only import make_pool
from tests.guest.machine import run
from tests.support.images import Sample, write_oci_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = "events"
OPTIONS = (
    *("dm.thinp_percent=80", "dm.thinp_metapercent=2", "dm.blocksize=64K", "dm.basesize=64M"),
    *("dm.min_free_space=0%", f"lamella.vg={GROUP}"),
)
MOMENTS = ((Session, "commit"), (Session, "close"), (DirectLvm, "create"), (DirectLvm, "open"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A loop device: udev's rules activate its volume group at the first change."""
    file = tmp_path / "disk"
    with file.open("wb") as stream:
        stream.truncate(512 << 20)
    device = run("losetup", "--find", "--show", file).strip()
    yield device
    run("udevadm", "settle")
    subprocess.run(["vgchange", "-an", GROUP], check=False, capture_output=True)
    run("losetup", "--detach", device)


@contextmanager
def activated_at_every_moment(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """After each step of the set-up run the command of udev's rule until it ends or waits for a lock."""
    started: list[subprocess.Popen[bytes]] = []

    def followed(step: Any) -> Any:
        def wrapped(*words: Any, **named: Any) -> Any:
            result = step(*words, **named)
            started.append(
                subprocess.Popen(
                    ["vgchange", "-aay", "--autoactivation", "event", GROUP],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"},
                )
            )
            while started[-1].poll() is None and not _waits_for_a_lock(started[-1].pid):
                time.sleep(0.005)
            return result

        return wrapped

    for owner, name in MOMENTS:
        monkeypatch.setattr(owner, name, followed(getattr(owner, name)))
    try:
        yield started
    finally:
        monkeypatch.undo()
        for process in started:
            process.wait()


def _waits_for_a_lock(process: int) -> bool:
    """Lines such as "7: -> FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF" (proc_locks(5))."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(words[1] == "->" and int(words[5]) == process for words in lines)


@pytest.mark.parametrize("engine", ["kernel", "user"])
def test_a_set_up(tmp_path: Path, disk: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [*OPTIONS, f"dm.directlvm_device={disk}"]
    layout = write_oci_layout(tmp_path / "layout", [Sample()])
    with activated_at_every_moment(monkeypatch) as started:
        store = Store.setup(tmp_path / "root", storage_options=options, engine=engine)
    assert len(started) > 6
    with store:
        store.load(layout)
        store.create("sample", name="box")
        assert store.check().problems == []
    with activated_at_every_moment(monkeypatch), Store.open(tmp_path / "root", engine="kernel") as store:
        assert [box.name for box in store.containers()] == ["box"]
        store.teardown(force=True)


def test_a_pool_for_others(tmp_path: Path, disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with activated_at_every_moment(monkeypatch):
        name = make_pool(tmp_path / "root", storage_options=[*OPTIONS, f"dm.directlvm_device={disk}"])
    run("vgchange", "-ay", GROUP)
    assert " rw " in run("dmsetup", "status", name)
    run("vgremove", "-ff", "-y", GROUP)


@pytest.mark.parametrize("after", range(1, 8))
def test_a_set_up_that_was_cut_short(
    tmp_path: Path, disk: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volumes made until then are active when the next set-up continues."""
    options = [*OPTIONS, f"dm.directlvm_device={disk}"]
    calls = []
    commit = Session.commit

    def killed(*words: Any, **named: Any) -> None:
        calls.append(1)
        if len(calls) > after:
            os._exit(9)
        commit(*words, **named)

    child = os.fork()
    if not child:
        monkeypatch.setattr(Session, "commit", killed)
        Store.setup(tmp_path / "root", storage_options=options, engine="kernel").close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] in (0, 9 << 8)
    subprocess.run(["vgchange", "-aay", GROUP], check=False, capture_output=True)
    with Store.setup(tmp_path / "root", storage_options=options, engine="kernel") as store:
        assert store.check().problems == []
        store.teardown(force=True)
