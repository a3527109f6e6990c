# SPDX-License-Identifier: Apache-2.0
"""``pvck --repair`` and ``--repairtype`` by LVM2 and by us, on the same damaged disk: what both say, and
every byte of the disk afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lvm.differential.compare import NOISE
from tests.lvm.differential.disks import Disks
from tests.lvm.differential.programs import need_own_version, ours, real

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lvm.differential.disks import Content
    from tests.lvm.differential.programs import Answer

MIB = 1 << 20
DAMAGE = {
    "nothing": (),
    "the label": ((512, bytes(512)),),
    "the label and the first area": ((0, bytes(MIB)),),
    "the checksum": ((528, b"xx"),),
    "the label's name": ((512, b"xx"),),
    "the label's sector": ((520, b"\7"),),
    "where the header is": ((532, b"\7"),),
    "the label's type": ((536, b"\7"),),
    "the area's header": ((4096, bytes(512)),),
    "the text": ((5000, bytes(9000)),),
}
"""Bytes written over the disk at these offsets."""
LINES = """--repair -y -f {meta}
--repair -y
--repair -f {meta}
--repair -t -y -f {meta}
--repair -y -f {etc}/nothing
--repair -y -f {bad}
--repair -y -f {empty}
--repair -y -f {other}
--repair -y -f {other} --settings pv_uuid={uuid}
--repair -y -f {meta} --settings pv_uuid=zzz
--repairtype label_header -y
--repairtype label_header -y -f {meta}
--repairtype pv_header -y -f {meta}
--repairtype pv_header -f {meta}
--repairtype pv_header -y --settings "pv_uuid={uuid} device_size=536870912 data_offset=1048576"
--repairtype pv_header -y --settings pv_uuid={uuid}
--repairtype metadata -y -f {meta}
--repairtype metadata -y -f {meta} --settings mda_num=2
"""


class Group:
    """A group on two disks with two metadata areas each, and files with its text."""

    def __init__(self, disks: Disks) -> None:
        self.disks = disks
        first, second, *_ = disks.devices
        for line in (
            f"vgcreate --metadatacopies all --pvmetadatacopies 2 vg {first} {second}",
            "lvcreate -an -Zn -y -L8m -n a vg",
            f"pvck --dump metadata -f {disks.etc}/meta {second}",
            f"vgcfgbackup -f {disks.etc}/saved vg",
        ):
            assert real(line.split(), disks.around).code == 0, line
        meta = (disks.etc / "meta").read_bytes()
        (disks.etc / "bad").write_text("garbage")
        (disks.etc / "empty").touch()
        (disks.etc / "other").write_bytes(meta.replace(first.encode(), b"/dev/other"))
        uuid = real(["pvs", "--noheadings", "-o", "pv_uuid", first], disks.around).out.strip()
        names = {name: f"{disks.etc}/{name}" for name in ("meta", "bad", "empty", "other", "saved")}
        self.names = {**names, "etc": str(disks.etc), "uuid": uuid}
        self.sound = disks.content()

    def words(self, line: str) -> list[str]:
        before, quoted, after = line.format(**self.names).partition('"')
        return ["pvck", *before.split(), *([after.rstrip('"')] if quoted else []), self.disks.devices[0]]

    def damage(self, writes: tuple[tuple[int, bytes], ...]) -> Content:
        """Put the sound disks back with these bytes over the first."""
        self.disks.put_back(self.sound)
        with open(self.disks.devices[0], "r+b") as stream:
            for at, content in writes:
                stream.seek(at)
                stream.write(content)
        return self.disks.content()


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    need_own_version()
    disks = Disks(tmp_path_factory.mktemp("repair"))
    try:
        yield Group(disks)
    finally:
        disks.close()


def sectors(content: Content) -> dict[int, bytes]:
    """What is in the sectors of the first disk that are not zero, by their offsets."""
    return {
        start + at: run[at : at + 512]
        for start, run in content.disks[0]
        for at in range(0, len(run), 512)
        if run.count(0, at, at + 512) != len(run[at : at + 512])
    }


def said(answer: Answer) -> list[str]:
    lines = [line for line in (answer.out + answer.err).splitlines() if line and not NOISE.search(line)]
    return sorted(lines)


@pytest.mark.parametrize("what", DAMAGE)
def test_the_same_is_said_and_written(group: Group, what: str) -> None:
    wrong = []
    for line in LINES.splitlines():
        before = group.damage(DAMAGE[what])
        theirs = real(group.words(line), group.disks.around)
        wanted = group.disks.content()
        group.disks.put_back(before, wanted)
        mine = ours(group.words(line), group.disks.around)
        made = group.disks.content()
        if (mine.code, said(mine)) != (theirs.code, said(theirs)):
            wrong.append(f"{line}\n  LVM2: {theirs.code} {said(theirs)}\n  ours: {mine.code} {said(mine)}")
        theirs_has, ours_has = sectors(wanted), sectors(made)
        if theirs_has != ours_has:
            places = [at for at in {**theirs_has, **ours_has} if theirs_has.get(at) != ours_has.get(at)]
            wrong.append(f"{line}: the disk differs at {sorted(places)[:4]}")
    assert not wrong, "\n".join(wrong)


def test_a_backup_repairs_what_lvm2_then_reads(group: Group) -> None:
    group.damage(((0, bytes(MIB)),))
    answer = ours(group.words("--repair -y -f {saved}"), group.disks.around)
    assert answer.code == 0, answer
    # The text is not that of the other disk byte by byte, which LVM2 calls inconsistent.
    for line in ("pvs", "vgck --updatemetadata vg", "vgck vg"):
        answer = real(line.split(), group.disks.around)
        assert answer.code == 0, (line, answer)
    assert "WARNING" not in "".join(said(answer)), answer
