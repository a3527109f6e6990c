# SPDX-License-Identifier: Apache-2.0
"""Changes to LVM2's devices file lose no entry, and a name alone is no proof: lvmdevices(8), lvm.conf(5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.cli.lvm.context import Context
from lamella.lvm.disks.scan import Scan
from lamella.lvm.session.system_devices import Entry, SystemDevices
from tests.lvm.differential.disks import Disks
from tests.lvm.differential.programs import ours
from tests.lvm.differential.there import look

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALL = "devices/search_for_devnames=all"


@pytest.fixture
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    made = Disks(tmp_path_factory.mktemp("disks"), 3)
    conf = made.etc / "lvm.conf"
    # without a filter, which has no effect beside a devices file
    kept = conf.read_text().partition(" filter=")[0] + " }\n"
    conf.write_text(kept.replace("use_devicesfile=0", "use_devicesfile=1"))
    (made.etc / "devices").mkdir()
    (made.etc / "devices" / "system.devices").touch()
    yield made
    made.close()


def _entered(disks: Disks) -> list[str]:
    text = (disks.etc / "devices" / "system.devices").read_text()
    return [line.partition("DEVNAME=")[2].split()[0] for line in text.splitlines() if "DEVNAME" in line]


def test_what_another_command_enters_meanwhile_stays(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, _c = disks.devices
    update = Context._update_devices_file

    def other_first(self: Context) -> None:
        if self.name == "pvcreate":
            assert ours(["lvmdevices", "--adddev", b], disks.around).code == 0
        update(self)

    monkeypatch.setattr(Context, "_update_devices_file", other_first)
    assert ours(["pvcreate", a], disks.around).code == 0
    assert sorted(_entered(disks)) == sorted([a, b])


def test_a_disk_that_is_there_twice_is_not_chosen(disks: Disks) -> None:
    """The words are those of LVM2 2.03.16; which copy is meant is the user's to say."""
    a, b, c = disks.devices
    assert ours(["vgcreate", "vg", a], disks.around).code == 0
    assert ours(["lvmdevices", "--adddev", a, "--deviceidtype", "devname"], disks.around).code == 0
    now = disks.content()
    disks.put_back(type(now)((now.disks[0], now.disks[0], now.disks[2]), now.files), now)
    listed = disks.etc / "devices" / "system.devices"
    listed.write_text(listed.read_text().replace(f"{a} ", "/dev/sdzz "))
    before = listed.read_text()
    pvid = before.rpartition("PVID=")[2].strip()

    answer = ours(["vgs", "--config", ALL], disks.around)

    assert answer.out == ""
    assert answer.err.split("\n")[1:-1] == [
        f"  Devices file PVID {pvid} last seen on /dev/sdzz not found.",
        f"  Devices file PVID {pvid} found on {a}.",
        f"  WARNING: found PVID {pvid} on multiple devices {a} {b}.",
        "  WARNING: duplicate PVIDs should be changed to be unique.",
        f"  WARNING: use lvmdevices to select a device for PVID {pvid}.",
    ]
    assert listed.read_text() == before
    assert c not in look(disks.devices).used


def test_a_failed_import_makes_no_devices_file(disks: Disks) -> None:
    """An empty file would hide every disk; LVM2 2.03.16 makes one."""
    answer = ours(["vgimportdevices", "--devicesfile", "mine", "nosuch"], disks.around)
    assert answer.code == 5
    assert 'Volume group "nosuch" not found' in answer.err
    assert not (disks.etc / "devices" / "mine").exists()


def test_a_group_with_a_missing_disk_is_not_entered(disks: Disks) -> None:
    a, b, _c = disks.devices
    assert ours(["vgcreate", "lost", a, b], disks.around).code == 0
    now = disks.content()
    disks.put_back(type(now)(((), *now.disks[1:]), now.files), now)
    before = disks.content()
    answer = ours(["vgimportdevices", "--devicesfile", "mine", "lost"], disks.around)
    assert answer.code == 5
    assert "Not importing devices for VG lost with missing PV" in answer.err
    assert disks.content() == before


def test_a_disk_that_was_not_read_keeps_its_uuid(tmp_path: Path) -> None:
    """A disk that something else has locked is listed as unreadable, which says nothing of its PVID."""
    entry = Entry("loop_file", "/a", "/dev/loop0", "x" * 32, path="/dev/loop0")
    listed = SystemDevices(tmp_path / "system.devices", [entry])
    assert listed.disagreements(Scan()) == []
    assert not listed.update(Scan())
    assert entry.pvid == "x" * 32
