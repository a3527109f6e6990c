# SPDX-License-Identifier: Apache-2.0
"""Text that is written back means the same, whatever characters stood in it; what cannot be is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import CorruptError
from lamella.lvm.format.group_checks import check_before_write
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.format.group_writer import Header, write_compact, write_readable
from lamella.lvm.format.text import parse
from tests.lvm.every_section import group_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.format.model import VolumeGroup

TEXT = group_text(["PvPvPv-nnnn-nnnn-nnnn-nnnn-nnnn-n00001"], 480)
ODD = '"], }\n\\" message9 { delete = 1 } # \t='
HEADER = Header(ODD, "host", "Linux", 0)
EDITS: dict[str, tuple[str, str]] = {
    "group's tag": ("flags = []\nextent_size", "flags = []\ntags = [{}]\nextent_size"),
    "disk's tag": ("flags = []\ndev_size", "flags = []\ntags = [{}]\ndev_size"),
    "disk's path": ('device = "/dev/none"', "device = {}"),
    "flags": ("flags = []\nextent_size", "flags = [{}]\nextent_size"),
    "host": ('creation_host = "host"\nsegment', "creation_host = {}\nsegment"),
    "policy of a cache": ('policy = "smq"', "policy = {}"),
    "mode of an integrity": ('mode = "J"', "mode = {}"),
    "profile": ("metadata_copies = 0", "profile = {}\nmetadata_copies = 0"),
    "lock arguments": ("segment_count = 1", "lock_args = {}\nsegment_count = 1"),
    "unknown value": ("metadata_copies = 0", "metadata_copies = 0\nfuture = {}"),
    "unknown list": ("metadata_copies = 0", "metadata_copies = 0\nfuture = [1, {}, 2.5]"),
    "unknown key": ("metadata_copies = 0", 'metadata_copies = 0\n"a # b}}" = {}'),
    "unknown section": ("metadata_copies = 0", 'metadata_copies = 0\n"a b" {{\n"c=d" = {}\n}}'),
}


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parsed(group: VolumeGroup, write: Callable[[VolumeGroup, Header], str]) -> object:
    return parse(write(group, HEADER))


@pytest.mark.parametrize("write", [write_compact, write_readable], ids=["compact", "readable"])
@pytest.mark.parametrize("edit", EDITS)
def test_odd_strings_come_back(edit: str, write: Callable[[VolumeGroup, Header], str]) -> None:
    old, new = EDITS[edit]
    text = TEXT.replace(old, new.format(quoted(ODD)), 1)
    assert text != TEXT
    group = read_group(text)
    written = parse(write(group, HEADER))
    again = read_group(write(group, HEADER))
    assert parsed(again, write) == written
    wanted, got = parse(text)["vg"], written["vg"]
    assert isinstance(wanted, dict)
    assert isinstance(got, dict)
    assert {key: value for key, value in got.items() if key != "physical_volumes"} == {
        key: value for key, value in wanted.items() if key != "physical_volumes"
    }


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_tag_comes_back(tag: str) -> None:
    group = read_group(TEXT)
    group.tags = [tag]
    group.lvs["plain"].tags = [tag, "x"]
    again = read_group(write_compact(group, HEADER))
    assert (again.tags, again.lvs["plain"].tags) == ([tag], [tag, "x"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("plain {", '"pl ain" {', "Invalid logical volume name"),
        ("gone {", '"go ne" {', "Invalid historical logical volume name"),
        ('origin = "t1"\n}\ngone2', 'origin = "nobody"\n}\ngone2', "Unknown origin nobody for historical"),
        (
            'descendants = ["tlive"]',
            'descendants = ["x"]',
            "Failed to find descendant x for historical LV gone2",
        ),
        ("gone2 {", "plain {", "appears as live and historical LV"),
        ('meta_dev = "r1_rimage_0_imeta"', 'meta_dev = "x"', "Unknown meta_dev x"),
        ('writecache = "wfast_cvol"', 'writecache = "x"', "Unknown writecache x"),
        ('merging_store = "mcow"', 'merging_store = "x"', "Unknown merging_store x"),
        ('mirror_log = "mir_mlog"', 'mirror_log = "x"', "Unknown mirror_log x"),
        ('vdo_pool = "vp"', 'vdo_pool = "x"', "Unknown vdo_pool x"),
        ('"r1_rmeta_0", ', '"x", ', "Unknown metadata_area x"),
        ('raid0_lvs = ["r0_rimage_0"', 'raid0_lvs = ["x"', "Unknown area x"),
        ("max_lv = 0", f"max_lv = 0\nfuture = {'9' * 400}.0", "Failed to read float token"),
    ],
)
def test_names_that_lead_nowhere_are_refused(old: str, new: str, said: str) -> None:
    """As by LVM2, which cannot read such a group (lib/format_text/import_vsn1.c and each segment type)."""
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    with pytest.raises(CorruptError, match=re.escape(said)):
        read_group(text)


def test_a_group_that_could_not_be_read_again_is_not_written() -> None:
    group = read_group(TEXT)
    check_before_write(group)
    del group.lvs["quick_cvol"]
    with pytest.raises(CorruptError, match="Unknown cache_pool quick_cvol") as refusal:
        check_before_write(group)
    assert refusal.value.message.startswith("Volume group vg was not changed")
