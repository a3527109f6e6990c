# SPDX-License-Identifier: Apache-2.0
"""Activation against a kernel in memory: order, sharing, failure in every place, changes of active groups.

The devices themselves are tested in test_device_tree.py, and all of it with a real kernel in tests/guest.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from lamella.block import MemoryDevice, mountinfo
from lamella.errors import BusyError, CorruptError, LamellaError
from lamella.lvm.activation import busy_check, dmeventd, pool_checks
from lamella.lvm.activation.activator import KernelActivator
from lamella.lvm.activation.device_tree import Settings
from lamella.lvm.disks.scan import FoundGroup
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.format.segments import Area, StripedSegment
from tests.support.fake_kernel import FakeKernel, fake_kernel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup

TEXT = (Path(__file__).with_name("thin.vg")).read_text()
ALL = ["pool", "t1", "t2", "s1", "s2", "orig", "ext"]


class _Disk:
    def __init__(self, path: str) -> None:
        self.path = path


pytestmark = pytest.mark.usefixtures("no_system")


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    with fake_kernel() as made:
        made.pools["vg0-pool-tpool"] = "5 20/1024 0/100 - rw discard_passdown queue_if_no_space - 256 "
        yield made


@pytest.fixture
def found() -> FoundGroup:
    group = read_group(TEXT)
    disks = {pv.uuid: cast("Disk", _Disk(pv.device)) for pv in group.pvs}
    return FoundGroup(group, disks)


@pytest.fixture
def activator(kernel: FakeKernel) -> KernelActivator:
    return KernelActivator(kernel.client)


def names(kernel: FakeKernel) -> list[str]:
    return sorted(device.name.removeprefix("vg0-") for device in kernel.devices.values())


def test_volumes_share_what_is_below(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    activator.activate(found, ["t1"])
    assert names(kernel) == ["pool-tpool", "pool_tdata", "pool_tmeta", "t1"]
    assert activator.is_active(found, "t1")
    assert not activator.is_active(found, "pool")
    assert activator.active_in(found) == ["pool", "t1", "pool_tmeta", "pool_tdata"]
    activator.activate(found, ["ext", "pool"])
    assert "orig-real" in names(kernel)
    assert "orig" not in names(kernel)
    activator.deactivate(found, ["t1", "pool"])
    assert names(kernel) == ["ext", "orig-real", "pool-tpool", "pool_tdata", "pool_tmeta"]
    activator.activate(found, ["orig"])
    activator.deactivate(found, ["ext"])
    assert names(kernel) == ["orig", "orig-real"]
    activator.deactivate(found, ["orig"])
    assert names(kernel) == []


def test_active_volumes_are_left_alone(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    activator.activate(found, ALL)
    kernel.calls.clear()
    activator.activate(found, ALL)
    assert kernel.calls == []


@pytest.mark.parametrize("what", ["create", "load", "resume"])
@pytest.mark.parametrize("which", ["pool_tmeta", "pool_tdata", "pool-tpool", "orig-real", "ext"])
def test_a_failure_leaves_nothing(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup, what: str, which: str
) -> None:
    kernel.fail.add((what, f"vg0-{which}"))
    with pytest.raises(LamellaError):
        activator.activate(found, ["ext"])
    assert names(kernel) == []


def test_a_failure_keeps_what_was_there(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    activator.activate(found, ["t1"])
    before = names(kernel)
    kernel.fail.add(("resume", "vg0-ext"))
    with pytest.raises(LamellaError):
        activator.activate(found, ["ext"])
    assert names(kernel) == before


def test_a_damaged_pool_is_not_activated(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_checks, "check_metadata", lambda node, write=True: False)
    with pytest.raises(CorruptError, match=r"Check of pool vg0/pool failed \(status:1\)"):
        activator.activate(found, ["t1"])
    assert names(kernel) == []


@pytest.mark.parametrize("checks", [True, False], ids=["checked", "unchecked"])
def test_a_pool_that_the_kernel_would_format_is_not_activated(
    activator: KernelActivator,
    kernel: FakeKernel,
    found: FoundGroup,
    monkeypatch: pytest.MonkeyPatch,
    checks: bool,
) -> None:
    def blank(group: VolumeGroup, pool: LogicalVolume, node: str) -> None:
        with MemoryDevice(1 << 20) as device:
            pool_checks.refuse_blank(group, pool, device)

    monkeypatch.setattr(pool_checks, "refuse_blank_device", blank)
    activator.check_pools = checks
    with pytest.raises(CorruptError, match="Thin pool vg0/pool has lost its metadata"):
        activator.activate(found, ["t1"])
    assert names(kernel) == []


def test_a_strange_transaction_id_is_refused(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    kernel.pools["vg0-pool-tpool"] = "9 20/1024 0/100 - rw discard_passdown queue_if_no_space - 256 "
    with pytest.raises(CorruptError, match="transaction_id is 9, while expected 5"):
        activator.activate(found, ["t1"])
    assert names(kernel) == []


def queue_messages(found: FoundGroup) -> None:
    segment = found.group.lvs["pool"].thin_pool
    assert segment is not None
    segment.messages = [("create", "s2"), ("create", "t2"), ("delete", 9)]
    segment.transaction_id = 6


def test_queued_messages_are_sent_once(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    queue_messages(found)
    activator.activate(found, ["t1"])
    sent = [call for call in kernel.calls if call.startswith("message")]
    assert sent == [
        "message vg0-pool-tpool: create_snap 4 3",
        "message vg0-pool-tpool: create_thin 2",
        "message vg0-pool-tpool: delete 9",
        "message vg0-pool-tpool: set_transaction_id 5 6",
    ]
    activator.send_messages(found, "pool")
    assert [call for call in kernel.calls if call.startswith("message")] == sent


def test_messages_that_were_carried_out_already_are_passed_over(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    """Each message is a commit: a kill between two of them leaves the first ones done."""
    queue_messages(found)
    kernel.refuse = {
        "create_snap 4 3": errno.EEXIST,
        "create_thin 2": errno.EEXIST,
        "delete 9": errno.ENODATA,
    }
    activator.activate(found, ["t1"])
    assert "message vg0-pool-tpool: set_transaction_id 5 6" in kernel.calls


@pytest.mark.parametrize(
    ("text", "number"),
    [("create_thin 2", errno.ENODATA), ("delete 9", errno.EEXIST), ("delete 9", errno.ENXIO)],
)
def test_other_refusals_of_messages_are_errors(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup, text: str, number: int
) -> None:
    segment = found.group.lvs["pool"].thin_pool
    assert segment is not None
    segment.messages = [("create", "t2"), ("delete", 9)]
    segment.transaction_id = 6
    kernel.refuse = {text: number}
    with pytest.raises(LamellaError, match=f"cannot send {text!r} to vg0-pool-tpool"):
        activator.activate(found, ["t1"])
    assert names(kernel) == []


def test_an_active_origin_is_suspended_with_our_memory_at_hand(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def held(numbers: Collection[str]) -> Iterator[None]:
        kernel.calls.append(f"hold {numbers}")
        yield

    monkeypatch.setattr("lamella.lvm.activation.memory_lock.memory_locked", held)
    origin = found.group.lvs["s2"].thin
    assert origin is not None
    name = origin.origin
    activator.activate(found, [name])
    segment = found.group.lvs["pool"].thin_pool
    assert segment is not None
    segment.messages = [("create", "s2")]
    segment.transaction_id = 6
    kernel.calls.clear()
    activator.send_messages(found, "pool")
    number = kernel.client.info(f"vg0-{name}").number
    assert kernel.calls == [
        f"hold {[number]}",
        f"suspend vg0-{name}",
        "message vg0-pool-tpool: create_snap 4 3",
        f"resume vg0-{name}",
        "message vg0-pool-tpool: set_transaction_id 5 6",
    ]


def test_no_pool_beside_a_part_of_it(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    activator.activate(found, ["pool_tmeta"], read_only=True)
    assert kernel.client.info("vg0-pool_tmeta").read_only
    refusal = "volume vg0/t1 is prohibited while logical volume vg0/pool_tmeta is active"
    with pytest.raises(BusyError, match=refusal):
        activator.activate(found, ["t1"])
    assert names(kernel) == ["pool_tmeta"]
    activator.deactivate(found, ["pool_tmeta"])
    assert names(kernel) == []


def test_a_mount_is_identified_by_its_own_number(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by what somebody's mount point is called."""
    info = kernel.client.create("odd", "LVM-odd")
    line = f"30 1 {{}} / /home/x\v9 9 {info.number} y rw - ext4 /dev/x rw"
    monkeypatch.setattr(busy_check, "SYS_FS", Path("/nonexistent"))
    for number, used in (("0:77", False), (info.number, True)):
        text = line.format(number).encode()
        monkeypatch.setattr(mountinfo, "mounts", lambda text=text: list(mountinfo.parse(text)))
        assert busy_check.has_file_system(info) is used


def test_what_is_in_use_stays(activator: KernelActivator, kernel: FakeKernel, found: FoundGroup) -> None:
    activator.activate(found, ["t1", "t2"])
    kernel.device("vg0-t1").opened = 1
    with pytest.raises(BusyError, match="Logical volume vg0/t1 in use"):
        activator.deactivate(found, ["t2", "t1"])
    assert names(kernel) == ["pool-tpool", "pool_tdata", "pool_tmeta", "t1"]


def grow(found: FoundGroup, name: str, extents: int) -> None:
    lv = found.group.lvs[name]
    at = lv.extents
    lv.segments.append(StripedSegment("striped", at, extents, mapped=[Area(found.group.pvs[1], 100)]))


def test_a_pool_grows_only_after_the_commit(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    activator.activate(found, ["pool", "t1"])
    grow(found, "pool_tdata", 10)
    found.group.lvs["pool"].segments[0].extent_count += 10
    kernel.calls.clear()
    with activator.changing(found):
        assert kernel.client.info("vg0-pool_tdata").target_count == 2
        assert kernel.client.table("vg0-pool-tpool")[0].length == 409600
        assert kernel.client.info("vg0-pool-tpool").suspended
        assert not kernel.client.info("vg0-t1").suspended, "the pool itself holds its volumes back"
    assert (
        kernel.client.table("vg0-pool-tpool")[0].length == kernel.client.table("vg0-pool")[0].length == 491520
    )
    assert not any(device.suspended or device.inactive for device in kernel.devices.values())


def test_a_pool_takes_note_of_larger_metadata_when_it_is_resumed(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    activator.activate(found, ["pool", "t1"])
    before = kernel.client.table("vg0-pool-tpool")
    grow(found, "pool_tmeta", 10)
    kernel.calls.clear()
    with activator.changing(found):
        assert kernel.client.info("vg0-pool_tmeta").target_count == 2
        assert kernel.client.info("vg0-pool-tpool").suspended
        kernel.calls.clear()
    assert "resume vg0-pool-tpool" in kernel.calls
    assert kernel.client.table("vg0-pool-tpool") == before
    assert not any(device.suspended or device.inactive for device in kernel.devices.values())


def test_a_commit_that_fails_changes_nothing(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    activator.activate(found, ["pool", "t1", "orig"])
    before = {device.name: device.live for device in kernel.devices.values()}
    grow(found, "pool_tdata", 10)
    found.group.lvs["pool"].segments[0].extent_count += 10
    found.group.lvs["orig"].segments[0].mapped[0].extent = 300
    with pytest.raises(RuntimeError, match="commit"), activator.changing(found):
        raise RuntimeError("commit")
    assert {device.name: device.live for device in kernel.devices.values()} == before
    assert not any(device.suspended or device.inactive for device in kernel.devices.values())


@pytest.mark.parametrize("what", ["load", "suspend"])
@pytest.mark.parametrize("which", ["pool_tdata", "pool-tpool", "pool", "orig-real"])
def test_a_preparation_that_fails_changes_nothing(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup, what: str, which: str
) -> None:
    activator.activate(found, ["pool", "t1", "orig"])
    before = {device.name: device.live for device in kernel.devices.values()}
    grow(found, "pool_tdata", 10)
    found.group.lvs["pool"].segments[0].extent_count += 10
    found.group.lvs["orig"].segments[0].mapped[0].extent = 300
    found.group.lvs["pool_tdata"].segments[0].mapped[0].extent = 400
    kernel.fail.add((what, f"vg0-{which}"))
    with pytest.raises(LamellaError), activator.changing(found):
        pytest.fail("nothing is committed")
    assert {device.name: device.live for device in kernel.devices.values()} == before
    assert not any(device.suspended or device.inactive for device in kernel.devices.values())


def test_a_move_suspends_from_above_and_resumes_from_below(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    activator.activate(found, ["orig", "ext"])
    found.group.lvs["orig"].segments[0].mapped[0].extent = 300
    kernel.calls.clear()
    with activator.changing(found):
        kernel.calls.append("commit")
    assert kernel.calls == [
        "load vg0-orig-real",
        "suspend vg0-ext",
        "suspend vg0-orig",
        "suspend vg0-orig-real",
        "commit",
        "resume vg0-orig-real",
        "resume vg0-orig",
        "resume vg0-ext",
    ]


def test_renames_follow(activator: KernelActivator, kernel: FakeKernel, found: FoundGroup) -> None:
    activator.activate(found, ["pool", "t1"])
    found.group.name = "other-one"
    found.group.rename_lv(found.group.lvs["t1"], "new")
    with activator.changing(found):
        assert "t1" in names(kernel)
    assert names(kernel) == [
        f"other--one-{name}" for name in ("new", "pool", "pool-tpool", "pool_tdata", "pool_tmeta")
    ]


def test_the_first_thin_volume_gives_the_pool_its_layer(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    segment = found.group.lvs["pool"].thin_pool
    assert segment is not None
    segment.transaction_id = 0
    activator.activate(found, ["pool"])
    assert names(kernel) == ["pool", "pool_tdata", "pool_tmeta"]
    segment.transaction_id = 1
    with activator.changing(found):
        pass
    assert names(kernel) == ["pool", "pool-tpool", "pool_tdata", "pool_tmeta"]
    assert kernel.client.table("vg0-pool")[0].kind == "linear"
    assert kernel.client.info("vg0-pool").read_only


def test_a_volume_becomes_an_external_origin(
    activator: KernelActivator, kernel: FakeKernel, found: FoundGroup
) -> None:
    thin = found.group.lvs["ext"].thin
    assert thin is not None
    thin.external_origin = ""
    activator.activate(found, ["orig"])
    assert names(kernel) == ["orig"]
    thin.external_origin = "orig"
    with activator.changing(found):
        pass
    assert names(kernel) == ["orig", "orig-real"]
    number = kernel.client.info("vg0-orig-real").number
    assert kernel.client.table("vg0-orig")[0].text == f"{number} 0"


def test_links_are_made_without_udev(
    activator: KernelActivator, found: FoundGroup, tmp_path: Path, kernel: FakeKernel
) -> None:
    activator.activate(found, ["t1", "pool"])
    links = tmp_path / "dev" / "vg0"
    assert [path.name for path in links.iterdir()] == ["t1"]
    assert str((links / "t1").readlink()) == "/dev/mapper/vg0-t1"
    activator.deactivate(found, ["t1", "pool"])
    assert not links.exists()


def test_lvm2s_daemon_watches_pools_while_they_are_there(
    kernel: FakeKernel, found: FoundGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, bool]] = []
    answers = [""]

    def set_monitored(uuid: str, wanted: bool) -> str:
        told.append((uuid[-6:], wanted))
        return answers[-1]

    monkeypatch.setattr(dmeventd, "set_monitored", set_monitored)
    said: list[str] = []
    settings = Settings(lambda group, lv: 80)
    activator = KernelActivator(kernel.client, settings, monitor=True, warn=said.append)
    activator.activate(found, ["t1"])
    activator.activate(found, ["t2"])
    activator.deactivate(found, ["t1"])
    assert told == [("-tpool", True)]
    activator.deactivate(found, ["t2"])
    assert told == [("-tpool", True), ("-tpool", False)]
    assert not said
    answers.append("dmeventd is not installed")
    activator.activate(found, ["pool"])
    assert said == [
        "WARNING: Failed to monitor vg0/pool: dmeventd is not installed.",
        "WARNING: vg0/pool does not grow by itself when it is 80% full.",
    ]
    told.clear()
    KernelActivator(kernel.client, settings).deactivate(found, ["pool"])
    assert not told
