# SPDX-License-Identifier: Apache-2.0
"""Single command lines, each by LVM2 and by us on the same disks: exit code, output, metadata and backups.

``{0}`` to ``{4}`` are the disks, ``{etc}`` is the folder of settings. Commands joined by ``;;`` follow each
other; each line begins with what is on the disks at the start (``starts.py``).
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lvm.differential import starts
from tests.lvm.differential.disks import Disks
from tests.lvm.differential.programs import need_own_version
from tests.lvm.differential.sessions import compare, put_start

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = {
    "groups that lack disks, among others": (
        starts.partial,
        """\
pvmove ;; pvmove --abort ;; pvmove {0} ;; pvmove {3} ;; pvmove /dev/nosuch ;; pvmove {1}
vgexport -S vg_name=no ;; vgexport @t1 ;; vgimport @t1 ;; vgimport -a
vgchange --alloc cling -S vg_name=no ;; vgchange --alloc cling @t1 ;; vgchange --addtag x @t1
vgremove -S vg_name=no ;; vgimportclone {0} ;; vgimportclone {0} {2} ;; lvs --unquoted vg @-t vg/b
""",
    ),
    "tags": (
        starts.volumes,
        """\
vgchange --addtag -t vg ;; vgs -o+tags @-t ;; vgchange --deltag -t vg ;; vgchange --addtag @- vg ;; vgs @-
vgcreate --addtag -t other {4} ;; lvchange --addtag -- vg/a ;; lvchange --addtag -t vg/a ;; lvs @-t
lvcreate -l1 --addtag -t vg ;; lvcreate -l1 vg @-t ;; pvchange --addtag -t {0} ;; pvs @-t ;; vgexport @-t
pvs @ ;; pvs @ vg ;; pvdisplay @ ;; vgreduce vg @ ;; pvresize @ ;; pvchange --addtag x @ ;; pvs
lvchange --addtag x @ ;; lvs -o+tags ;; lvremove -y @ ;; vgck nosuch @t2
vgexport vg ;; vgremove @t2 ;; vgchange --addtag x @t2 ;; vgck @t2 ;; vgexport @t2 ;; vgremove vg
""",
    ),
    "some volumes fail, or are passed over": (
        starts.volumes,
        """\
lvchange --errorwhenfull y --addtag x --poll y vg ;; lvchange --errorwhenfull y --poll y vg/a
lvchange --deduplication n --addtag x --monitor y vg/a ;; lvchange --deduplication n --errorwhenfull y vg/a
lvchange --compression y --addtag x vg ;; lvchange --compression y vg/a ;; lvchange -ay --addtag x vg/nosuch
lvchange -an --readahead auto vg/a ;; lvchange --poll y --addtag x vg/nosuch vg/a
lvchange --poll y --addtag x @ ;; lvchange -an --deltag t1 @t1 ;; lvchange -an --addtag y vg
lvconvert vg/a ;; lvconvert "" ;; lvconvert vg ;; lvconvert vg/nosuch ;; lvconvert nosuch/a
lvconvert --startpoll vg/a
vgreduce nosuch {3} /dev/nosuch ;; vgreduce x.y {0} ;; vgreduce nosuch @t1 {0}
vgsplit vg/ new {0} ;; vgmerge vg/ new ;; vgsplit vg/a new {0} ;; vgmerge a/ vg ;; vgmerge vg vg/
vgextend --restoremissing vg {3} vg ;; vgcreate new {3} ;; vgrename vg new ;; vgrename --test vg x
""",
    ),
    "what is said of the system ID and of other hosts' groups": (
        starts.others,
        """\
vgs -t --config 'local/system_id="host1"' '@bad~tag' ;; tags --config 'local/system_id="host1"'
systemid --config 'local/system_id="host1" global/system_id_source="uname"'
devtypes -S name=no --config 'local/system_id="x"'
pvs {1} ;; pvs {0} ;; pvs {2} {3} ;; pvs {2} @x ;; pvs {4} ;; pvs {4} {1} ;; pvs {1} /dev/nosuch
pvdisplay -C {2} {0}
pvcreate {4} ;; pvs {4} ;; pvs {4} {1} ;; pvresize {4} ;; pvchange --addtag x {4} {0}
pvchange --addtag x {2}
""",
    ),
    "disks that came back": (
        starts.returned,
        """\
vgextend --restoremissing vg /dev/nosuch ;; vgextend --restoremissing vg {0} {2}
vgextend --restoremissing vg {2} vg
vgextend --restoremissing vg {1} {3} ;; pvs ;; vgextend --restoremissing vg {1}
""",
    ),
    "disks of groups that lack others": (
        starts.partial,
        """\
pvchange --deltag t -S lv_active=unknown ;; pvchange --addtag t -S pv_name=no ;; pvchange --addtag t -a
pvresize /dev/null ;; pvresize {3} {0} /dev/null ;; pvresize {0} {2} ;; pvchange --addtag t {2} {0} {3}
pvmove --abort {0} ;; pvmove --abort {2} ;; pvmove --abort {3} ;; pvmove --abort {4}
vgs g3 g3 ;; vgchange --addtag t g3 g3 ;; pvs nosuch nosuch ;; pvs {4} {4} ;; pvresize {4} {4}
pvmove --abort /dev/nosuch ;; pvmove --abort ;; pvmove --abort {0} -t
pvdisplay -c ;; pvdisplay -c {0} -P
pvchange --addtag t @t1 {3} ;; pvcreate {4} ;; pvresize {3} {4} {2} ;; pvchange -u {4} {2} ;; vgmerge vg/ vg
pvs -o+pv_major,pv_minor ;; fullreport --rows
""",
    ),
    "disks that were removed meanwhile": (
        starts.removed_meanwhile,
        """\
pvs {2} @t1 ;; pvs {3} {2} ;; pvdisplay {2} {1} ;; pvdisplay -C {3} {2}
""",
    ),
    "selections that cannot be understood": (
        starts.volumes,
        """\
vgimport --select nosuch=1 @t1 ;; lvchange --addtag x -S nosuch=1 @t9 ;; pvchange --addtag x -S nosuch=1 @t9
vgchange --addtag x -S nosuch=1 @t9 ;; lvchange -S nosuch=1 --addtag x nosuch ;; lvs -o nosuch
""",
    ),
    "less to be said": (
        starts.volumes,
        """\
vgs -q ;; pvdisplay -q {0} ;; pvdisplay -qq {0} ;; vgdisplay -qq vg ;; lvdisplay -qq vg/a ;; pvck -qq {0}
lvchange --addtag x -q vg/a ;; lvchange --addtag y -qq vg/a ;; pvscan -q ;; pvscan -qq ;; lvscan -qq
lvmdiskscan -qq ;; vgcfgrestore -qq -l vg ;; vgcfgbackup -q ;; vgcfgbackup -qq ;; vgcreate --quiet x {3}
vgs --config log/silent=1 ;; pvdisplay --config log/silent=1 {0} ;; vgcfgbackup --config log/silent=1
""",
    ),
    "groups whose disks stay": (
        starts.volumes,
        """\
vgchange -x n vg ;; vgreduce vg {2} ;; vgreduce vg {0} ;; vgreduce -a vg ;; vgreduce vg {2} {0}
vgcreate one {3} ;; vgchange -x n one ;; vgreduce one {3}
lvs vg/ ;; lvs vg/ vg/a ;; lvs nosuch/ ;; lvchange --addtag x vg/ ;; lvremove vg/
lvrename vg /dev/mapper/vg-a x ;; lvchange --contiguous n vg/b ;; lvchange --alloc inherit vg/b
lvchange --detachprofile --profile thin-performance vg/a ;; vgchange --detachprofile --profile thin-generic vg
pvmove --commandprofile cache-mq ;; vgs --commandprofile cache-mq ;; vgs --profile cache-mq ;; lvmdiskscan
vgimportclone {3} ;; segtypes
""",
    ),
    "where data begins on a disk": (
        starts.two,
        """\
pvcreate --dataalignmentoffset 1g {3} ;; pvcreate --dataalignmentoffset 4m {3}
pvcreate --dataalignment 8m --dataalignmentoffset 9m {3} ;; pvcreate --dataalignmentoffset 1m {3}
vgcreate --dataalignmentoffset 4m x {3} ;; vgcreate --dataalignmentoffset 1g x {3}
vgextend --dataalignmentoffset 1g vg {3} ;; vgcreate --dataalignment 1g x {3}
pvcreate --setphysicalvolumesize 100k {3} /dev/nosuch
pvcreate {3} extra ;; pvs
pvcreate --devices {3} {3} {4} ;; vgcreate x {4} /dev/nosuch
pvcreate --devicesfile nosuch.devices {4} ;; pvs --devicesfile nosuch.devices
pvcreate -y --devicesfile other.devices {4} {3}
vgextend --devicesfile nosuch.devices vg {4} ;; vgs
vgcreate --devicesfile nosuch.devices x {4} ;; vgs
""",
    ),
    "disks in no group": (
        starts.volumes,
        """\
pvremove -f {4} ;; pvremove -y {4} ;; pvremove -f -y {4} ;; pvdisplay '@bad tag' @t1 @ ;; pvs '@bad tag' @
pvchange --metadataignore n {3} ;; pvchange --metadataignore y {3} ;; pvchange --metadataignore y {3}
vgmerge vg vg/ ;; vgmerge x/y vg ;; vgextend nosuch {4}
""",
    ),
    "options for other kinds of volumes": (
        starts.volumes,
        """\
lvchange --errorwhenfull y @t1 ;; lvchange --maxrecoveryrate 4m vg ;; lvchange --errorwhenfull y vg/a
lvchange --writebehind 3 @t1 ;; lvchange --cachemode writethrough vg ;; lvchange --zero y vg/a vg/b
""",
    ),
    "areas of disks in no group": (
        starts.orphans,
        """\
pvchange --metadataignore n {0} ;; pvchange --metadataignore n {1} ;; pvchange --metadataignore n {2}
pvchange --metadataignore y {2} ;; pvchange --uuid --metadataignore n {0} ;; pvchange --metadataignore y {1}
""",
    ),
    "parts of pools": (
        starts.thin,
        """\
lvchange -ay vg/pool_tdata ;; lvchange -y -ay vg/pool_tdata ;; lvchange -y -ay vg/pool_tmeta
lvchange -ay vg/lvol0_pmspare ;; lvchange -y --contiguous y --activate y vg/pool_tdata
""",
    ),
    "a disk that was taken out meanwhile": (
        starts.removed_meanwhile,
        """\
pvchange --addtag t -S 'lv_size>4m' {2} ;; pvchange --addtag t nosuch {2}
vgextend --labelsector 4 vg {4} ;; vgextend --metadatasize 1g vg {4} ;; lvs vg/
vgsplit --devices {2},{1},{4} vg x.y {3} ;; lvchange --alloc contiguous --poll n -aay vg/a
""",
    ),
    "a missing physical volume": (
        starts.partial,
        """\
vgs ;; pvs ;; lvs ;; vgck vg
lvremove -y vg/b ;; vgs ;; vgremove vg ;; vgremove -y vg ;; vgs
lvremove -y vg ;; vgremove vg ;; vgremove -y vg
vgremove vg
vgextend vg {3} ;; vgs ;; lvcreate -l1 vg
vgchange --addtag t vg ;; pvs ;; vgchange -x n vg
vgchange --metadataprofile thin-generic vg
vgchange --pvmetadatacopies 1 vg
lvchange --addtag x vg
lvchange -pr vg/a
lvrename vg/a vg/x
lvextend -l+1 vg/a
vgrename vg other
vgexport vg
vgimport -f vg
vgcfgbackup vg
vgcfgbackup -f {etc}/backup/x vg
vgextend --restoremissing vg {1}
vgreduce vg {0}
pvchange --addtag t {0}
pvresize {0}
""",
    ),
    "a physical volume that was missing": (
        starts.returned,
        """\
vgs ;; pvs -a ;; vgdisplay
vgck vg ;; vgck --updatemetadata vg ;; vgck vg
vgchange --addtag t vg ;; vgextend --restoremissing vg {1} ;; vgextend --restoremissing vg {1}
lvremove -y vg ;; vgs
vgreduce --removemissing vg
lvchange --alloc cling vg/a ;; lvchange --addtag x --alloc cling vg ;; lvchange --zero n vg/a
lvchange -C y vg/a ;; pvs @t1 ;; pvs -a {0} @t1 ;; pvdisplay @t1 ;; pvdisplay -c
lvchange --cachemode writeback vg/a ;; lvchange --discards ignore vg ;; lvchange --permission r --zero n vg/a
lvchange --refresh vg/a ;; vgchange --refresh vg ;; lvchange --refresh -P vg/a ;; lvchange --refresh @nosuch
lvchange --refresh vg --config activation/activation_mode='"partial"' ;; lvchange --refresh -t vg/a
""",
    ),
    "groups to split and to merge": (
        starts.apart,
        """\
vgsplit vg new {0} ;; vgs ;; lvs ;; vgsplit new vg {0} ;; vgs
vgsplit vg new {1} ;; vgs
vgsplit vg new {1} {2} ;; lvs -o+devices ;; vgmerge vg new ;; lvs -o+devices
vgsplit -n a vg new ;; vgsplit -n b vg new ;; vgs
vgsplit --name vg/str vg new ;; vgsplit --name vg/a vg other ;; lvs
vgsplit vg other {0} ;; vgs ;; lvremove -y other/a ;; vgsplit other vg {0} {3} ;; vgs
vgsplit vg g3 {0} ;; vgsplit vg vg {0} ;; vgsplit nope vg {0} ;; vgsplit vg new {4} ;; vgsplit vg new
vgsplit -l 5 -p 9 --alloc cling --vgmetadatacopies 1 vg new {0} ;; vgs -o name,max_lv,max_pv,vg_mda_copies
vgsplit -l 5 vg other {0} ;; vgsplit -n nope vg new ;; vgsplit -n other/c vg new ;; vgsplit vg 'a b' {0}
vgsplit -n a vg new {0} ;; vgsplit vg ;; vgsplit vg new {0} {0} ;; vgsplit vg /dev/new {0} ;; vgs
vgmerge vg other
vgmerge other vg ;; vgs -o+vg_tags,seqno ;; lvs
vgmerge vg g3 ;; vgmerge vg vg ;; vgmerge vg nope ;; vgmerge nope vg
vgexport other ;; vgmerge vg other ;; vgmerge other vg ;; vgsplit other new {3}
vgchange -p 3 vg ;; vgmerge vg other ;; vgsplit other vg {3}
vgchange -l 3 vg ;; vgmerge vg other
lvrename other c a ;; vgmerge vg other ;; vgsplit other vg {3}
vgchange -x n vg ;; vgsplit vg new {0} ;; vgmerge vg other
""",
    ),
    "two copies of a physical volume": (
        starts.duplicates,
        """\
vgs
vgchange --addtag t vg
vgchange --addtag t --config devices/allow_changes_with_duplicate_pvs=1 vg ;; vgs
""",
    ),
    "a copy of a group": (
        starts.cloned,
        """\
vgimportclone {2} {3} ;; vgs -o+seqno ;; lvs
vgimportclone -n new {2} {3} ;; vgs ;; pvs
vgimportclone --importdevices {2} {3} ;; vgexport vg1 ;; vgimportclone {2} {3}
vgimportclone {2} {3} ;; vgexport vg1 ;; vgimportclone -i {2} {3} ;; vgs
vgimportclone {4} ;; vgimportclone {2} {1} ;; vgimportclone ;; vgimportclone -t {2} {3} ;; vgs
""",
    ),
    "a copy of a group in the devices file": (
        starts.cloned_beside_list,
        """\
vgimportclone {2} {3} ;; vgimportclone -t --importdevices {2} {3} ;; lvmdevices ;; vgs
vgimportclone --importdevices {2} {3} ;; lvmdevices ;; vgs ;; vgimportclone {0} {1} ;; lvmdevices
vgimportclone --devices {2},{3} {2} {3} ;; vgs --devices {2},{3} ;; vgs
vgimportclone --devices {2},{3} -n nn --importdevices {2} {3} ;; vgs
""",
    ),
    "groups of one name": (
        starts.same_names,
        """\
vgs vg ;; lvs vg/a ;; vgchange --addtag t vg ;; lvremove -y vg ;; lvcreate -l1 vg ;; vgrename vg x
pvchange --addtag t {0} ;; vgs
vgchange --addtag t -S pv_count=1 ;; vgs -o name,pv_count,tags -O pv_count
lvchange --addtag t -S 'vg_size<600m' ;; lvs -o name,tags
lvremove -y -S 'vg_size<600m' ;; lvs
vgcfgrestore vg
""",
    ),
    "names below /dev": (
        starts.volumes,
        """\
vgmknodes ;; vgmknodes vg ;; vgmknodes vg/a @t2 ;; vgmknodes nosuch ;; vgmknodes vg/nosuch ;; vgmknodes a/b/c
vgmknodes --refresh vg ;; vgmknodes --ignorelockingfailure ;; vgmknodes -t
vgmknodes -S vg_name=vg ;; vgmknodes --foo ;; vgmknodes --refresh=1 ;; vgmknodes --reportformat xml
vgscan --mknodes ;; vgscan --mknodes --ignorelockingfailure -v ;; vgscan --mknodes --notifydbus
vgscan --cache --mknodes ;; vgscan --refresh
vgmknodes --config log/report_command_log=1 vg ;; vgmknodes -qq --reportformat json vg
""",
    ),
    "groups of other hosts": (
        starts.others,
        """\
vgs ;; vgs foreign ;; pvs ;; pvs {0} ;; lvs ;; lvs foreign ;; pvscan ;; vgscan ;; lvscan ;; vgck
vgs --config 'global/system_id_source="lvmlocal" local/system_id="z"'
vgs --config 'global/system_id_source="lvmlocal" local/system_id="z"' foreign
vgs -o name --config 'global/system_id_source="lvmlocal" local/system_id="z" local/extra_system_ids=["host1"]'
vgremove foreign ;; pvchange -xn {0} ;; pvresize {0} ;; vgreduce foreign {0} ;; lvcreate -l1 foreign
vgexport foreign ;; vgcfgbackup ;; pvmove {0}
""",
    ),
    "a devices file": (
        starts.listed,
        """\
pvs ;; vgs ;; pvs {3} ;; pvdisplay {3} ;; pvchange -xn {3} ;; pvremove {3} ;; pvresize {3}
pvcreate {3} ;; pvs ;; pvremove {3} ;; pvs ;; pvcreate {3}
vgextend vg {3} ;; vgreduce vg {3} ;; pvs ;; vgextend vg {2}
vgcreate other {2} {3} {4} ;; vgremove other ;; pvs
pvcreate --devicesfile my.devices {3} ;; pvs --devicesfile my.devices ;; pvs
vgchange --addtag t --devicesfile system.devices vg
pvs --devices {0} ;; pvs --devices {0} {1} ;; pvs --devices /dev/nosuch ;; vgextend --devices {0},{1} vg {3}
pvcreate --devices {0} {3} ;; pvcreate --devices {3} {3} ;; pvs --devices {0} --devicesfile system.devices
pvs --config 'devices/filter=["r|.*|"]' ;; pvs --config 'devices/global_filter=["r|.*|"]'
""",
    ),
    "changes to a devices file": (
        starts.listed,
        """\
lvmdevices ;; lvmdevices --check ;; lvmdevices --update ;; lvmdevices -v ;; lvmdevices --devices {3}
lvmdevices --adddev {3} ;; lvmdevices ;; lvmdevices --adddev {0} ;; pvs ;; lvmdevices --adddev {3} -t
lvmdevices --adddev /dev/nosuch ;; lvmdevices --adddev loop1 ;; lvmdevices --adddev {3}/
lvmdevices --adddev {etc}/lvm.conf ;; lvmdevices --adddev /dev/null
lvmdevices --deldev {0} ;; pvs ;; lvmdevices --deldev {0}
lvmdevices --deldev /dev/nosuch ;; lvmdevices --deldev x
lvmdevices --adddev {3} --deviceidtype sys_wwid
lvmdevices --adddev {3} --deviceidtype devname ;; lvmdevices ;; lvmdevices --adddev {3} ;; lvmdevices
lvmdevices --adddev {3} --deviceidtype bogus ;; lvmdevices --deldev {3} --deviceidtype devname ;; lvmdevices
lvmdevices --adddev {3} --deviceidtype loop_file ;; lvmdevices --deldev {3} --deviceidtype loop_file
lvmdevices --deldev {etc}/../disk0 --deviceidtype loop_file ;; lvmdevices --deldev {0} --deviceidtype bogus
lvmdevices --addpvid xxx ;; lvmdevices --delpvid xxx ;; lvmdevices --delpvid 01234567890123456789012345678901
lvmdevices --addpvid 01234567890123456789012345678901
lvmdevices --check x ;; lvmdevices --check --update ;; lvmdevices --adddev
lvmdevices --adddev {3} --deldev {3}
lvmdevices --devicesfile foo --adddev {3} ;; lvmdevices --devicesfile foo
lvmdevices --devicesfile foo ;; lvmdevices --devicesfile foo --check
lvmdevices --devicesfile a/b ;; lvmdevices --devicesfile "" ;; lvmdevices --deviceidtype x ;; lvmdevices x
lvmdevices --config devices/use_devicesfile=0 ;; lvmdevices --config devices/use_devicesfile=0 --adddev {3}
lvmdevices --readonly ;; lvmdevices -S x
""",
    ),
    "a devices file that is wrong": (
        starts.listed_wrongly,
        """\
lvmdevices ;; lvmdevices --check ;; lvmdevices --update -t ;; lvmdevices --update ;; lvmdevices --check
lvmdevices --deldev /dev/loop-nosuch ;; lvmdevices --deldev /nosuch --deviceidtype loop_file ;; lvmdevices
lvmdevices --delpvid 01234567890123456789012345678901 ;; lvmdevices --deldev {4} --deviceidtype devname
vgs ;; vgs ;; lvmdevices ;; lvmdevices --check
vgs -t
vgs --config 'devices/search_for_devnames="all"' ;; vgs ;; lvmdevices
lvmdevices --update --config 'devices/search_for_devnames="all"' ;; lvmdevices
lvmdevices --update --config 'devices/search_for_devnames="none"' ;; lvmdevices
lvmdevices --check --config 'devices/search_for_devnames="all"'
vgck ;; lvchange --addtag t vg/a ;; vgscan ;; lvscan
""",
    ),
    "a disk that has another name now": (
        starts.listed_under_old_name,
        """\
lvmdevices ;; lvmdevices --check ;; vgs ;; vgs -t ;; vgchange --addtag x vg ;; lvmdevices --update
vgs --config 'devices/search_for_devnames="none"' ;; lvmdevices --config 'devices/search_for_devnames="none"'
lvmdevices --check --config 'devices/search_for_devnames="none"'
lvmdevices --update --config 'devices/search_for_devnames="none"'
vgs --config 'devices/search_for_devnames="all"' ;; lvmdevices
vgchange --addtag x vg --config 'devices/search_for_devnames="all"' ;; vgs
lvmdevices --check --config 'devices/search_for_devnames="all"'
lvmdevices --update --config 'devices/search_for_devnames="all"' ;; lvmdevices
vgs --config 'devices/search_for_devnames="bogus"'
lvmdevices --config 'devices/search_for_devnames="bogus"'
lvmdevices --check --config 'devices/search_for_devnames="bogus"'
lvmdevices --update --config 'devices/search_for_devnames="bogus"'
lvmdevices --adddev {3} ;; lvmdevices --adddev {3} -y ;; vgs
lvmdevices --deldev /dev/sdzz ;; lvmdevices --adddev {3} ;; vgs
""",
    ),
    "groups for a devices file": (
        starts.listed_beside_filter,
        """\
vgimportdevices vg ;; vgs ;; vgimportdevices vg ;; vgs -o+seqno,pv_device_id ;; vgimportdevices -a ;; vgs
vgimportdevices -a -t ;; vgimportdevices vg -a ;; vgimportdevices
vgimportdevices --devicesfile foo vg ;; vgs --devicesfile foo ;; vgimportdevices --devicesfile foo -a
vgimportdevices -S vg_name=other ;; vgs ;; vgimportdevices -S vg_name=nosuch ;; vgimportdevices @t1
vgimportdevices other vg ;; vgexport other ;; vgimportdevices other ;; lvmdevices ;; vgimportdevices -a
vgimportdevices nosuch ;; vgimportdevices --reportformat basic vg ;; vgimportdevices --foreign vg
lvmdevices ;; lvmdevices --check ;; lvmdevices --update ;; lvmdevices --deldev {0} ;; lvmdevices --adddev {0}
lvmdevices --addpvid xx ;; lvmdevices --delpvid xx
vgimportdevices --config devices/use_devicesfile=0 vg
""",
    ),
    "removed volumes that are remembered": (
        starts.remembered,
        """\
lvs ;; lvs -H ;; lvs -Ha ;; lvs -Hv ;; lvs -H vg ;; lvs --history vg/-h2
lvs -H vg/a vg/-h1 ;; lvs vg/-h1
lvs -H vg/h1 ;; lvs -H vg/-nope ;; lvs -H -- -h1 ;; lvs -H /dev/vg/-h1
lvs -H @t ;; vgs ;; lvscan
lvs -H -oname,lv_ancestors,lv_full_ancestors,lv_descendants,lv_full_descendants,origin
lvs -oname,lv_ancestors,lv_full_ancestors,lv_descendants,lv_full_descendants,origin
lvs -H -oname,lv_time,lv_time_removed,lv_uuid,lv_full_name,lv_path,lv_dm_path,lv_historical,vg_name --binary
lvs -H -olv_layout,lv_role,lv_allocation_policy,lv_read_ahead,lv_permissions,lv_major,seg_count,lv_tags
lvs -H -olv_active,lv_active_locally,lv_suspended,lv_merging,lv_autoactivation,lv_kernel_major,data_percent
lvs -H -olv_parent,lv_when_full,lv_health_status,lv_check_needed,raidintegrityblocksize,origin_size,pool_lv
lvs -H --segments ;; lvs -H -o+devices ;; lvs -H -oname,seg_start,seg_size_pe,chunk_size,zero,thin_id vg/-h2
lvs -H -Slv_historical=1 ;; lvs -S historical=1 ;; lvs -H -S lv_name=h2 ;; lvs -H -S lv_name=-h2
lvs -HO-name
lvs -H -O lv_time_removed,lv_name -o name ;; lvs -H --reportformat json -o name,attr,lv_historical
lvdisplay -H vg/-h2 ;; lvdisplay vg/-h2 ;; lvdisplay -H ;; lvdisplay -Hc vg ;; lvdisplay -HC vg/-h2
lvdisplay -H -S historical=1 ;; lvdisplay -H vg/-nope vg/lin
lvremove vg/-h1 ;; lvs -H -o+lv_full_ancestors ;; lvremove vg/-h1
lvremove vg/-h2 --config metadata/record_lvs_history=1 ;; lvs -H -o+lv_full_ancestors
lvremove vg/-h1 --config metadata/record_lvs_history=1 ;; lvs -H -o+lv_full_ancestors
lvremove vg/-h1 --config metadata/record_lvs_history=1 --nohistory ;; lvs -H -o+lv_full_ancestors
lvremove vg/-h3 vg/-h2 --config metadata/record_lvs_history=1 ;; lvs -H -o+lv_full_ancestors,lv_descendants
lvremove vg/-lvol7 vg/-nope vg/-h2 ;; lvs -H ;; lvremove vg/h3 ;; lvremove -t vg/-h3 ;; lvs -H
lvremove -y vg/lin vg/-h3 ;; lvremove -y vg/-h2 vg/lin ;; lvremove @t ;; lvs -H
lvremove -S lv_name=h3 ;; lvremove -S historical=1 vg ;; lvs -H ;; lvremove -S historical=1
lvs -Ho name,lv_full_ancestors --config metadata/lvs_history_retention_time=-1
lvs -Ho name,lv_full_ancestors --config metadata/lvs_history_retention_time=100000
lvcreate -l1 vg ;; lvcreate -l1 -n h1 vg ;; lvrename vg lin h1 ;; lvrename vg lin -h1 ;; lvchange -an vg/-h1
lvrename vg lin lvol7 ;; lvrename vg lin x ;; lvcreate -l1 vg ;; lvextend -l+1 vg/-h1
vgrename vg new ;; lvs -H
lvrename vg -- -h1 lin ;; lvrename vg -- -h1 h2 ;; lvrename vg -- -h1 h1 ;; lvrename vg -- -h1 snapshot0
lvrename vg -- -h1 x ;; lvs -H -o+lv_full_ancestors,lv_descendants ;; lvrename vg -- -x y ;; lvs -H
lvrename vg -- -h1 lvol7 ;; lvrename vg -- lin -x ;; lvrename vg -- lin - ;; lvrename vg -- - x
lvrename -t vg -- -h1 x ;; lvrename nosuch -- -h1 x ;; lvrename vg -- -nosuch -x ;; lvrename vg -- -h1 ""
lvrename vg/-h1 vg/x ;; lvs -H ;; lvrename vg/- vg/x ;; lvrename vg -- -h3 a_tmeta ;; lvrename vg -- -h3 a%b
vgcfgbackup vg ;; lvremove vg/-h1 ;; vgcfgrestore --force vg ;; lvs -H ;; vgck vg ;; vgchange --addtag t vg
""",
    ),
    "volumes on no disk": (
        starts.virtual,
        """\
lvcreate -y --type zero -l 5 -n new vg ;; lvcreate -y --type error -L 2g vg ;; lvs -a --segments ;; vgs
pvs
lvs -a -o+seg_type,lv_role,devices,seg_pe_ranges,lv_health_status,stripes,seg_size,lv_when_full,modules
lvs -o lv_layout vg ;; lvdisplay -m vg ;; pvdisplay -m ;; lvscan ;; lvs -S 'segtype=zero' -o name
lvextend -l+3 vg/z ;; lvextend -l+3 vg/z {1} ;; lvreduce -y -l-2 vg/z ;; lvresize -y -L1t vg/z
lvresize -l3 vg/z
lvextend -l+3 --type linear vg/e ;; lvextend -l+1 vg/e ;; lvreduce -y -l2 vg/e ;; lvextend -l+1 vg/e
lvs --segments
lvextend --type zero -l+1 vg/a ;; lvextend -l+1 vg/a ;; lvextend --type striped -l+1 vg/a ;; lvs --segments
lvextend --type error -l+1 vg/a ;; lvextend --type zero -l+1 vg/a ;; lvreduce -y -l9 vg/a
lvs --segments vg/a
lvextend --type striped -i2 -l+4 vg/z ;; lvextend -l+1 vg/z ;; lvextend -i2 -l+1 vg/e ;; lvs --segments
lvextend --type mirror -l+1 vg/e ;; lvextend --type thin -l+1 vg/e ;; lvextend -m1 -l+1 vg/e
lvreduce -l8 vg/z
lvextend vg/e {1} ;; lvextend -l+100%FREE vg/e ;; lvextend -l+100%PVS vg/e ;; lvextend -l9%VG vg/z
lvreduce -l0 vg/z
lvextend -r -l+1 vg/z ;; lvextend --usepolicies vg/z ;; lvextend --poolmetadatasize +4m vg/z
lvcreate -y --type zero -l5 -Wy vg ;; lvcreate -y --type zero -l5 -Wy -Zn vg
lvcreate -y --type zero -l5 -an -Zy vg
lvcreate -y --type error -l5 -pr -Zy vg ;; lvcreate -y --type zero -l0 vg
lvcreate -y --type zero -l5%LV vg
lvcreate -y --type zero -l5 -ky --addtag x --setautoactivation n -r 64 -n q vg
lvcreate --type zero -l5 --nosync vg
lvcreate --type zero -l5 -i2 vg ;; lvcreate --type zero -l5 -I64 vg ;; lvcreate --type zero -l5 -m1 vg
lvcreate --type zero -V5m vg ;; lvcreate --type zero -l5 vg {0} ;; lvcreate --type zero vg
lvcreate --type zero -l5 -C y vg ;; lvcreate --type zero -l5 --alloc contiguous vg
lvcreate --type zero -l5 -Zn vg
lvcreate --type zero -l100%FREE vg ;; lvcreate --type zero -l100%VG vg ;; lvcreate --type zero -l50%PVS vg
lvcreate --type zero -L10t vg ;; lvcreate --type zero -l5 nosuch ;; lvcreate --type zero -l5 -n a vg
lvchange --addtag x vg/z ;; lvchange -pr vg/z ;; lvchange -C y vg/z ;; lvchange -r 8 vg/z
lvchange -Zn vg/z
lvrename vg/z vg/zz ;; lvrename vg/mix vg/m ;; lvremove -y vg/zz ;; lvremove -y vg/m ;; lvremove -y vg
vgs
lvconvert -y --type thin-pool vg/z ;; vgsplit -n a vg new ;; lvs
lvconvert -y --type error vg/z ;; lvconvert -y --type zero vg/a
vgsplit vg new {1} ;; vgsplit -n z vg new ;; vgs ;; vgmerge vg other ;; vgmerge other vg ;; lvs
vgcfgbackup vg ;; lvremove -y vg/z ;; vgcfgrestore -y vg ;; lvs ;; vgrename vg v2 ;; vgreduce v2 {1}
vgremove -y v2
""",
    ),
    "filters": (
        starts.two,
        """\
pvs --config 'devices/filter=["a|{0}$|","r|.*|"]' ;; vgs --config 'devices/global_filter=["r|{2}$|"]'
pvs --config 'devices/filter=["r|.*|"]' {0}
""",
    ),
    "settings and profiles": (
        starts.two,
        """\
pvcreate --config devices/default_data_alignment=4 {3}
pvcreate --config devices/default_data_alignment=0 {3}
pvcreate --config 'devices/data_alignment=0 devices/default_data_alignment=2' --dataalignmentoffset 8k {3}
vgs --config 'log/prefix="PP"' ;; vgs --config 'log/prefix="PP"' nosuch
vgchange --addtag x vg --config 'log/prefix=" -- "'
lvcreate -l1 vg --config log/silent=1
vgs --config log/silent=1
vgchange --addtag x --profile nosuch vg ;; vgs --profile nosuch ;; vgs --profile ''
vgs --commandprofile thin-generic ;; vgs --commandprofile a/b
vgcreate --metadataprofile nosuch x {3} ;; vgcreate --metadataprofile a/b x {3}
vgcreate --profile command_profile_template x {3}
vgs --config nosuch=1 ;; vgs --config nosuch/x=1 ;; vgs --config 'global{{units'
vgs --config 'global/units="foo"' ;; vgs --units m --config 'global/units="k4"'
pvck --config 'global/units="0"'
vgchange --addtag x --config 'global/units="4"' vg ;; tags --config 'global/units=""'
vgs --config 'global/units="4m"'
lvs --config report/prefixes=1 ;; vgs --aligned --config report/prefixes=1
fullreport --config report/prefixes=1
lvs --config 'report/prefixes=1 report/quoted=0' ;; lvs --config 'report/prefixes=1 report/aligned=0'
lvs --separator x --config report/prefixes=1 ;; pvs --rows --config report/prefixes=1
vgs --profile a --commandprofile b ;; vgs --profile nosuch --commandprofile a/b
lvmconfig --config 'global/units="-1"' global/activation ;; vgs --config 'global/units="-1"' --units k
""",
    ),
    "options that are accepted everywhere": (
        starts.volumes,
        """\
pvdisplay --reportformat json {0} ;; vgdisplay --reportformat basic vg ;; lvdisplay --reportformat json vg/a
pvdisplay -C --reportformat json ;; vgdisplay -C --reportformat json ;; lvdisplay -C --reportformat json
pvdisplay -c --reportformat basic ;; vgdisplay --reportformat nope
vgs --driverloaded n ;; lvs --driverloaded y vg ;; lvs -oname,attr,lv_active --driverloaded n vg
vgs -P ;; lvs -P ;; pvs -P ;; vgdisplay -P ;; lvdisplay --partial vg/a ;; pvdisplay -P
lvscan -P ;; vgscan -P ;; vgcfgbackup -P vg ;; pvscan -P ;; vgchange -an -P vg ;; lvchange -P --addtag x vg/a
lvchange -an --activationmode partial vg/a ;; vgs --config activation/activation_mode='"partial"'
vgchange -an --activationmode complete vg --config activation/activation_mode='"partial"'
vgchange -an --activationmode nope vg ;; lvs --activationmode partial
lvchange -an --driverloaded n vg ;; lvcreate -l1 -n new --driverloaded n vg ;; vgs --driverloaded x
""",
    ),
    "copies in a devices file": (
        starts.listed_twice,
        """\
pvs ;; pvs -a -o+pv_duplicate ;; vgs ;; lvs -o+devices ;; vgchange --addtag t vg
vgs --devices {1},{2}
""",
    ),
    "headers of older programs": (
        starts.old_headers,
        """\
vgs ;; lvs ;; pvs -o+pv_ext_vsn ;; vgck vg ;; pvscan
vgchange --addtag x vg ;; vgs ;; pvs -o+pv_ext_vsn ;; pvck --dump headers {0} ;; pvck --dump headers {1}
lvremove -y vg/a ;; pvs -o+pv_ext_vsn
vgreduce vg {0} ;; vgexport vg ;; pvs -o+pv_ext_vsn
""",
    ),
    "settings of reports": (
        starts.volumes,
        """\
vgchange --addtag x vg ;; vgs -o tags,name --config report/list_item_separator='"|"'
lvs -olayout,role,tags --config report/list_item_separator='"; "' --reportformat json
lvdisplay --config global/lvdisplay_shows_full_device_path=1 vg ;; vgdisplay -v
lvdisplay -C --config global/lvdisplay_shows_full_device_path=1 vg
vgs --config global/si_unit_consistency=0 ;; vgs --units k --config global/si_unit_consistency=0
vgs --units b --config global/si_unit_consistency=0 ;; vgs --units s --config global/si_unit_consistency=0
vgs --units M --config global/si_unit_consistency=0 ;; vgs --units 3k --config global/si_unit_consistency=0
vgdisplay --config global/si_unit_consistency=0 ;; vgdisplay --units k --config global/si_unit_consistency=0
lvdisplay --units H --config global/si_unit_consistency=0
lvdisplay --units s --config global/si_unit_consistency=0
pvdisplay --units m --config global/si_unit_consistency=0 ;; pvscan --config global/si_unit_consistency=0
vgdisplay -s --config global/si_unit_consistency=0 ;; lvscan --config global/si_unit_consistency=0
vgs --units H --config global/si_unit_consistency=0
vgdisplay --units K --config global/si_unit_consistency=0
vgchange -aay --autoactivation event vg --config global/event_activation=0
""",
    ),
    "thin volumes by their paths": (
        starts.thin,
        """lvdisplay -a --config global/lvdisplay_shows_full_device_path=1 vg
""",
    ),
    "settings of allocation": (
        starts.clinging,
        """\
lvextend -l+5 --alloc cling vg/a --config allocation/maximise_cling=0 ;; lvs -o+devices
lvextend -l+5 --alloc cling vg/a --config allocation/maximise_cling=1 ;; lvs -o+devices
lvextend -l+5 vg/a --config allocation/maximise_cling=0 ;; lvs -o+devices
lvextend -l+5 vg/a ;; lvs -o+devices
lvcreate -i2 -l20 vg --config allocation/maximise_cling=0 ;; lvcreate -i2 -l20 vg ;; lvs -o+devices
lvcreate -l70 vg --config allocation/maximise_cling=0 ;; lvs -o+devices
""",
    ),
    "metadata areas": (
        starts.two,
        """\
vgcreate --vgmetadatacopies all x {3} {4}
vgchange --vgmetadatacopies all vg ;; vgchange --vgmetadatacopies unmanaged vg
pvchange --metadataignore y {0} ;; pvchange --metadataignore y {1} ;; vgchange --addtag t vg
pvcreate --metadataignore y {3} ;; vgcreate x {3} ;; vgs -o+mda_used_count x
pvcreate --pvmetadatacopies 0 {3} ;; vgcreate x {3}
""",
    ),
    "options that displays refuse": (
        starts.two,
        """\
vgdisplay -o vg_name ;; vgdisplay -C -c ;; vgdisplay -c -s ;; vgdisplay -A vg ;; vgdisplay --binary -s
pvdisplay -o pv_name ;; pvdisplay -a ;; pvdisplay -C -s ;; pvdisplay -s -c ;; pvdisplay -m -c
pvdisplay -C -a
lvdisplay --separator , ;; lvdisplay -C -m ;; lvdisplay -c -m ;; lvdisplay --aligned
pvs -a {3} ;; pvs -a -o+pv_size,dev_size
""",
    ),
    "full reports": (
        starts.volumes,
        """\
fullreport ;; fullreport vg ;; fullreport --reportformat json ;; fullreport nosuch ;; fullreport vg/a
fullreport -a --units b --binary --nosuffix ;; fullreport --nameprefixes --unquoted --noheadings @t2
fullreport -o nosuch -S nosuch=1 -O nosuch
fullreport --configreport nosuch ;; fullreport --separator , --rows
fullreport --configreport vg -o vg_name -S vg_name=x --configreport lv -S lv_name!=a -o lv_name -O-lv_name
fullreport --configreport pvseg -o+lv_name,pv_name --configreport seg -o segtype,devices -S segtype=striped
fullreport --configreport vg -o lv_name ;; fullreport --configreport lv -o pv_name
fullreport --configreport lv -o seg_start ;; fullreport --configreport pv -o lv_name,pv_name
fullreport --configreport pv -o pvseg_start ;; fullreport --configreport vg -S lv_name=a
fullreport --config report/lvs_cols_full="lv_name" --configreport vg -o vg_name --configreport lv -o+lv_size
fullreport --reportformat json --configreport vg -o vg_name --configreport lv -o lv_name -S lv_name=b vg
""",
    ),
    "command logs": (
        starts.volumes,
        """\
vgs --config log/report_command_log=1 ;; lvs --config log/report_command_log=1 vg nosuch
lvs --config log/report_command_log=1 --reportformat json nosuch
pvs --config log/report_command_log=1 --segments
vgs --logonly ;; vgs --logonly --reportformat json ;; pvdisplay -C --logonly ;; vgdisplay --logonly
lvs --logonly --configreport log -o log_seq_num,log_object_name,log_message -S log_object_type=lv -O-seq_num
pvs --logonly --configreport log -S all ;; lvs --logonly --configreport log -S all -a ;; fullreport --logonly
fullreport --config log/report_command_log=1 --configreport log -S all
vgs --logonly --config 'log/command_log_cols="log_message" log/command_log_selection="all"'
vgs --logonly --config 'log/command_log_sort="-log_seq_num" log/command_log_selection="all"' --noheadings
lvchange --addtag t9 vg --config log/report_command_log=1
lvchange --addtag t9 vg/a nosuch --config log/report_command_log=1 --reportformat json
vgchange --addtag t9 vg nosuch --config log/report_command_log=1
pvchange --addtag t9 {0} {3} --config log/report_command_log=1
pvresize {0} {3} --config log/report_command_log=1
pvcreate {4} --config log/report_command_log=1 ;; pvremove {4} --config log/report_command_log=1
pvcreate {0} --config log/report_command_log=1 ;; pvremove {0} --config log/report_command_log=1
lvcreate -l999 vg --config log/report_command_log=1 ;; lvcreate -l1 nosuch --config log/report_command_log=1
lvextend -l+1 vg/a --config log/report_command_log=1 ;; lvrename vg a x --config log/report_command_log=1
vgck --config log/report_command_log=1 ;; vgscan --config log/report_command_log=1
lvscan --config log/report_command_log=1 ;; pvscan --config log/report_command_log=1
vgrename vg new --config log/report_command_log=1 ;; vgcfgbackup --config log/report_command_log=1
vgexport nosuch --config log/report_command_log=1 ;; vgremove vg --config log/report_command_log=1
lvremove vg/nosuch --config log/report_command_log=1 ;; vgmerge vg nosuch --config log/report_command_log=1
vgextend vg {3} --config log/report_command_log=1 ;; vgreduce vg {3} --config log/report_command_log=1
vgchange --addtag x vg --reportformat json ;; vgchange --addtag x --config report/output_format="foo" vg
vgs --config report/output_format="foo" ;; vgs --configreport lv -o nosuch ;; vgs -S vg_name=x -S vg_name=vg
lastlog ;; lastlog --reportformat json -S all ;; vgdisplay -s --config report/output_format="json"
""",
    ),
    "lists": (
        starts.empty,
        """\
devtypes ;; devtypes -o name,max_partitions -O-max_partitions,name ;; devtypes -S 'name=~^s' --noheadings
devtypes --reportformat json -S name=loop ;; devtypes -S name=nosuch ;; devtypes --rows -o all -S name=sd
devtypes --nameprefixes --separator , ;; devtypes --config log/report_command_log=1 -S name=loop
devtypes --config 'report/devtypes_cols="devtype_name" report/devtypes_sort="-devtype_name"'
formats ;; tags ;; systemid ;; systemid --config 'global/system_id_source="lvmlocal" local/system_id="z"'
systemid --config 'global/system_id_source="uname"' ;; systemid --config 'global/system_id_source="bogus"'
""",
    ),
    "system IDs": (
        starts.two,
        """\
vgcreate --config 'global/system_id_source="file"' x {3}
vgcreate --config 'global/system_id_source="file" global/system_id_file="/nosuch"' x {3}
vgcreate --config 'global/system_id_source="bogus"' x {3}
vgcreate --config 'global/system_id_source="lvmlocal"' x {3}
vgcreate --config 'global/system_id_source="lvmlocal" local/system_id="localhost1"' x {3}
vgcreate --systemid localhost x {3}
vgcreate --systemid "" x {3}
vgchange --systemid "a b" vg
vgchange --systemid "" vg
vgchange --systemid other vg
vgchange --systemid localhost vg
""",
    ),
}


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    need_own_version()
    made = Disks(tmp_path_factory.mktemp("disks"))
    yield made
    made.close()


RANDOM = Path(__file__).with_name("random_lines.txt")


def test_lines_drawn_at_random(disks: Disks) -> None:
    failed = []
    for kept in RANDOM.read_text().splitlines():
        if kept.startswith("#"):
            continue
        seed, begin, line = kept.split(" ", 2)
        now = put_start(disks, getattr(starts, begin.removesuffix(":")))
        _now, differs, known, _code = compare(disks, shlex.split(line.format(*disks.devices)), now)
        if differs and known is None:
            failed.append("\n    ".join((f"{seed} {line}", *differs)))
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", LINES)
def test_lines_are_answered_as_by_lvm2(name: str, disks: Disks) -> None:
    start, lines = LINES[name]
    failed = []
    for line in lines.splitlines():
        now = put_start(disks, start)
        for one in line.split(" ;; "):
            words = shlex.split(one.format(*disks.devices, etc=disks.etc))
            now, differs, known, _code = compare(disks, words, now)
            if differs and known is None:
                failed.append("\n    ".join((one, *differs)))
    assert not failed, "\n".join(failed)
