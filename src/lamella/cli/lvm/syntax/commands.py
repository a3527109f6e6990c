# SPDX-License-Identifier: Apache-2.0
"""The LVM commands by name: the module of each, and a short description."""

from __future__ import annotations

_TABLE = """\
pvcreate     pv_create   make disks physical volumes
pvs          reports     list physical volumes
pvdisplay    pv_display  show physical volumes
pvchange     pv_change   change physical volumes
pvresize     pv_change   let LVM use another size of a disk
pvremove     pv_change   take the label off physical volumes
pvmove       pv_move     move extents to other physical volumes
pvck         pv_check    show the headers and metadata on a disk
pvscan       scans       list physical volumes with their groups
vgcreate     vg_create   make a volume group
vgs          reports     list volume groups
vgdisplay    vg_display  show volume groups
vgextend     vg_create   add disks to a volume group
vgreduce     vg_reduce   take disks out of a volume group
vgsplit      vg_split    move disks to another volume group
vgmerge      vg_split    merge volume groups
vgimportclone vg_clone   give copied disks a group of their own
vgimportdevices vg_import_devices enter volume groups' disks in the devices file
vgremove     vg_reduce   remove volume groups
vgrename     vg_change   rename a volume group
vgchange     vg_change   change volume groups
vgck         vg_check    check or repair a volume group's metadata
vgexport     vg_change   hide volume groups from this host
vgimport     vg_change   take hidden volume groups back
vgscan       scans       list volume groups
vgmknodes    vg_mknodes  make missing names of active volumes below /dev
vgcfgbackup  vg_backup   save volume groups' metadata
vgcfgrestore vg_backup   restore a volume group's metadata
lvcreate     lv_create   make a logical volume, thin pool or snapshot
lvs          reports     list logical volumes
lvdisplay    lv_display  show logical volumes
lvextend     lv_resize   make a logical volume longer
lvreduce     lv_resize   make a logical volume shorter
lvresize     lv_resize   change a logical volume's length
lvremove     lv_remove   remove logical volumes
lvrename     lv_rename   rename a logical volume
lvchange     lv_change   change logical volumes
lvconvert    lv_convert  make thin pools of volumes; repair pools
lvscan       scans       list logical volumes
lvmdevices   lvm_devices show or change the list of disks that are used
lvmdiskscan  scans       list disks and say which are physical volumes
lvmconfig    show_config show the settings of LVM2, from files and built in
"""

_INNER = """\
config       show_config the same as lvmconfig
dumpconfig   show_config the same as lvmconfig
fullreport   full_report report on volume groups with all that is in them
lastlog      lists       show the log of the last command in a shell of LVM2
devtypes     lists       list types of block devices
segtypes     lists       list types of segments that volumes are created with
formats      lists       list formats of metadata
tags         lists       list tags of this host
systemid     lists       show this host's system ID
version      lists       show the version
"""
"""Commands that LVM2 installs no program for: they are reached as ``lvm NAME`` only."""

COMMANDS: dict[str, str] = {}
"""The module that has the function of the command's name."""
SUMMARIES: dict[str, str] = {}
"""What the commands do that have a program of their name."""
INNER: dict[str, str] = {}
"""What the others do."""
for _table, _summaries in ((_TABLE, SUMMARIES), (_INNER, INNER)):
    for _line in _table.splitlines():
        _name, _module, _summary = _line.split(None, 2)
        COMMANDS[_name] = _module
        _summaries[_name] = _summary
