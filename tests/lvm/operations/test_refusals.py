# SPDX-License-Identifier: Apache-2.0
"""Operations that LVM refuses write nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.block import MemoryDevice
from lamella.errors import BusyError, ExistsError, LamellaError, NoSpaceError, NotFoundError, UsageError
from lamella.lvm.operations.group_changes import GroupChanges, change_group
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.lv_changes import LvChanges, change_lv
from lamella.lvm.operations.lv_resize import resize_lv
from lamella.lvm.operations.physical_volumes import PvOptions, create_pv, remove_pv
from lamella.lvm.operations.pool_resize import resize_pool
from lamella.lvm.operations.thin_pools import PoolRequest, create_pool
from lamella.lvm.operations.thin_volumes import ThinRequest, create_external_snapshot, create_thin, remove_any
from lamella.lvm.operations.volume_groups import (
    GroupOptions,
    create_group,
    extend_group,
    reduce_group,
    remove_group,
    rename_group,
)
from tests.lvm.memory_groups import find_lv, group_on, memory_disks, session_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session


def refusals() -> list[tuple[str, type[LamellaError], str, Callable[[Session, FoundGroup], object]]]:
    return [
        ("name", UsageError, "invalid hyphen", lambda s, f: create_lv(s, f, LvRequest(1, "-x"))),
        ("reserved", UsageError, "_tmeta", lambda s, f: create_lv(s, f, LvRequest(1, "x_tmeta"))),
        ("twice", ExistsError, "already exists", lambda s, f: create_lv(s, f, LvRequest(1, "lv"))),
        ("empty", UsageError, "no extents", lambda s, f: create_lv(s, f, LvRequest(0, "x"))),
        ("room", NoSpaceError, "insufficient free space", lambda s, f: create_lv(s, f, LvRequest(9999, "x"))),
        (
            "stripes",
            UsageError,
            "must not exceed",
            lambda s, f: create_lv(s, f, LvRequest(8, "x", stripes=4)),
        ),
        (
            "stripe size",
            UsageError,
            "Invalid stripe size",
            lambda s, f: create_lv(s, f, LvRequest(4, "x", stripes=2, stripe_size=5000)),
        ),
        (
            "contiguous",
            NoSpaceError,
            "contiguous",
            lambda s, f: create_lv(s, f, LvRequest(300, "x", policy="contiguous")),
        ),
        ("internal", UsageError, "internal", lambda s, f: resize_lv(s, f, find_lv(f, "pool_tdata"), 99)),
        (
            "shrink pool",
            UsageError,
            "cannot be reduced",
            lambda s, f: resize_pool(s, f, find_lv(f, "pool"), data_extents=1),
        ),
        ("in use", BusyError, "still in use", lambda s, f: reduce_group(s, f, f.group.pvs[0])),
        ("volumes left", BusyError, "still contains 3", lambda s, f: remove_group(s, f)),
        ("unknown", NotFoundError, "Failed to find", lambda s, f: find_lv(f, "nothing")),
        ("pool part", UsageError, "used by a pool", lambda s, f: remove_any(s, f, find_lv(f, "pool_tmeta"))),
        ("not a pool", UsageError, "not a thin pool", lambda s, f: create_thin(s, f, find_lv(f, "lv"), 5)),
        (
            "writable origin",
            UsageError,
            "writable LV",
            lambda s, f: create_external_snapshot(s, f, find_lv(f, "lv"), find_lv(f, "pool")),
        ),
        ("tag", UsageError, "Invalid tag", lambda s, f: change_group(s, f, GroupChanges(add_tags=["a b"]))),
        (
            "already",
            UsageError,
            "already writable",
            lambda s, f: change_lv(s, f, find_lv(f, "lv"), LvChanges(writable=True)),
        ),
        ("same name", UsageError, "must differ", lambda s, f: rename_group(s, f, "vg")),
        ("member", BusyError, "not initialized", lambda s, f: extend_group(s, f, ["disk0"])),
        ("pvcreate member", BusyError, "not initialized", lambda s, f: create_pv(s, "disk0")),
        ("pvremove member", BusyError, "not removed", lambda s, f: remove_pv(s, "disk0")),
        (
            "chunk",
            UsageError,
            "multiple of",
            lambda s, f: create_pool(s, f, "p2", 10, PoolRequest(chunk_size=100 << 10)),
        ),
        (
            "extent size",
            UsageError,
            "not a perfect fit",
            lambda s, f: change_group(s, f, GroupChanges(extent_size=8 << 20)),
        ),
        (
            "profile of none",
            UsageError,
            "not a thin pool",
            lambda s, f: change_lv(s, f, find_lv(f, "lv"), LvChanges(zero=True)),
        ),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "words", "act"), refusals(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_refusals_write_nothing(
    name: str, kind: type[LamellaError], words: str, act: Callable[[Session, FoundGroup], object]
) -> None:
    disks = memory_disks(3, 24 << 20)
    group_on(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        create_lv(session, found, LvRequest(10, "lv"))
        pool = create_pool(session, found, "pool", 40)
        create_thin(session, found, pool, 10, ThinRequest("thin"))
    before = {path: bytes(disk.content) for path, disk in disks.items()}
    with session_on(disks) as session, session.all_locked(), session.editing("vg") as found:
        with pytest.raises(kind) as refusal:
            act(session, found)
        assert words in refusal.value.message
        assert refusal.value.hint
    assert before == {path: bytes(disk.content) for path, disk in disks.items()}


def test_limits_on_numbers() -> None:
    disks = memory_disks(3)
    with session_on(disks) as session, session.creating("vg"):
        create_group(
            session, "vg", ["disk0", "disk1"], GroupOptions(max_lv=1, max_pv=2, extent_size=128 << 10)
        )
    with session_on(disks) as session, session.all_locked(), session.editing("vg") as found:
        create_lv(session, found, LvRequest(1))
        with pytest.raises(NoSpaceError, match="Maximum number of logical volumes"):
            create_lv(session, found, LvRequest(1))
        with pytest.raises(NoSpaceError, match="holds max 2"):
            extend_group(session, found, ["disk2"])


def test_pv_options_that_make_no_sense() -> None:
    disks = {"disk": MemoryDevice(8 << 20, name="disk"), "tiny": MemoryDevice(4096, name="tiny")}
    with session_on(disks) as session, session.all_locked():
        for options, words in (
            (PvOptions(uuid="x"), "Invalid uuid"),
            (PvOptions(metadata_copies=3), "may only be 0, 1 or 2"),
            (PvOptions(label_sector=4), "labelsector"),
            (PvOptions(data_alignment=16 << 20), "must not exceed device size"),
        ):
            with pytest.raises(UsageError, match=words):
                create_pv(session, "disk", options)
        with pytest.raises(UsageError, match="too small"):
            create_pv(session, "tiny")
    assert not any(disks["disk"].content)
