# SPDX-License-Identifier: Apache-2.0
"""Thin pools in volume groups: LVM2 makes the same metadata as Lamella, and uses the pools of Lamella."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.lvm.operations.logical_volumes import LvRequest, create_lv, rename_lv
from lamella.lvm.operations.lv_changes import LvChanges, change_lv
from lamella.lvm.operations.lv_resize import resize_lv
from lamella.lvm.operations.pool_resize import resize_pool
from lamella.lvm.operations.thin_messages import opened_pool
from lamella.lvm.operations.thin_pools import PoolRequest, convert_to_pool, create_pool
from lamella.lvm.operations.thin_volumes import (
    ThinRequest,
    create_external_snapshot,
    create_snapshot,
    create_thin,
    remove_any,
)
from lamella.lvm.operations.volume_groups import GroupOptions, create_group, extend_group
from lamella.lvm.session.environment import LVM_RUN, Environment
from lamella.lvm.session.session import Session
from tests.guest.machine import run
from tests.lvm.memory_groups import find_lv
from tests.lvm.real import normal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lamella.lvm.disks.scan import FoundGroup

SIZE = 256 << 20


class Disks:
    """Loop devices, and LVM2 restricted to them."""

    def __init__(self, folder: Path, name: str, count: int) -> None:
        self.devices = []
        for number in range(count):
            path = folder / f"{name}{number}"
            with path.open("wb") as stream:
                stream.truncate(SIZE)
            self.devices.append(run("losetup", "-f", "--show", str(path)).strip())

    def lvm(self, command: str, *arguments: str) -> str:
        accepted = ", ".join(f'"a|^{device}$|"' for device in self.devices)
        config = (
            f'devices {{ filter=[ {accepted}, "r|.*|" ] use_devicesfile=0 }} '
            "activation { monitoring=0 } backup { backup=0 archive=0 }"
        )
        return run(command, "--config", config, *arguments)

    def session(self) -> Session:
        return Session(self.devices, Environment(command_line="test", hints_dir=LVM_RUN))

    def close(self) -> None:
        for device in self.devices:
            subprocess.run(["losetup", "-d", device], check=False)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Callable[[str, int], Disks]]:
    made: list[Disks] = []

    def make(name: str, count: int) -> Disks:
        made.append(Disks(tmp_path, name, count))
        return made[-1]

    yield make
    for each in made:
        with contextlib.suppress(AssertionError):
            each.lvm("vgchange", "-an")
        each.close()


STEPS: list[tuple[str, Callable[[Session, FoundGroup], object]]] = [
    (
        "lvcreate -y --type thin-pool -c 64k -L 40M --poolmetadatasize 4M -n pool vg",
        lambda s, f: create_pool(s, f, "pool", 40, PoolRequest(chunk_size=64 << 10, metadata_extents=4)),
    ),
    (
        "lvcreate -y -V 300M -T vg/pool -n thin1",
        lambda s, f: create_thin(s, f, find_lv(f, "pool"), 300, ThinRequest("thin1")),
    ),
    (
        "lvcreate -y -s -n snap1 vg/thin1",
        lambda s, f: create_snapshot(s, f, find_lv(f, "thin1"), ThinRequest("snap1")),
    ),
    (
        "lvcreate -y -s -kn -n snap2 vg/snap1",
        lambda s, f: create_snapshot(s, f, find_lv(f, "snap1"), ThinRequest("snap2", activation_skip=False)),
    ),
    (
        "lvcreate -y -V 50M -T vg/pool -n thin2",
        lambda s, f: create_thin(s, f, find_lv(f, "pool"), 50, ThinRequest("thin2")),
    ),
    ("lvremove -y vg/thin2", lambda s, f: remove_any(s, f, find_lv(f, "thin2"))),
    ("lvremove -y vg/snap1", lambda s, f: remove_any(s, f, find_lv(f, "snap1"))),
    ("lvcreate -y -an -Zn -Wn -n base -L 20M vg", lambda s, f: create_lv(s, f, LvRequest(20, "base"))),
    ("lvchange -pr vg/base", lambda s, f: change_lv(s, f, find_lv(f, "base"), LvChanges(writable=False))),
    (
        "lvcreate -y -s -kn -n ext --thinpool vg/pool vg/base",
        lambda s, f: create_external_snapshot(
            s, f, find_lv(f, "base"), find_lv(f, "pool"), ThinRequest("ext", activation_skip=False)
        ),
    ),
    ("lvextend -L+30M vg/pool", lambda s, f: resize_pool(s, f, find_lv(f, "pool"), data_extents=70)),
    (
        "lvextend --poolmetadatasize +4M vg/pool",
        lambda s, f: resize_pool(s, f, find_lv(f, "pool"), metadata_extents=8),
    ),
    ("lvextend -L 400M vg/thin1", lambda s, f: resize_lv(s, f, find_lv(f, "thin1"), 400)),
    ("lvrename vg pool renamed", lambda s, f: rename_lv(s, f, find_lv(f, "pool"), "renamed")),
    ("lvcreate -y -an -Zn -Wn -n data -l 60 vg", lambda s, f: create_lv(s, f, LvRequest(60, "data"))),
    ("lvcreate -y -an -Zn -Wn -n meta -l 3 vg", lambda s, f: create_lv(s, f, LvRequest(3, "meta"))),
    (
        "lvconvert -y --zero n -c 512K --thinpool vg/data --poolmetadata vg/meta",
        lambda s, f: convert_to_pool(
            s, f, find_lv(f, "data"), find_lv(f, "meta"), PoolRequest(chunk_size=512 << 10, zero=False)
        ),
    ),
    (
        "lvchange --metadataprofile thin-performance vg/data",
        lambda s, f: change_lv(s, f, find_lv(f, "data"), LvChanges(profile="thin-performance")),
    ),
    ("lvchange -an vg/renamed", lambda s, f: None),
    (
        "lvchange --discards nopassdown vg/renamed",
        lambda s, f: change_lv(s, f, find_lv(f, "renamed"), LvChanges(discards="nopassdown")),
    ),
    (
        "lvchange --errorwhenfull y vg/renamed",
        lambda s, f: change_lv(s, f, find_lv(f, "renamed"), LvChanges(error_when_full=True)),
    ),
    ("lvcreate -y --type thin-pool -L 20M -n small vg", lambda s, f: create_pool(s, f, "small", 20)),
    ("lvremove -y vg/data", lambda s, f: remove_any(s, f, find_lv(f, "data"))),
    ("lvremove -y vg/renamed", lambda s, f: remove_any(s, f, find_lv(f, "renamed"))),
    ("lvremove -y vg/small", lambda s, f: remove_any(s, f, find_lv(f, "small"))),
]


def test_the_same_commands_leave_the_same_text(disks: Callable[[str, int], Disks]) -> None:
    """After each command LVM2's group and ours differ in nothing but identifiers and times."""
    theirs, ours = disks("theirs", 2), disks("ours", 2)
    # Otherwise udev activates the external origin sooner or later, and LVM2 then writes once more for it.
    theirs.lvm("vgcreate", "-s", "1M", "--setautoactivation", "n", "vg", *theirs.devices)
    with ours.session() as session, session.creating("vg"):
        options = GroupOptions(extent_size=1 << 20, autoactivation=False)
        create_group(session, "vg", ours.devices, options)
    for command, act in STEPS:
        name, *arguments = command.split()
        theirs.lvm(name, *arguments)
        with ours.session() as session, session.editing("vg", active_ok=True) as found:
            act(session, found)
        assert normal(theirs.devices) == normal(ours.devices), command


def test_lvm_takes_over_what_we_made_and_gives_it_back(
    disks: Callable[[str, int], Disks], tmp_path: Path
) -> None:
    both = disks("both", 3)
    content = hashlib.sha256(b"x").digest() * 40_000
    # Otherwise udev would have LVM2 activate the group while we change it.
    options = GroupOptions(extent_size=1 << 20, autoactivation=False)
    with both.session() as session, session.creating("vg"):
        create_group(session, "vg", both.devices[:2], options)
    with both.session() as session, session.editing("vg") as found:
        pool = create_pool(session, found, "pool", 64)
        thin = create_thin(session, found, pool, 100, ThinRequest("thin"))
        with opened_pool(found, pool) as engine, engine.open_volume(1, found.group.size_of(thin)) as volume:
            volume.write(12345, content)
        create_snapshot(session, found, thin, ThinRequest("snap", activation_skip=False))
        # LVM2 makes these two.
        create_thin(session, found, pool, 50, ThinRequest("queued", apply=False))
        remove_any(session, found, find_lv(found, "snap"), apply=False)
        create_lv(session, found, LvRequest(30, "striped", stripes=2))
    with both.session() as session, session.all_locked(), session.editing("vg") as found:
        extend_group(session, found, [both.devices[2]])
    both.lvm("lvchange", "-ay", "vg/pool", "vg/thin", "vg/striped")
    # LVM2 sends queued messages with its next change of the pool.
    both.lvm("lvcreate", "-y", "-s", "-kn", "-n", "theirs", "vg/thin")
    both.lvm("vgchange", "-ay", "vg")
    status = run("dmsetup", "status", "vg-pool-tpool").split()
    assert (status[2], status[3]) == ("thin-pool", "4")
    run("udevadm", "settle")
    with Path("/dev/vg/thin").open("rb") as stream:
        stream.seek(12345)
        assert stream.read(len(content)) == content
    run("mkfs.ext4", "-q", "/dev/vg/queued")
    run("mkfs.ext4", "-q", "/dev/vg/striped")
    with (
        both.session() as session,
        pytest.raises(Exception, match="active in the kernel"),
        session.editing("vg"),
    ):
        pass
    both.lvm("vgchange", "-an", "vg")
    with both.session() as session, session.editing("vg") as found:
        pool = find_lv(found, "pool")
        segment = pool.thin_pool
        assert segment is not None
        assert segment.messages == []
        create_thin(session, found, pool, 20, ThinRequest("after"))
        with opened_pool(found, pool, read_only=True) as engine:
            assert sorted(engine.devices()) == [1, 3, 4, 5]
            assert engine.transaction_id == segment.transaction_id == 5
            with engine.open_volume(3, 50 << 20, read_only=True) as volume:
                assert volume.read(1080, 2) == b"\x53\xef"
    both.lvm("vgchange", "-ay", "vg")
    run("e2fsck", "-fn", "/dev/vg/queued")
    assert "after" in both.lvm("lvs", "vg")
