# SPDX-License-Identifier: Apache-2.0
"""Disks, groups and options with which a store is not set up."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.driver.direct_lvm import preflight
from lamella.driver.direct_lvm.group import Disks
from lamella.errors import BusyError, ExistsError, LamellaError, NotFoundError, UsageError
from lamella.store import Store
from tests.store.direct_lvm.groups import GIB, MIB, digest, digests, disk, lvm
from tests.support.stores import KERNEL, set_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refused(error: type[LamellaError], *options: str) -> LamellaError:
    with pytest.raises(error) as caught:
        Store.setup(mode="direct-lvm", storage_options=options)
    assert caught.value.hint
    assert not Store.exists()
    return caught.value


def test_disks_that_may_not_be_used(tmp_path: Path, tool: Callable[[str], str]) -> None:
    missing = f"dm.directlvm_device={tmp_path / 'none'}"
    refused(NotFoundError, missing)
    small = disk(tmp_path / "small", 2 * MIB)
    assert "too small" in refused(UsageError, f"dm.directlvm_device={small}").message
    little = disk(tmp_path / "little", 40 * MIB)
    assert "0 for metadata" in refused(UsageError, f"dm.directlvm_device={little}").message
    ext4 = disk(tmp_path / "ext4", 64 * MIB)
    subprocess.run([tool("mke2fs"), "-q", "-F", "-L", "precious", ext4], check=True)
    before = digest(ext4)
    error = refused(ExistsError, f"dm.directlvm_device={ext4}")
    assert "precious" in error.message
    assert "--force" in str(error.hint)
    good = disk(tmp_path / "good", 600 * MIB)
    empty = digest(good)
    twice = (f"dm.directlvm_device={good}", f"dm.directlvm_device={tmp_path}/./good")
    assert "given twice" in refused(UsageError, *twice).message
    refused(ExistsError, f"dm.directlvm_device={good}", f"dm.directlvm_device={ext4}")
    with FileDevice(good):
        assert "in use" in refused(BusyError, f"dm.directlvm_device={good}").message
    assert digest(ext4) == before
    assert digest(good) == empty
    # Forced, it is overwritten.
    big = disk(tmp_path / "big", 600 * MIB)
    subprocess.run([tool("mke2fs"), "-q", "-F", big], check=True)
    options = [f"dm.directlvm_device={big}", "dm.directlvm_device_force=true", "dm.basesize=64M"]
    with Store.setup(storage_options=options) as store:
        store.teardown()


def test_disks_of_other_groups_are_never_taken(tmp_path: Path) -> None:
    file = disk(tmp_path / "disk", 600 * MIB)
    lvm("vgcreate", "--devices", file, "other", file)
    before = digest(file)
    error = refused(BusyError, f"dm.directlvm_device={file}", "dm.directlvm_device_force=true")
    assert "belongs to a volume group" in error.message
    assert digest(file) == before


def test_another_group_of_the_same_name(tmp_path: Path) -> None:
    lvm("vgcreate", "docker", disk(tmp_path / "other", 64 * MIB))
    fresh = disk(tmp_path / "fresh", 600 * MIB)
    empty = digest(fresh)
    error = refused(ExistsError, f"dm.directlvm_device={fresh}")
    assert "there is a volume group docker already" in error.message
    assert digest(fresh) == empty


def test_disks_that_the_kernel_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounts, swap and holders, as the kernel's own files show them."""
    number = os.stat("/dev/null").st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    sys, proc = tmp_path / "sys", tmp_path / "proc"
    device = sys / "dev/block" / name
    for folder in (device / "queue", device / "holders/dm-3", device / "sdx1", sys / "block/dm-3/dm"):
        folder.mkdir(parents=True)
    (sys / "block/dm-3/dm/name").write_text("vg-root\n")
    for place, text in (
        ("queue/rotational", "1"), ("queue/discard_max_bytes", "0"), ("queue/logical_block_size", "512"),
        ("queue/physical_block_size", "4096"), ("alignment_offset", "512"), ("sdx1/partition", "1"),
        ("sdx1/dev", "8:77"),
    ):  # fmt: skip
        (device / place).write_text(text)
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(
        f"1 1 {name} / /mnt rw - ext4 x rw\n2 1 8:77 / /boot rw - ext4 x rw\n"
    )
    (proc / "swaps").write_text("Filename\n/dev/null partition 1 0 -2\n")
    monkeypatch.setattr(preflight, "SYS", sys)
    monkeypatch.setattr(preflight, "PROC", proc)
    report = preflight.DiskReport("/dev/null", "file", GIB)
    preflight._look_at_device(report, number)
    assert report.kind == "disk"
    assert report.rotational is True
    assert report.discards is False
    assert report.sectors == (512, 4096)
    assert "512 bytes off" in report.line()
    assert report.users == [
        "it has the partition sdx1", "sdx1: mounted on /boot", "held by vg-root", "mounted on /mnt", "swap",
    ]  # fmt: skip
    with pytest.raises(BusyError, match="mounted on /mnt"):
        preflight.check([report], force=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "must provide device path in `dm.directlvm_device`"),
        (["dm.directlvm_device=x", "dm.thinp_percent=50"], "must set both `dm.thinp_percent`"),
        (["dm.directlvm_device=x", "dm.thinp_percent=99", "dm.thinp_metapercent=2"], "greater than 100"),
        (["dm.directlvm_device=x", "dm.thinp_percent=100"], "less than 100"),
        (["dm.directlvm_device=x", "dm.thinp_autoextend_threshold=101"], "less than 101"),
        (["dm.directlvm_device=x", "dm.thinp_percent=x"], "could not parse `dm.thinp_percent=x`"),
        (["dm.directlvm_device=x", "lamella.vg=a/b"], "character other than"),
        (["dm.directlvm_device=x", "lamella.pool=a_tdata"], "reserved"),
        (["dm.directlvm_device=x", "dm.thinpooldev=a/b"], "dm.thinpooldev takes over a pool"),
        (["dm.thinpooldev=justone"], "is not an LVM thin pool"),
        (["dm.thinpooldev=a-b-c"], "is not an LVM thin pool"),
    ],
)
def test_options_that_make_no_sense(options: list[str], words: str) -> None:
    assert words in refused(UsageError, *options).message


def test_an_active_group_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the user engine. With the kernel's engine the group is active; else ``/sys`` says that it is."""
    root = tmp_path / "root"
    set_up(root, "direct-lvm").close()
    if not KERNEL:
        pretend_that_it_is_active(root, tmp_path, monkeypatch)
    before = digests(root)
    with Store.open(root, engine="user") as store:
        for action in (store.info, store.teardown):
            with pytest.raises(BusyError, match="active in the kernel"):
                action()
    assert digests(root) == before


def pretend_that_it_is_active(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((root / "direct-lvm.json").read_text())
    sys_block = tmp_path / "sys"
    kernel = sys_block / "dm-0/dm"
    kernel.mkdir(parents=True)
    (kernel / "name").write_text("docker-thinpool\n")
    (kernel / "uuid").write_text(f"LVM-{record['group_uuid'].replace('-', '')}{'x' * 32}-tpool\n")
    plain = Disks.environment.func  # type: ignore[attr-defined]  # a cached_property

    def with_kernel(self: Disks) -> object:
        environment = plain(self)
        environment.sys_block = sys_block
        return environment

    monkeypatch.setattr(Disks, "environment", property(with_kernel))
