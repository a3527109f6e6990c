# SPDX-License-Identifier: Apache-2.0
"""LVM2's hints in ``/run/lvm``: our commands leave the same, so that LVM2 finds our groups."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.cli.lvm import main_lvm
from lamella.store import Store
from tests.guest.machine import no_activation_by_events, run

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = Path("/run/lvm")
PLAIN = "backup { backup=0 archive=0 } activation { monitoring=0 udev_sync=0 udev_rules=0 }"
GROUP = "hintsvg"


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[list[str]]:
    """Two loop devices, with udev's queue stopped, as its rules scan every written disk with LVM2."""
    made: list[str] = []
    with no_activation_by_events():
        run("udevadm", "settle")
        run("udevadm", "control", "--stop-exec-queue")
        try:
            for number in range(2):
                path = tmp_path / f"disk{number}"
                with path.open("wb") as file:
                    file.truncate(448 << 20)
                made.append(run("losetup", "-f", "--show", path).strip())
            yield made
        finally:
            run("udevadm", "control", "--start-exec-queue")
            names = run("dmsetup", "ls").splitlines()
            for name in sorted((line.split()[0] for line in names), key=len, reverse=True):
                if name.startswith(GROUP):
                    subprocess.run(["dmsetup", "remove", "--retry", name], check=False)
            for device in made:
                subprocess.run(["losetup", "-d", device], check=False)
            run("udevadm", "settle")
            for path in RUN.glob("*hints"):
                path.unlink()


@contextmanager
def without_udev(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Do not wait for udev, as its queue is stopped."""
    from lamella.devicemapper import nodes

    with monkeypatch.context() as changed:
        changed.setattr(nodes, "udev_runs", lambda: False)
        yield


def state() -> tuple[str, set[str]]:
    """The hints without the line on their writer, and the names of the files."""
    hints = (RUN / "hints").read_text() if (RUN / "hints").exists() else ""
    return hints.partition("\n")[2], {path.name for path in RUN.glob("*hints")}


def given() -> None:
    """Write valid hints."""
    before, files = state()
    if not before or files != {"hints"}:
        run("lvs", "--config", PLAIN)


@pytest.mark.parametrize("there", [True, False])
def test_each_command_leaves_what_that_of_lvm2_leaves(disks: list[str], tmp_path: Path, there: bool) -> None:
    """All commands with hints; without hints only those that create and remove a group."""
    RUN.mkdir(exist_ok=True)
    whole = (
        "pvcreate {disk}", "pvchange --uuid {disk}", "vgcreate {vg} {disk}", "pvresize {disk}",
        "pvchange -x n {disk}", "vgchange --uuid {vg}", "vgcfgbackup -f {backup} {vg}",
        "vgcfgrestore -f {backup} {vg}", "vgrename {vg} {vg}-2", "vgexport {vg}-2", "vgimport {vg}-2",
        "pvscan --cache --config global/event_activation=1 {disk}", "vgreduce {vg}-2 {disk}",
        "vgextend --test {vg}-2 {disk}", "vgremove --nohints {vg}-2",
        "pvremove --config devices/hints=\"none\" {disk}", "pvcreate --nolocking {disk}",
        "pvremove --devices {disk} {disk}", "vgremove {vg}",
    )  # fmt: skip
    lines = whole if there else ("vgcreate {vg} {disk}", "pvchange -x n {disk}", "vgremove {vg}")
    for line in lines:
        left = []
        for disk, program in zip(disks, ("theirs", "ours"), strict=True):
            words = line.format(disk=disk, vg=f"{GROUP}-{program}", backup=tmp_path / program).split()
            if there:
                given()
            else:
                for path in RUN.glob("*hints"):
                    path.unlink()
            before, _ = state()
            config = PLAIN
            if "--config" in words:
                at = words.index("--config")
                config += " " + words[at + 1]
                del words[at : at + 2]
            argv = ["--config", config, *words[1:]]
            if program == "ours":
                code = main_lvm(words[0], argv)
            else:
                code = subprocess.run(
                    ["/sbin/" + words[0], *argv], check=False, stdin=subprocess.DEVNULL
                ).returncode
            after, files = state()
            left.append((code, after == before, after == "", files))
        assert left[0] == left[1], line


def test_lvm2_finds_what_set_up_has_made(
    disks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hints from before the set-up, and from before the teardown."""
    root, name = tmp_path / "root", f"{GROUP}/pool"
    config = ("--config", PLAIN)
    options = [f"dm.directlvm_device={disks[0]}", f"lamella.vg={GROUP}", "lamella.pool=pool"]
    run("pvcreate", *config, disks[1])
    given()
    assert f"scan:{disks[1]} " in state()[0]
    try:
        with without_udev(monkeypatch):
            Store.setup(root, storage_options=options, mode="direct-lvm", engine="user").close()
        assert "pool" in run("lvs", *config, "-o", "lv_name", GROUP)
        assert f"vg:{GROUP}\n" in state()[0]
        run("lvchange", *config, "-ay", name)
        assert "thin-pool" in run("dmsetup", "table", f"{GROUP}-pool")
        run("lvchange", *config, "-an", name)
    finally:
        with Store.open(root, engine="user") as store:
            store.teardown()
    assert GROUP not in run("vgs", *config)
    assert "vg:-" in state()[0]
    assert f"scan:{disks[0]} " not in state()[0]
