# SPDX-License-Identifier: Apache-2.0
"""Backups and archives of the metadata that operations write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.errors import CorruptError, NotFoundError
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.volume_groups import GroupOptions, create_group, remove_group, rename_group
from lamella.lvm.session.backup import list_backups, read_backup
from lamella.lvm.session.session import Session
from tests.lvm.memory_groups import environment, memory_disks, text_of

if TYPE_CHECKING:
    from pathlib import Path


def test_backups_and_archives(tmp_path: Path) -> None:
    disks = memory_disks(1)
    surroundings = environment(tmp_path)
    with Session([], surroundings, given=disks) as session, session.creating("vg"):
        create_group(session, "vg", ["disk0"], GroupOptions(extent_size=128 << 10))
    assert not (tmp_path / "archive").exists()
    for number in range(12):
        with Session([], surroundings, given=disks) as session, session.editing("vg") as found:
            create_lv(session, found, LvRequest(1, f"lv{number}"))
    kept = list_backups("vg", surroundings)
    assert [archive.number for archive in kept] == [*range(12), -1]
    assert kept[0].description == "Created *before* executing 'test'"
    assert kept[-1].description == "Created *after* executing 'test'"
    assert len(read_backup(kept[3].path).lvs) == 3
    with Session([], surroundings, given=disks) as session:
        assert text_of(read_backup(tmp_path / "backup" / "vg")) == text_of(session.find("vg").group)
    surroundings.retain_days = 0
    with (
        Session([], surroundings, given=disks) as session,
        session.all_locked(),
        session.editing("vg") as found,
    ):
        rename_group(session, found, "other")
    assert len(list_backups("vg", surroundings)) == 10
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == ["other"]
    with (
        Session([], surroundings, given=disks) as session,
        session.all_locked(),
        session.editing("other") as found,
    ):
        remove_group(session, found, force=True)
    assert list((tmp_path / "backup").iterdir()) == []
    assert len(list_backups("other", surroundings)) == 1


def test_a_backup_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_backup(tmp_path / "nothing")
    (tmp_path / "broken").write_bytes(b"vg {\xff")
    with pytest.raises(CorruptError, match="broken"):
        read_backup(tmp_path / "broken")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("-5", 4294967291),
        ("99999999999", 1215752191),
        ('"x"', 0),
        ("9223372036854775808", 1527120000),
        ("-9223372036854775809", 1527120000),
        ("-9223372036854775808", 0),
    ],
)
def test_odd_times_of_archives(written: str, shown: int, tmp_path: Path) -> None:
    """As LVM2 2.03.16 lists them: the low 32 bits of a number, else 0; 2018-05-24 for one past 64 bits."""
    disks = memory_disks()
    around = environment(tmp_path)
    with Session([], around, given=disks) as session, session.creating("vg"):
        create_group(session, "vg", list(disks), GroupOptions(extent_size=128 << 10))
    backup = tmp_path / "backup" / "vg"
    text = backup.read_text()
    time = f"\ncreation_time = {around.now()}"
    assert time in text
    backup.write_text(text.replace(time, f"\ncreation_time = {written}", 1))
    read = read_backup(backup)
    assert read.creation_time == shown
    assert len(read.remarks) == (shown == 1527120000)


def test_a_time_past_64_bits_on_a_disk() -> None:
    """As LVM2 2.03.16 reads it: warned about once for each, and replaced by what is written next."""
    disks = memory_disks(1)
    with Session([], environment(), given=disks) as session, session.creating("vg"):
        create_group(session, "vg", ["disk0"], GroupOptions(extent_size=128 << 10))
    with Session([], environment(), given=disks) as session, session.editing("vg") as found:
        create_lv(session, found, LvRequest(1, "a")).creation_time = 1 << 63
        create_lv(session, found, LvRequest(1, "b"))
    said = "WARNING: Invalid creation_time found in metadata (repaired with next metadata update)."
    with Session([], environment(), given=disks) as session, session.editing("vg") as found:
        assert [[str(notice) for notice in disk.notices] for disk in found.disks.values()] == [[said]]
        assert found.group.lvs["a"].creation_time == 1527120000
        create_lv(session, found, LvRequest(1, "c"))
    with Session([], environment(), given=disks) as session:
        found = session.find("vg")
        assert [disk.notices for disk in found.disks.values()] == [[]]
        assert found.group.lvs["a"].creation_time == 1527120000
