# SPDX-License-Identifier: Apache-2.0
"""Groups: text in, model, text out. The texts were written by LVM2 itself."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.errors import CorruptError, LamellaError
from lamella.lvm.disks.scan import scan
from lamella.lvm.format import group_writer
from lamella.lvm.format.group_reader import read_group, read_name_and_seqno
from lamella.lvm.format.group_writer import Header, write_compact, write_readable
from lamella.lvm.format.ids import new_uuid
from lamella.lvm.format.model import LogicalVolume, VolumeGroup
from lamella.lvm.format.physical_volume import PhysicalVolume
from lamella.lvm.format.segments import Area, StripedSegment
from lamella.lvm.format.text_lines import size_comment
from tests.lvm.real import readable
from tests.support.docker_stores import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.docker_stores import DockerStores

TEXTS = [
    ("lvm-a.tar.zst", "lvm-a/vgcfg.vg1.txt"),
    ("lvm-c.tar.zst", "lvm-c/vgcfg.vgthin.txt"),
    ("lvm-e.tar.zst", "lvm-e/vgcfg.vgr.txt"),
]


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times in comments are local; the fixtures were made in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def header_of(group: VolumeGroup, text: str) -> Header:
    """The header with which LVM2 wrote *text*."""
    system = re.search(r'creation_host = "[^"]*"\t# (.*)', text)
    assert system is not None
    return Header(group.description, group.creation_host, system[1], group.creation_time)


@pytest.mark.parametrize(("fixture", "name"), TEXTS)
@pytest.mark.usefixtures("utc")
def test_a_backup_is_written_byte_for_byte_as_lvm_wrote_it(
    fixture_dir: Callable[[str], Path], fixture: str, name: str
) -> None:
    text = (fixture_dir(fixture) / name).read_text()
    group = read_group(text)
    assert write_readable(group, header_of(group, text)) == text


@pytest.mark.parametrize(("fs", "state"), [(fs, state) for mode, fs, state in ALL if mode == "direct-lvm"])
@pytest.mark.usefixtures("utc")
def test_dockers_group_is_written_byte_for_byte_as_lvm_wrote_it(
    docker_store: DockerStores, fs: str, state: str
) -> None:
    """Both the backup of it, and what is on the disk."""
    store = docker_store("direct-lvm", fs, state)
    text = store.text("vgcfg.txt")
    group = read_group(text)
    assert write_readable(group, header_of(group, text)) == text
    device = group.pvs[0].device
    found = scan([str(store.disk)])
    assert [str(notice) for notice in found.all_notices()] == []
    group = found.groups[0].group
    text = found.groups[0].copies[0].text.rstrip(b"\0").decode()
    group.pvs[0].device = device
    assert write_compact(group, header_of(group, text)) == text
    found.close()


@pytest.mark.parametrize(
    ("fixture", "folder", "images"),
    [("lvm-a.tar.zst", "lvm-a", 2), ("lvm-c.tar.zst", "lvm-c", 2), ("lvm-e.tar.zst", "lvm-e", 4)],
)
@pytest.mark.usefixtures("utc")
def test_a_metadata_area_is_written_byte_for_byte_as_lvm_wrote_it(
    fixture_dir: Callable[[str], Path], fixture: str, folder: str, images: int
) -> None:
    place = fixture_dir(fixture) / folder
    found = scan([str(place / f"vd{letter}.img") for letter in "bcde"[:images]])
    assert [str(notice) for notice in found.all_notices()] == []
    group = found.groups[0].group
    text = found.groups[0].copies[0].text.rstrip(b"\0").decode()
    for letter, pv in zip("bcde", group.pvs, strict=False):
        pv.device = f"/dev/vd{letter}"
    assert write_compact(group, header_of(group, text)) == text
    found.close()


@pytest.mark.parametrize(("fixture", "folder"), [("lvm-a.tar.zst", "lvm-a"), ("lvm-c.tar.zst", "lvm-c")])
def test_extents_are_where_lvm_reports_them(
    fixture_dir: Callable[[str], Path], fixture: str, folder: str
) -> None:
    place = fixture_dir(fixture) / folder
    found = scan([str(place / "vdb.img"), str(place / "vdc.img")])
    group = found.groups[0].group
    for letter, pv in zip("bc", group.pvs, strict=True):
        pv.device = f"/dev/vd{letter}"
    report: list[dict[str, Any]] = json.loads((place / "segs.json").read_text())["report"][0]["seg"]
    seen = 0
    for row in report:
        lv = group.lvs[row["lv_name"].strip("[]")]
        segment = next(each for each in lv.segments if each.start_extent == int(row["seg_start_pe"]))
        assert segment.extent_count == int(row["seg_size_pe"])
        if not isinstance(segment, StripedSegment):
            continue
        ranges = [
            f"{area.pv.device}:{area.extent}-{area.extent + segment.area_extents - 1}"
            for area in segment.stripes
            if area.pv is not None
        ]
        assert " ".join(ranges) == row["seg_pe_ranges"]
        seen += 1
    assert seen > 3
    found.close()


def test_every_type_of_the_fixture_with_raids_and_caches(fixture_dir: Callable[[str], Path]) -> None:
    group = read_group((fixture_dir("lvm-e.tar.zst") / "lvm-e/vgcfg.vgr.txt").read_text())
    assert group.lvs["r5"].segments[0].kind == "raid5"
    assert [area.lv for area in group.lvs["r5"].segments[0].areas()] == [
        f"r5_rimage_{number}" for number in range(4)
    ]
    assert [area.lv for area in group.lvs["r1"].segments[0].metadata_areas()] == ["r1_rmeta_0", "r1_rmeta_1"]
    assert group.lvs["cpool_cpool"].segments[0].type_flags == ["METADATA_FORMAT"]
    assert group.snapshot_origin(group.lvs["oldsnap"]) is group.lvs["org"]
    assert group.is_visible(group.lvs["oldsnap"])
    assert not group.is_visible(group.lvs["snapshot0"])
    users = group.users()
    assert ("slow", "cache_pool") in [(lv.name, role) for lv, _segment, role in users["cpool_cpool"]]
    assert group.free_extents() == group.extents - sum(
        count for runs in group.extent_map().values() for _start, count, _lv, _segment in runs
    )
    group.rename_lv(group.lvs["slow_corig"], "other")
    assert group.lvs["slow"].segments[0].extra["origin"] == "other"


def make_group(volumes: int = 3) -> VolumeGroup:
    group = VolumeGroup("vg", new_uuid(), extent_sectors=2048)
    pv = PhysicalVolume(new_uuid(), "/dev/x", dev_sectors=1 << 20, pe_start=2048, pe_count=500)
    group.pvs.append(pv)
    for number in range(volumes):
        lv = LogicalVolume(f"lv{number}", new_uuid(), creation_time=1795341835, creation_host="h")
        segment = StripedSegment("striped", 0, 2)
        segment.mapped = [Area(pv, 10 * number)]
        lv.segments.append(segment)
        group.lvs[lv.name] = lv
    return group


HEADER = Header("test", "host", "Linux", 1795341835)


def test_everything_that_is_optional() -> None:
    group = make_group()
    group.tags, group.system_id, group.profile = ["a", "b"], "me", "prof"
    group.lock_type, group.lock_args, group.allocation_policy = "none", "1.0.0:x", "cling"
    group.flags = ["NOAUTOACTIVATE"]
    pv = group.pvs[0]
    pv.ba_start, pv.ba_size, pv.tags, pv.flags = 2048, 4096, ["t"], ["MISSING"]
    pv.device_id, pv.device_id_type = "x y", "sys_wwid"
    lv = group.lvs["lv0"]
    lv.read_ahead, lv.major, lv.minor, lv.lock_args = 0, 253, 7, "1:2"
    lv.allocation_policy, lv.profile, lv.tags = "anywhere", "p", ["q"]
    group.lvs["lv1"].read_ahead = 256
    group.extra = {"new_key": ["x", 1], "new_section": {"y": 2.5}}
    lv.extra = {"lv_key": "v"}
    lv.segments[0].extra = {"seg_key": 5}
    text = write_compact(group, HEADER)
    again = read_group(text)
    assert write_compact(again, HEADER) == text
    assert again.extra == group.extra
    assert again.lvs["lv0"].read_ahead == 0
    assert again.lvs["lv0"].extra == {"lv_key": "v"}
    assert read_group(write_readable(group, HEADER)).lvs.keys() == group.lvs.keys()
    assert read_name_and_seqno(text) == ("vg", group.uuid, 0)


def test_quotes_in_values_are_escaped() -> None:
    """Damaged text may have any value; what is written must be readable again."""
    host = '\x01"ho\\st"'
    group = make_group()
    for lv in group.lvs.values():
        lv.creation_host = host
    group.lvs["lv0"].tags = ["t"]  # the others are written in another way
    for text in (write_compact(group, HEADER), write_readable(group, HEADER)):
        assert {lv.creation_host for lv in read_group(text).lvs.values()} == {host}


def test_unknown_types_are_kept() -> None:
    text = write_compact(make_group(), HEADER).replace(
        'type = "striped"\nstripe_count = 1\n\nstripes = [\n"pv0", 20\n]\n',
        'type = "future+FLAG"\nnumber=5\nwords=["a","b"]\ninner {\n\tx=1\n}\n',
    )
    group = read_group(text)
    segment = group.lvs["lv2"].segments[0]
    assert (segment.kind, segment.type_flags) == ("future", ["FLAG"])
    assert segment.extra == {"number": 5, "words": ["a", "b"], "inner": {"x": 1}}
    assert write_compact(group, HEADER) == text


def test_segments_that_touch_are_merged() -> None:
    group = make_group(1)
    lv = group.lvs["lv0"]
    second = StripedSegment("striped", 2, 3)
    second.mapped = [Area(group.pvs[0], 2)]
    lv.segments.append(second)
    again = read_group(write_compact(group, HEADER))
    assert [(each.start_extent, each.extent_count) for each in again.lvs["lv0"].segments] == [(0, 5)]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('contents = "Text Format Volume Group"', 'contents = "x"', "unrecognised contents field"),
        ("version = 1", "version = 2", "unrecognised version number"),
        ("seqno = 0", 'seqno = "x"', "Couldn't read 'seqno'"),
        ("extent_size = 2048", "extent_size = 0", "Couldn't read extent size"),
        ("segment_count = 1", "segment_count = 2", "actual number of segments disagree"),
        ("pe_count = 500", "pe_count = 5", "which has 5 only"),
        ('"pv0", 10', '"pv0", 1', "allocated twice"),
        ('"pv0", 10', '"pv7", 10', "Couldn't find volume 'pv7'"),
        ("stripe_count = 1", "stripe_count = 2", "Incorrect number of areas"),
        ("stripe_count = 1", "stripe_count = 0", "Zero areas"),
        ("start_extent = 0", "start_extent = 1", "invalid: segment at extent 1"),
        ('"pv0", 10', '"lv1", 0', "is built on itself"),
        ("lv1 {", "-lv1 {", "Invalid logical volume name"),
        ("vg {", "v,g {", "Invalid volume group name"),
        ('status = ["READ", "WRITE", "VISIBLE"]', "status = [1]", "status flags"),
    ],
)
def test_contradictions_are_refused(old: str, new: str, words: str) -> None:
    text = write_compact(make_group(), HEADER)
    assert old in text
    with pytest.raises(CorruptError, match=re.escape(words)):
        read_group(text.replace(old, new), source="/dev/x")


def test_the_error_about_a_long_name_is_not_as_long() -> None:
    text = write_compact(make_group(), HEADER).replace('"pv0", 10', f'"pv{"9" * 5000}", 10')
    with pytest.raises(CorruptError, match="Couldn't find volume 'pv999") as caught:
        read_group(text, source="/dev/x")
    assert len(caught.value.message) < 1200


def test_size_comments_are_printfs() -> None:
    assert size_comment(8192) == "# 4 Megabytes"
    assert size_comment(2048) == "# 1024 Kilobytes"
    assert size_comment(83877888) == "# 39.9961 Gigabytes"
    assert size_comment(1) == "# 0.5 Kilobytes"


def test_the_comment_of_a_long_line_stands_one_tab_behind() -> None:
    group = make_group(0)
    group.pvs[0].device = "/dev/disk/by-id/" + "x" * 60
    assert f'"{group.pvs[0].device}"\t# Hint only' in readable(group)


_base = write_compact(make_group(), HEADER)


@settings(max_examples=200)
@given(st.data())
def test_damaged_texts_are_read_or_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(_base) - 1))
    count = data.draw(st.integers(0, 30))
    put = data.draw(st.text(st.sampled_from('{}[]="#, \n0123456789-pvlse'), max_size=20))
    with suppress(LamellaError):
        group = read_group(_base[:at] + put + _base[at + count :])
        write_compact(group, HEADER)
        write_readable(group, HEADER)
        group.free_extents()


def test_the_quick_way_of_writing_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    group = make_group(20)
    group.lvs["lv3"].tags = ["x"]
    group.lvs["lv4"].flags = ["ACTIVATION_SKIP"]
    group.lvs["lv5"].status = ["READ"]
    quick = write_compact(group, HEADER), write_readable(group, HEADER)
    monkeypatch.setattr(group_writer, "_plain_lv", lambda lv, extent_sectors, readable: "")
    assert quick == (write_compact(group, HEADER), write_readable(group, HEADER))
