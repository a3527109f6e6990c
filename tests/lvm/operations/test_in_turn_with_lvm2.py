# SPDX-License-Identifier: Apache-2.0
"""A group changed at random by LVM2 and by us in turn, on loop devices."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lamella.errors import LamellaError
from lamella.lvm.disks.scan import scan
from lamella.lvm.operations.extent_ranges import parse_pv_ranges
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv, rename_lv
from lamella.lvm.operations.lv_changes import LvChanges, change_lv
from lamella.lvm.operations.lv_resize import GrowRequest, resize_lv
from lamella.lvm.operations.physical_volumes import PvOptions, change_pv
from lamella.lvm.operations.thin_pools import PoolRequest, create_pool
from lamella.lvm.operations.thin_volumes import ThinRequest, create_thin, remove_any
from lamella.lvm.operations.volume_groups import GroupOptions, create_group, extend_group, reduce_group
from tests.lvm import real
from tests.lvm.memory_groups import find_lv
from tests.lvm.real import RealLvm, agree, normal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session

    Start = Callable[..., RealLvm]


policies = st.sampled_from(["", "", "", "contiguous", "cling", "normal", "anywhere"])


class InTurn(RuleBasedStateMachine):
    """One group, changed by LVM2 or by us; afterwards both must see the same, and LVM2 must approve."""

    lvm: RealLvm
    folder: Path
    numbers = itertools.count()

    @initialize(
        ours=st.booleans(),
        copies=st.integers(1, 2),
        extent=st.sampled_from([128, 512, 1024]),
        disks=st.integers(1, 4),
    )
    def begin(self, ours: bool, copies: int, extent: int, disks: int) -> None:
        for path in self.lvm.files:
            with path.open("r+b") as stream:
                stream.write(bytes(2 << 20))
                stream.seek(-(2 << 20), 2)
                stream.write(bytes(2 << 20))
        chosen = self.lvm.devices[:disks]
        self.copies = copies
        if ours:
            with self.lvm.session() as session, session.creating("vg"):
                create_group(
                    session,
                    "vg",
                    chosen,
                    GroupOptions(extent_size=extent << 10),
                    PvOptions(metadata_copies=copies),
                )
        else:
            self.lvm.ok("vgcreate", "--pvmetadatacopies", str(copies), "-s", f"{extent}k", "vg", *chosen)
        self.look()

    def look(self) -> None:
        agree(self.lvm, self.folder)
        found = scan(self.lvm.devices)
        group = found.groups[0].group
        found.close()
        self.group = group
        self.lvs = [lv for lv in group.lvs.values() if lv.kind in ("linear", "striped") and lv.visible]
        self.free = group.free_extents()

    def change(self, ours: bool, act: Callable[[Session, FoundGroup], object], *command: str) -> None:
        """The same change by either; a refusal by one must be a refusal by the other."""
        before = normal(self.lvm.devices)
        if not ours:
            result = self.lvm.run(*command)
            if result.returncode:
                assert normal(self.lvm.devices) == before
                with (
                    self.lvm.session() as session,
                    session.all_locked(),
                    pytest.raises(LamellaError) as refusal,
                    session.editing("vg") as found,
                ):
                    act(session, found)
                assert normal(self.lvm.devices) == before
                assert refusal.value.message in self.lvm.complaints(result), command
        else:
            with self.lvm.session() as session, session.all_locked():
                try:
                    with session.editing("vg") as found:
                        act(session, found)
                except LamellaError:
                    assert normal(self.lvm.devices) == before
                    assert self.lvm.run(*command).returncode != 0, command
        self.look()

    def devices(self, data: st.DataObject) -> list[str]:
        """Disks and ranges to allocate from, or none for all."""
        if data.draw(st.booleans(), "anywhere"):
            return []
        chosen = data.draw(
            st.lists(st.sampled_from(self.group.pvs), min_size=1, max_size=3, unique=True), "disks"
        )
        arguments = []
        for pv in chosen:
            first = data.draw(st.integers(0, pv.pe_count - 1), "first")
            whole = data.draw(st.booleans(), "whole")
            arguments.append(pv.device if whole else f"{pv.device}:{first}-")
        return arguments

    @rule(ours=st.booleans(), data=st.data(), stripes=st.sampled_from([1, 1, 1, 2, 3]), policy=policies)
    @precondition(lambda self: self.free > 3)
    def create(self, ours: bool, data: st.DataObject, stripes: int, policy: str) -> None:
        extents = data.draw(st.integers(1, self.free // 2), "extents")
        extents = -(-extents // stripes) * stripes
        places = self.devices(data)
        name = f"lv{next(self.numbers)}"

        def act(session: Session, found: FoundGroup) -> None:
            ranges = parse_pv_ranges(found, places, session.say) if places else None
            request = LvRequest(
                extents,
                name,
                stripes=stripes,
                policy=policy,
                ranges=ranges,
                zero=False,
                wipe_signatures=False,
            )
            create_lv(session, found, request)

        striping = ["-I", "64k"] if stripes > 1 else []
        alloc = ["--alloc", policy] if policy else []
        command = ["lvcreate", "-Zn", "-Wn", "-n", name, "-l", str(extents), "-i", str(stripes)]
        self.change(ours, act, *command, *striping, *alloc, "vg", *places)

    @rule(ours=st.booleans(), data=st.data(), policy=policies)
    @precondition(lambda self: self.lvs and self.free > 3)
    def extend(self, ours: bool, data: st.DataObject, policy: str) -> None:
        lv = data.draw(st.sampled_from(self.lvs), "volume")
        stripes = len(lv.segments[-1].areas())
        extents = data.draw(st.integers(1, self.free // 2), "extents")
        total = -(-(lv.extents + extents) // stripes) * stripes
        if (total - lv.extents) % stripes:
            return
        places = self.devices(data)

        def act(session: Session, found: FoundGroup) -> None:
            ranges = parse_pv_ranges(found, places, session.say) if places else None
            resize_lv(
                session, found, find_lv(found, lv.name), total, GrowRequest(policy=policy, ranges=ranges)
            )

        alloc = ["--alloc", policy] if policy else []
        self.change(ours, act, "lvextend", "-l", str(total), *alloc, f"vg/{lv.name}", *places)

    @rule(ours=st.booleans(), data=st.data())
    @precondition(lambda self: self.lvs)
    def reduce(self, ours: bool, data: st.DataObject) -> None:
        lv = data.draw(st.sampled_from(self.lvs), "volume")
        step = max(len(segment.areas()) for segment in lv.segments)
        if lv.extents <= step or any(len(segment.areas()) not in (1, step) for segment in lv.segments):
            return
        less = data.draw(st.integers(1, (lv.extents - 1) // step), "less") * step
        last = lv.segments[-1]
        if less > last.extent_count:
            return
        total = lv.extents - less

        def act(session: Session, found: FoundGroup) -> None:
            resize_lv(session, found, find_lv(found, lv.name), total)

        self.change(ours, act, "lvreduce", "-f", "-l", str(total), f"vg/{lv.name}")

    @rule(ours=st.booleans(), data=st.data())
    @precondition(lambda self: self.lvs)
    def remove(self, ours: bool, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.lvs), "volume").name
        self.change(ours, lambda s, f: remove_any(s, f, find_lv(f, name)), "lvremove", "-f", f"vg/{name}")

    @rule(ours=st.booleans(), data=st.data())
    @precondition(lambda self: self.lvs)
    def rename(self, ours: bool, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.lvs), "volume").name
        new = f"renamed{next(self.numbers)}"
        self.change(ours, lambda s, f: rename_lv(s, f, find_lv(f, name), new), "lvrename", "vg", name, new)

    @rule(ours=st.booleans(), data=st.data(), tag=st.sampled_from(["x", "y/z", "a:b"]))
    @precondition(lambda self: self.lvs)
    def tag(self, ours: bool, data: st.DataObject, tag: str) -> None:
        lv = data.draw(st.sampled_from(self.lvs), "volume")
        if tag in lv.tags:
            return
        self.change(
            ours,
            lambda s, f: change_lv(s, f, find_lv(f, lv.name), LvChanges(add_tags=[tag])),
            *("lvchange", "--addtag", tag, f"vg/{lv.name}"),
        )

    @rule(ours=st.booleans(), data=st.data())
    def allocatable(self, ours: bool, data: st.DataObject) -> None:
        pv = data.draw(st.sampled_from(self.group.pvs), "disk")

        def act(session: Session, found: FoundGroup) -> None:
            chosen = found.group.pv_by_device(pv.device)
            assert chosen is not None
            change_pv(session, found, chosen, allocatable=not pv.allocatable)

        self.change(ours, act, "pvchange", "-xn" if pv.allocatable else "-xy", pv.device)

    @rule(ours=st.booleans(), data=st.data())
    @precondition(lambda self: len(self.group.pvs) < len(self.lvm.devices))
    def grow(self, ours: bool, data: st.DataObject) -> None:
        there = [pv.device for pv in self.group.pvs]
        device = data.draw(st.sampled_from([each for each in self.lvm.devices if each not in there]), "disk")
        options = PvOptions(metadata_copies=self.copies)
        self.change(
            ours,
            lambda s, f: extend_group(s, f, [device], options),
            *("vgextend", "--pvmetadatacopies", str(self.copies), "vg", device),
        )

    @rule(ours=st.booleans(), data=st.data())
    def shrink(self, ours: bool, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(self.group.pvs), "disk").device

        def act(session: Session, found: FoundGroup) -> None:
            pv = found.group.pv_by_device(device)
            assert pv is not None
            reduce_group(session, found, pv)

        self.change(ours, act, "vgreduce", "vg", device)

    @rule(data=st.data(), chunk=st.sampled_from([64, 128, 512]))
    @precondition(lambda self: self.free * self.group.extent_size > 20 << 20)
    def pool(self, data: st.DataObject, chunk: int) -> None:
        """Only we can do this without the kernel; LVM2 approves, and removes it."""
        extents = (4 << 20) // self.group.extent_size
        name = f"pool{next(self.numbers)}"
        with self.lvm.session() as session, session.editing("vg") as found:
            try:
                pool = create_pool(session, found, name, extents, PoolRequest(chunk_size=chunk << 10))
            except LamellaError:
                return
            create_thin(session, found, pool, 100, ThinRequest(f"thin{next(self.numbers)}"))
        self.look()
        if data.draw(st.booleans(), "removed by LVM2"):
            self.lvm.ok("lvremove", "-f", f"vg/{name}")
            self.look()


@pytest.mark.slow
def test_in_turn_with_lvm2(tmp_path: Path) -> None:
    """Two hundred changes and more, by each in turn."""
    folder = tmp_path / "disks"
    folder.mkdir()
    lvm = real.start(folder, 4, 40 << 20)

    class Machine(InTurn):
        pass

    Machine.lvm, Machine.folder = lvm, tmp_path
    try:
        run_state_machine_as_test(  # type: ignore[no-untyped-call] # hypothesis leaves it untyped
            Machine,
            settings=settings(
                max_examples=4, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        lvm.close()
