# SPDX-License-Identifier: Apache-2.0
"""Where LVM2 2.03.16 put thin pools and stripes, in some hundred random groups
(scripts/fixtures/pool_allocation.py): data, metadata and spare of new and extended pools, of volumes that
become pools, and stripes whose areas may lie on one disk.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from scripts.fixtures.pool_allocation import places_of

from lamella.errors import LamellaError
from lamella.lvm.disks.scan import FoundGroup
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.operations.allocation import Clinging
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.lv_resize import GrowRequest, resize_lv
from lamella.lvm.operations.pool_resize import resize_pool
from lamella.lvm.operations.thin_pools import PoolRequest, convert_to_pool, create_pool
from lamella.lvm.session.session import Session
from tests.conftest import fixture_path
from tests.lvm.memory_groups import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

Case = dict[str, Any]
NAMES = "bcdef"
"""Disk 0 is /dev/vdb."""


class Unwritten(Session):
    """A session that writes nothing; :attr:`places` is where everything lay at the last commit."""

    def __init__(self, found: FoundGroup) -> None:
        super().__init__([], environment(), given={}, test=True)
        self.places = places_of(found.group)

    def commit(self, found: FoundGroup, changed: Sequence[str] | None = None) -> None:
        super().commit(found, changed)
        self.places = places_of(found.group)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    packed = fixture_path("pool-allocation/cases.json.zst").read_bytes()
    found: list[Case] = json.loads(zstandard.decompress(packed))
    return found


def carry_out(session: Session, found: FoundGroup, request: Case) -> None:
    """What our command does for LVM2's."""
    group, kind = found.group, request["kind"]
    disks = {pv.device: pv for pv in group.pvs}
    ranges = [
        (pv, [(0, pv.pe_count)] if pairs is None else [(at, count) for at, count in pairs])
        for pv, pairs in ((disks[f"/dev/vd{NAMES[disk]}"], pairs) for disk, pairs in request["ranges"])
    ] or None
    clinging = Clinging(tuple(request["cling_tags"]), request["maximise_cling"])
    grow = GrowRequest(policy=request["policy"], ranges=ranges, clinging=clinging)
    pool = PoolRequest(
        64 << 10,
        request["metadata"],
        spare=request["spare"],
        policy=request["policy"],
        ranges=ranges,
        stripes=request["stripes"],
        separate_metadata=request["separate"],
        clinging=clinging,
    )
    lv = group.lvs[request["volume"]] if request["volume"] else None
    if kind == "pool":
        create_pool(session, found, "new", request["extents"], pool)
    elif kind == "stripes":
        create_lv(
            session,
            found,
            LvRequest(
                request["extents"],
                "new",
                request["stripes"],
                policy=request["policy"],
                ranges=ranges,
                clinging=clinging,
                zero=False,
                wipe_signatures=False,
            ),
        )
    elif kind == "convert":
        assert lv is not None
        convert_to_pool(session, found, lv, None, pool)
    elif kind == "more stripes":
        assert lv is not None
        resize_lv(session, found, lv, lv.extents + request["extents"], grow)
    else:
        assert lv is not None
        segment = group.pool_segment(lv)
        resize_pool(
            session,
            found,
            lv,
            data_extents=group.lvs[segment.data].extents + request["extents"] if kind == "data" else None,
            metadata_extents=group.lvs[segment.metadata].extents + request["metadata"]
            if kind == "metadata"
            else None,
            request=grow,
        )


def test_the_same_places_as_lvm2(cases: list[Case]) -> None:
    """Or the same refusal, and as much left behind by it."""
    different = []
    allocated = 0
    for number, case in enumerate(cases):
        found = FoundGroup(read_group(case["group"]))
        session = Unwritten(found)
        error: list[str] = []
        try:
            carry_out(session, found, case["request"])
        except LamellaError as caught:
            few = caught.message == "Not enough PVs with free space available for parallel allocation."
            error = [str(caught.hint) if few else caught.message]
        said, places = case["error"], case["places"]
        if said and case["request"]["kind"] == "convert":
            # LVM2 leaves new metadata behind, as a volume lvolN, if there is no room for the spare.
            places = places_of(read_group(case["group"]))
        # LVM2's last line: of the message that too few disks have room that is its hint.
        worded = not said or said[0].startswith(
            ("Insufficient", "Volume group", "Number of stripes", "Consider --alloc")
        )
        if session.places != places or bool(error) != bool(said) or (worded and error != said):
            different.append((number, case["command"], said, error))
        allocated += not said
    assert not different, "\n".join(map(str, different))
    assert allocated > 150
