# SPDX-License-Identifier: Apache-2.0
"""Reports and displays compared with the real LVM2's, over the volume groups that it made in a guest."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from tests.lvm.later_words import fields, later
from tests.lvm.oracle import Loops, ours, real

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IMAGES = (("lvm-a", ("vdb", "vdc")), ("lvm-c", ("vdb", "vdc")), ("lvm-e", ("vdb", "vdc", "vdd", "vde")))

REPORTS = """\
lvs
lvs -a
lvs -a -o +devices
lvs -a -o all --reportformat json
lvs -a --segments -o lv_name,seg_all --reportformat json
lvs --segments -a
lvs -v
pvs
pvs -a
pvs -v
pvs -o all --reportformat json
pvs --segments
pvs --segments -o pv_all,pvseg_all,lv_name,segtype --reportformat json
pvs -v --segments
vgs
vgs -v
vgs -o all --reportformat json
vgs -o vg_all
vgs -o +lv_name
vgs -o +pv_name
vgs -o +segtype
vgs -o +pvseg_start
vgs vg1 vgr
lvs vg1
lvs vg1/lin vgthin
lvs vgthin/pool_tdata
lvs /dev/vg1/lin
lvs /dev/mapper/vg1-lin
lvs @prod
lvs @foo
vgs @prod
pvs @ptag
lvs nosuch
lvs vg1/nosuch
lvs vg1/lin nosuch/x vg1/foo
vgs nosuch
pvs {0}
pvs /dev/nosuch
lvs --noheadings -o lv_name,lv_size
lvs --separator :
lvs --separator : --aligned
lvs --nameprefixes
lvs --nameprefixes --unquoted --noheadings
lvs --rows
lvs --rows --noheadings
lvs --rows --separator ,
lvs --nameprefixes --rows
lvs --binary -a -o lv_name,lv_skip_activation,lv_active_locally,zero,lv_autoactivation
lvs -o lv_name,lv_tags,lv_time,lv_host -O -lv_name
lvs -O -lv_size,lv_name -a
lvs -O '+lv_size,-lv_name'
lvs -o-lv_attr,lv_size
lvs -o lv_name -o+lv_size -o-lv_name
lvs -o lv_name -o lv_size
lvs -a -o '#pool_lv,move_pv'
lvs --units h
lvs --units H
lvs --units b
lvs --units s
lvs --units 3m
lvs --units 512b
lvs --units K
lvs --units g --nosuffix
lvs --nosuffix
pvs --units k -o +pe_start,pv_ba_start,pv_mda_free
vgs --units R
lvs -o name,size,path,dm_path,layout,role -a
lvs -S 'lv_size>20m'
lvs -S 'vg_name=vg1 && lv_tags={{foo}}'
lvs -S 'lv_tags=[foo,bar/baz]'
lvs -S 'seg_start>0' -o lv_name
vgs -S 'lv_name=lin'
pvs -S 'pv_free>450m'
pvs -S 'vg_name=vgr' -o pv_name
vgs -S vg_free_count=213
lvs -S 'lv_role=thinsnapshot || lv_layout=raid1' -a
lvs -S '!(lv_name=~^s || vg_name=vgr)'
lvs -S 'lv_time since "2020-01-01" && lv_name=lin'
lvs -S 'lv_time until yesterday || lv_minor=-1 && zero=unknown' -o lv_name
lvs -S 'selected=1'
lvs -o+selected -S 'lv_size>20m'
lvs -o lv_name,vg_all
lvs -o pv_name
vgs -o lv_name,pv_name
lvs -S '('
lvs -S '!lv_name=x'
lvs -S 'lv_size=abc'
lvs -S 'lv_name=~['
lvs --units zz
lvs --reportformat json vg1
lvs --reportformat json nosuch
lvs --reportformat json -S lv_name=nosuch
lvs -o ''
lvs -o lv_name,,lv_size
lvs -o lv_full_ancestors,lv_descendants,lv_ancestors,origin,origin_size,lv_name
lvs -o +lv_name,lv_name
lvs a/b/c
pvs -o pvseg_all,lv_uuid,pv_uuid
pvdisplay
pvdisplay -m {0}
pvdisplay -s
pvdisplay -c
pvdisplay -C
pvdisplay /dev/nosuch
pvdisplay --units k {0}
vgdisplay
vgdisplay -v vg1
vgdisplay -s
vgdisplay -c
vgdisplay --units s vg1
vgdisplay --units 3m vg1
vgdisplay nosuch
lvdisplay vgr
lvdisplay vgthin
lvdisplay -m vg1
lvdisplay -m vgthin
lvdisplay -m vgr/r5 vgr/mir vgr/slow
lvdisplay -c
lvdisplay -C vg1
lvdisplay vg1/nosuch
pvscan
pvscan -s
pvscan -n
pvscan -u
pvscan -e
vgscan
lvscan
lvmdiskscan
vgck
vgck vg1
vgck nosuch
pvck {0}
pvck --dump headers {0}
pvck --dump metadata {0}
pvck --dump metadata_search {0}
pvck --dump metadata --settings mda_num=2 {2}
"""


@pytest.fixture(scope="module")
def devices(fixture_dir: Callable[[str], Path]) -> Iterator[list[str]]:
    """Read-only loop devices over the images of three groups."""
    loops = Loops()
    try:
        for name, disks in IMAGES:
            folder = fixture_dir(f"{name}.tar.zst") / name
            for disk in disks:
                loops.attach(folder / f"{disk}.img", read_only=True)
        yield loops.devices
    finally:
        loops.detach()


@pytest.mark.parametrize("line", REPORTS.splitlines())
def test_same_as_the_real_one(line: str, devices: list[str]) -> None:
    words = shlex.split(line.format(*devices))
    wanted, got = real(words, devices).laid_out, ours(words, devices).laid_out
    if "seg_all" in line and "json" in words:
        assert fields(got.out) == fields(wanted.out)
    else:
        assert got.out == wanted.out
    assert got.code == wanted.code
    assert got.err == wanted.err


@pytest.mark.parametrize(
    "line", ["lvs -o foo", "vgs -O foo", "lvs -S foo=1", "lvs -S 'lv_name>5'", "lvs -o+nosuch"]
)
def test_unknown_fields_fail_alike(line: str, devices: list[str]) -> None:
    """The real one also prints its whole field list then; we name the way to see ours."""
    words = shlex.split(line)
    wanted, got = real(words, devices), ours(words, devices)
    assert (got.code, got.out) == (wanted.code, wanted.out) == (5, "")
    assert got.err[0] in wanted.err


def test_every_field_of_the_real_one(devices: list[str]) -> None:
    wanted = [
        line.split()[0] for line in real(["lvs", "-o", "help"], devices, whole=True).err if " - " in line
    ]
    got = [line.split()[0] for line in ours(["lvs", "-o", "help"], devices).out.splitlines() if " - " in line]
    assert wanted
    if later():  # 2.03.31 has one more, and another order
        assert {*got, "integrity_settings"} == set(wanted)
    else:
        assert got == wanted
