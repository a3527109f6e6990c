# SPDX-License-Identifier: Apache-2.0
"""The same sessions with the real LVM2 and with us, on disks of the same size: output, codes and results."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from tests.lvm.later_words import later
from tests.lvm.oracle import Answer, Loops, ours, real

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
UUID = re.compile(r"\b[0-9A-Za-z]{6}(?:-[0-9A-Za-z]{4}){5}-[0-9A-Za-z]{6}\b")
ZEROED = re.compile(r"  WARNING: Logical volume \S+ not zeroed\.")
"""We zero volumes without activating them, which the real one cannot."""
SESSIONS = {
    "physical volumes": """\
pvcreate {a} {b}
pvcreate {a}
pvcreate /dev/nosuch
pvcreate {a} --uuid x
pvcreate --uuid aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa {c}
pvcreate --norestorefile --uuid aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa {c}
pvcreate --norestorefile --uuid aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa {c} {a}
pvcreate --restorefile x {c}
pvs
pvremove {c}
pvremove {c}
pvremove /dev/nosuch
pvcreate --pvmetadatacopies 2 --metadatasize 2m {c}
pvck {c}
pvcreate --pvmetadatacopies 0 {c}
pvs -o pv_name,pv_mda_count,pe_start,pv_mda_size
pvcreate --bootloaderareasize 1m --dataalignment 2m {c}
pvs -o pv_name,pv_ba_start,pv_ba_size,pe_start
pvresize {a} {b}
pvresize /dev/nosuch
pvchange --addtag x {a}
pvchange -xn {a}
pvchange -u {a}
pvchange -xn /dev/nosuch
pvchange --metadataignore y {a}
pvs -o pv_name,pv_mda_used_count
vgcreate v {b}
pvremove {b}
pvchange --addtag x {b}
pvchange --addtag x {b}
pvchange -xn {b}
pvchange -xn {b}
lvcreate -y -l1 v
pvchange -xy {b}
pvresize --setphysicalvolumesize 80m -y {b}
pvs -o pv_name,pv_size,dev_size
pvresize -y --setphysicalvolumesize 3m {b}
vgremove v
""",
    "volume groups": """\
vgcreate v {a} {b}
vgcreate v {c}
vgcreate x {a}
vgcreate x /dev/nosuch
vgcreate 'b@d' {c}
vgcreate -s 0 x {c}
vgcreate --alloc inherit x {c}
vgcreate --addtag a/b -s 1m -l 9 -p 3 --alloc cling x {c}
vgs -o +vg_tags,vg_extent_size,max_lv,max_pv,vg_allocation_policy
vgextend x {a}
vgremove x
vgextend v {c}
vgreduce v {c}
vgreduce v {c}
vgreduce v /dev/nosuch
vgextend v {c}
lvcreate -y -n l -l 5 v {b}
vgreduce v {b}
vgreduce -a v
vgs
vgreduce v {b}
vgreduce --removemissing v
vgrename v v
vgrename nosuch x
vgrename v new
vgrename new 'b@d'
vgrename /dev/new /dev/v
vgchange --addtag x v
vgchange --deltag y v
vgchange -x n v
vgchange -xn v
vgextend v {a}
vgchange -x y v
vgchange -l 5 v
vgchange -p 1 v
vgextend v {a}
vgchange -p 0 v
vgchange -s 1m v
vgchange -s 4m v
vgchange -s 0 v
vgchange --alloc cling v
vgchange --alloc cling v
vgchange --alloc inherit v
vgchange -an v
vgchange --setautoactivation n v
vgchange --systemid foo v
vgchange -u v
vgs -o +vg_autoactivation,vg_seqno
vgexport v
vgs
pvs
lvcreate -l1 v
vgimport v
vgimport v
vgexport -a
vgimport -a
vgexport nosuch
vgremove v
vgremove -y v
vgremove v
""",
    "logical volumes": """\
vgcreate v {a} {b}
lvcreate -y -n zz -l 5 v
lvcreate -y -l 5 -n w/zz v
lvcreate -y -l 1 -n zz v
lvcreate -y -l 1 -n bad/na/me v
lvcreate -y -l 1 -n 'b@d' v
lvcreate -y -l 1 -n snapshot v
lvcreate -y -l 1 -n foo_tmeta v
lvcreate -y -l 1 v
lvcreate -y -l 1 v
lvcreate -y -L 5m -n odd v
lvcreate -y -l 500 v
lvcreate -y -l 1%VG v
lvcreate -y -l 10%LV v
lvcreate -y -L 5m -l 5 v
lvcreate -y -L 0 v
lvcreate -y -l 0 v
lvcreate -y -l 5 -i2 v
lvcreate -y -l 5 -i3 v
lvcreate -y -l 2 -i2 -I 3k v
lvcreate -y -l 2 -i2 -I 64 v
lvcreate -y -l 2 -i1 -I 64 v
lvcreate -y -l 1 v /dev/nosuch
lvcreate -y -l 1 v {c}
lvcreate -y -l 2 -n pes v {b}:15-17
lvcreate -y -l 2 -n pes2 v {b}:50-70
lvcreate -y -l 2 -n pes3 v {b}:5-x
lvcreate -y -C y -l 40 -n cc v
lvcreate -y -pr -l1 -n ro v
lvcreate -y -n tagged --addtag a --addtag b --addtag a -l1 v
lvcreate -y -n minor --minor 5 -My -l1 v
lvcreate -y -n minor2 -My -l1 v
lvcreate -y -n ra -r 9 -l1 v
lvcreate -y -n ra2 -r none -l1 v
lvcreate -y -n skip -ky -l1 v
lvcreate -y -n noauto --setautoactivation n -l1 v
lvcreate -l1 nosuch
lvcreate -n nope -l1 --metadataprofile nosuch v
lvs -a -o +seg_pe_ranges,lv_tags,lv_read_ahead,lv_minor,lv_autoactivation
lvrename v zz b
lvrename v/b zz
lvrename v/zz w/b
lvrename v zz zz
lvrename v nosuch x
lvrename v zz 'x@y'
lvrename v zz ro
lvrename /dev/v/zz /dev/v/renamed
lvrename v/renamed zz
lvchange -pr v/zz
lvchange -pr v/zz
lvchange -prw v/zz
lvchange --addtag x v/zz
lvchange --addtag x v/zz
lvchange --deltag x v
lvchange -C y v/zz
lvchange -C y v/zz
lvchange --alloc normal v/zz
lvchange -r 256 v/zz
lvchange -r 256 v/zz
lvchange -r auto v/zz
lvchange -ky v/zz
lvchange -kn v/zz
lvchange -an v/zz
lvchange --metadataprofile nosuch v/zz
lvchange --metadataprofile thin-generic v/zz
lvchange --detachprofile v/zz
lvchange -Zn v/zz
lvchange --discards ignore v/zz
lvchange --resync v/zz
lvchange --setautoactivation n v/zz
lvchange --addtag y nosuch/a
lvchange --addtag y v/nosuch
lvchange --addtag z -S 'lv_name=zz'
lvs -o lv_name,lv_tags,lv_attr,lv_profile
lvremove -y v/pes v/nosuch
lvremove v/odd
lvremove -y @a
lvremove nosuch
lvremove -y v/x/y
lvremove -y v -S 'lv_name=~^lvol'
lvs
vgremove -y v
""",
    "sizes": """\
vgcreate v {a} {b}
lvcreate -y -l5 -n a v
lvextend -L+4m v/a
lvextend -l+2 v/a
lvextend -l 3 v/a
lvextend -l 8 v/a
lvextend -L 5 v/a
lvextend -l+100%FREE v/a
lvextend -l+1 v/a
lvreduce -l-5 v/a
lvreduce -f -l-5 v/a
lvreduce -y -l 5 v/a
lvreduce -y -l 50 v/a
lvreduce -y -l-50 v/a
lvreduce -y -L-1m v/a
lvreduce -y -L 10m v/a
lvresize -l 5 v/a
lvresize -y -l-1 v/a
lvresize -l+10%VG v/a
lvresize -l 50%FREE v/a
lvextend -l+20%LV v/a
lvreduce -y -l-33%LV v/a
lvresize -l 100%VG v/a
lvextend -l+50%PVS v/a
lvextend -L+5m -n v/a
lvextend -r -L+5m v/a
lvextend v/a {b}
lvextend -l+1 v/nosuch
lvextend -l+1 nosuch/a
lvresize -L+1 -l+1 v/a
lvextend -L+0 v/a
lvextend -l0 v/a
lvextend --usepolicies v/a
lvextend -l+50%ORIGIN v/a
lvextend --poolmetadatasize +4m v/a
lvreduce -l0 v/a
lvreduce -r -L-4m v/a
lvextend -l+1 v/a /dev/nosuch
lvremove -y v
lvcreate -y -l 5 -i2 -n st v
lvextend -l+1 v/st
lvextend -l 11 v/st
lvreduce -l-3 v/st
lvreduce -l 5 v/st
lvresize -L+5m v/st
lvextend -i1 -l+3 v/st
lvextend -l+100%FREE v/st
lvs -o +segtype,stripes,seg_size_pe,seg_pe_ranges
lvremove -y v
lvcreate -y -n full -i2 -l 95%FREE v
lvremove -y v/full
lvcreate -y -l 3%VG -n p3 v
lvcreate -y -l 50%PVS -n pp v {b}
lvcreate -y -l 60%VG -n rr v
lvcreate -y -l 60%VG -n rr2 v
lvs -o lv_name,seg_size_pe,seg_pe_ranges
lvreduce -l 50%LV v/rr
lvcreate -y -l100%FREE -n ff v
lvcreate -y -l100%FREE -n ff2 v
vgremove -ff -y v
""",
    "exported groups": """\
vgcreate v {a}
vgcreate longername {b}
pvcreate {c}
lvcreate -y -l1 -n a v
lvcreate -y -l1 -n b longername
pvscan
vgexport v
vgexport v
lvs
lvs v
lvs v/a
lvdisplay v
lvscan
vgdisplay -c v
pvdisplay -s {a}
pvdisplay -c {a}
pvscan
pvscan -e
pvscan -n
pvscan -u
pvscan -e -n
vgscan
vgs --noheadings
pvs --segments
lvresize -L+4m v/a
lvrename v a c
lvremove -y v/a
lvchange --addtag x v
vgchange --addtag x v
vgchange --addtag x
vgchange -an
pvchange --addtag q {a}
pvresize {a}
pvresize
vgck
vgck v
vgextend v {c}
vgrename longername evenlongerthanthat
pvscan
vgrename v u
vgremove -y u
vgimport u
vgimport u
lvs
""",
}


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Three loop devices of 100 MiB for the real one, and three for us."""
    loops = Loops()
    try:
        yield loops.make(tmp_path, 3, 100 * MIB), loops.make(tmp_path, 3, 100 * MIB)
    finally:
        loops.detach()


def _plain(answer: Answer, names: list[str]) -> Answer:
    """Without what must differ: devices' names (and how long those are), UUIDs."""
    renamed = answer.renamed(dict(zip(names, "ABC", strict=True)))
    out = re.sub(r"[ \t]+", " ", UUID.sub("UUID", renamed.out))
    if out.startswith(" PV "):  # loop10 and loop9 sort otherwise than A and B
        out = "\n".join(sorted(out.split("\n")))
    err = tuple(UUID.sub("UUID", line) for line in renamed.err if not ZEROED.fullmatch(line))
    return Answer(renamed.code, out, err)


_ORDER = ("vg_name", "lv_full_name", "seg_start_pe", "pv_name", "pvseg_start")


def _contents(devices: list[str]) -> Any:
    """Everything that the real one reports of the disks, without what must differ."""
    found = []
    for words in (
        ["vgs", "-o", "vg_all"],
        ["lvs", "-a", "-o", "lv_all,seg_all"],
        ["pvs", "-o", "pv_all,pvseg_all"],
    ):
        answer = real([*words, "--reportformat", "json"], devices).renamed(
            dict(zip(devices, "ABC", strict=True))
        )
        rows = next(iter(json.loads(answer.out)["report"][0].values()))
        for row in rows:
            for key in ("lv_time", "pv_minor", "pv_mda_free", "vg_mda_free"):
                row.pop(key, None)
        rows.sort(key=lambda row: json.dumps([row.get(key) for key in _ORDER]))
        found.append(json.loads(UUID.sub("UUID", json.dumps(rows))))
    return found


WORDED_OTHERWISE = {
    "lvextend -l 8 v/a",
    "lvreduce -y -L-1m v/a",
    "lvextend -r -L+5m v/a",
    "lvextend v/a {b}",
    "lvextend -l+1 v/nosuch",
    "lvextend -L+0 v/a",
    "lvextend -l0 v/a",
    "lvextend --usepolicies v/a",
    "lvextend --poolmetadatasize +4m v/a",
    "lvreduce -l0 v/a",
    "lvreduce -r -L-4m v/a",
}
"""Refusals of a resize that LVM2 2.03.31 words otherwise; it ends with 5, where
2.03.16 ends with 3 for sizes of 0."""


def _to_later(words: list[str]) -> list[str]:
    """A later LVM2 reduces a volume that is not active only where it is told not to ask what is on it."""
    resize = words[0] in ("lvreduce", "lvresize", "lvextend")
    if later() and resize and not {"-r", "--usepolicies", "--poolmetadatasize"} & set(words):
        return [words[0], "--fs", "ignore", *words[1:]]
    return words


@pytest.mark.slow
@pytest.mark.parametrize("name", SESSIONS)
def test_session(name: str, disks: tuple[list[str], list[str]]) -> None:
    theirs, own = disks
    lines = SESSIONS[name].splitlines()
    for number, line in enumerate(lines, 1):
        words = shlex.split(line.format(**dict(zip("abc", theirs, strict=True))))
        wanted = real(_to_later(words), theirs)
        got = ours(shlex.split(line.format(**dict(zip("abc", own, strict=True)))), own)
        if later() and line in WORDED_OTHERWISE:
            assert wanted.code == 5, line
            assert got.code in (3, 5), line
        elif later() and "  Couldn't allocate areas array." in wanted.err:
            assert got.code == wanted.code, line  # where 2.03.16 says how much room is missing
        else:
            assert _plain(got, own) == _plain(wanted, theirs), line
        if line.split()[0] in ("pvs", "vgs", "lvs") or number in (len(lines) - 1, len(lines)):
            assert _contents(own) == _contents(theirs), f"after the lines up to {line}"
