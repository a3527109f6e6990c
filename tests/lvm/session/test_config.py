# SPDX-License-Identifier: Apache-2.0
"""LVM2's settings, filters and profiles, and the lists of disks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.errors import NotFoundError, UsageError
from lamella.lvm.session.config import Config, accepted_name, parse_text
from lamella.lvm.session.profile import (
    AutoExtend,
    auto_extend,
    find_profile,
    load_profile,
    profile_text,
    unprofilable,
)
from tests.lvm.oracle import ours

if TYPE_CHECKING:
    from pathlib import Path


def test_layers(tmp_path: Path) -> None:
    (tmp_path / "lvm.conf").write_text('# units = "k"\nglobal {\n\tunits = "m"\n\tsuffix = 0\n}\n')
    config = Config.load('global/units="g"', tmp_path)
    assert config.text("global/units") == "g"
    assert not config.flag("global/suffix")
    assert config.number("backup/retain_min") == 10
    profile = config.with_layer(parse_text("global { units = b suffix = 1 }"))
    assert (profile.text("global/units"), profile.flag("global/suffix")) == ("g", True)
    assert config.with_layer(parse_text("global { units = b }"), first=True).text("global/units") == "b"


def test_kinds_of_values(tmp_path: Path) -> None:
    config = Config.load('global { activation = "no" suffix = "on" } devices { filter = "a|x|" }', tmp_path)
    assert not config.flag("global/activation")
    assert config.flag("global/suffix")
    assert config.strings("devices/filter") == ["a|x|"]
    assert config.strings("devices/global_filter") == ["a|.*|"]


def test_values_of_a_wrong_type_leave_the_default(tmp_path: Path) -> None:
    """``vgs --config backup/backup=x`` of LVM2 2.03.16 says so, and goes on with the default."""
    bad = Config.load('global{activation="x" umask=1.5} backup{retain_days="many" backup_dir=3}', tmp_path)
    assert bad.flag("global/activation")
    assert (bad.number("global/umask"), bad.number("backup/retain_days")) == (0o77, 30)
    assert bad.text("backup/backup_dir").endswith("/backup")


@pytest.mark.parametrize("text", ["x", "foo{bar", "global{units=}", '"', "a=[1", "{}"])
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_text(text)
    assert ours(["lvs"], ["/dev/null"], config=text).code in (3, 5)


def test_filters() -> None:
    assert accepted_name(["a|^/dev/sd|", "r|.*|"], ["/dev/sda"])
    assert not accepted_name(["a|^/dev/sd|", "r|.*|"], ["/dev/loop0"])
    assert accepted_name([], ["/dev/x"])
    assert not accepted_name(["r(loop)"], ["/dev/loop1"])


@pytest.mark.parametrize("pattern", ["x|a|", "a", "a|b", "a|[|"])
def test_bad_filters_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        accepted_name([pattern], ["/dev/x"])


def test_profiles(tmp_path: Path) -> None:
    (tmp_path / "mine.profile").write_text(profile_text(80, 20))
    config = Config.load("", tmp_path)
    folders = [tmp_path]
    assert unprofilable(load_profile("mine", folders)) == []
    assert auto_extend(config, "mine", folders) == AutoExtend(80, 20)
    assert auto_extend(config, "", folders) == auto_extend(config, "gone", folders) == AutoExtend(100, 20)
    (tmp_path / "bad.profile").write_text("global { units = k }")
    assert unprofilable(load_profile("bad", folders)) == ["global/units"]
    with pytest.raises(NotFoundError, match="stat failed"):
        find_profile("gone", folders)
    with pytest.raises(NotFoundError, match="stat failed: File name too long"):
        find_profile("9" * 300, folders)


@pytest.mark.parametrize("name", ["", "../mine"])
def test_bad_names_of_profiles_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.profile").write_text(profile_text(80, 20))
    with pytest.raises(UsageError):
        find_profile(name, [tmp_path])


def test_units_and_columns_from_the_configuration(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as stream:
        stream.truncate(64 << 20)
    assert ours(["vgcreate", "v", str(disk)], [str(disk)]).code == 0
    got = ours(
        ["vgs"],
        [str(disk)],
        config='global{units="b" suffix=0} report{vgs_cols="vg_name,vg_size" headings=0}',
    )
    assert got.out == "  v  62914560\n"  # as wide as the heading that is not there


def test_a_filter_is_asked_for_every_name_of_a_device() -> None:
    """As LVM2's lib/filters/filter-regex.c: the first accepted name counts, and becomes the device's."""
    names = ["/dev/sdb", "/dev/disk/by-id/ata-X", "/dev/mapper/y"]
    assert accepted_name(["a|^/dev/disk/by-id/|", "r|.*|"], names) == "/dev/disk/by-id/ata-X"
    assert accepted_name(["r|^/dev/sd|", "a|^/dev/mapper/|"], names) == "/dev/mapper/y"
    assert accepted_name(["r|^/dev/sd|"], names) == ""
    assert accepted_name(["r|nosuch|"], names) == "/dev/sdb"
    assert accepted_name(["a|sdb|", "a|y$|"], names) == "/dev/sdb"
