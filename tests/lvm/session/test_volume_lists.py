# SPDX-License-Identifier: Apache-2.0
"""``activation/volume_list`` and its kin; what the entries mean is in lvm.conf(5)."""

from __future__ import annotations

import os

import pytest

from lamella.lvm.format.model import LogicalVolume, VolumeGroup
from lamella.lvm.session.config import Config, parse_text
from lamella.lvm.session.volume_lists import ACTIVATE, AUTOMATIC, READ_ONLY, VolumeLists

GROUP = VolumeGroup(name="vg", uuid="", extent_sectors=8192, tags=["web"])
VOLUME = LogicalVolume(name="lv", uuid="", tags=["fast"])
OTHER = LogicalVolume(name="other", uuid="")


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        ('["vg"]', (True, True)),
        ('["vg/lv"]', (True, False)),
        ('["@fast"]', (True, False)),
        ('["@web", "nosuch"]', (True, True)),
        ('["v", "vg/l", "@fas"]', (False, False)),
        ("[]", (False, False)),
    ],
)
def test_entries(entries: str, chosen: tuple[bool, bool]) -> None:
    lists = VolumeLists.configured(Config([parse_text(f"activation {{ volume_list = {entries} }}")]))
    assert (lists.may_activate(GROUP, VOLUME), lists.may_activate(GROUP, OTHER)) == chosen
    assert lists.has(READ_ONLY, GROUP, VOLUME) is None
    assert lists.has(AUTOMATIC, GROUP, VOLUME) is None


def test_without_a_list_everything_may_be_activated() -> None:
    assert VolumeLists.configured(Config([])).may_activate(GROUP, OTHER)


def test_tags_of_the_host() -> None:
    config = Config([parse_text("tags { fast {} } activation { read_only_volume_list = [ '@*' ] }")])
    lists = VolumeLists.configured(config)
    assert lists.has(READ_ONLY, GROUP, VOLUME) is True
    assert lists.has(READ_ONLY, GROUP, OTHER) is False
    assert (lists.has(ACTIVATE, GROUP, VOLUME), lists.may_activate(GROUP, OTHER)) == (True, False)
    lists = VolumeLists.configured(Config([parse_text("tags { hosttags = 1 }")]))
    assert lists.host_tags == {os.uname().nodename}
    assert not lists.may_activate(GROUP, VOLUME)
