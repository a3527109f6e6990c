# SPDX-License-Identifier: Apache-2.0
"""What the commands for physical volumes accept: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import DISPLAY, FORMAT, PARTIAL, REPORT, Command

PVCREATE = Command(
    "pvcreate",
    "Initialize physical volume(s) for use by LVM",
    options=(
        "--bootloaderareasize=Size[m|UNIT] --dataalignment=Size[k|UNIT] --dataalignmentoffset=Size[k|UNIT] "
        "--labelsector=Number --metadataignore=y|n --metadatasize=Size[m|UNIT] --norestorefile "
        "--pvmetadatacopies=0|1|2 --reportformat=basic|json|json_std --restorefile=String "
        "--setphysicalvolumesize=Size[m|UNIT] -M|--metadatatype=lvm2 -Z|--zero=y|n -f|--force "
        "-u|--uuid=String"
    ),
    forms="""\
  pvcreate PV...
    optional: force metadatatype uuid zero dataalignment dataalignmentoffset bootloaderareasize labelsector
      pvmetadatacopies metadatasize metadataignore norestorefile setphysicalvolumesize reportformat
      restorefile
""",
)

PVDISPLAY = Command(
    "pvdisplay",
    "Display various attributes of physical volume(s)",
    options=f"{DISPLAY} -a|--all -m|--maps -s|--short",
    unlisted=FORMAT,
    forms="""\
  pvdisplay [PV|Tag...]
    optional: all colon columns maps options select short sort aligned binary configreport foreign
      ignorelockingfailure logonly noheadings nosuffix readonly separator shared unbuffered units
""",
)

PVS = Command(
    "pvs",
    "Display information about physical volumes",
    options=f"{REPORT} --segments",
    unlisted=PARTIAL,
    forms="""\
  pvs [PV|Tag...]
    optional: all options select sort segments aligned binary configreport foreign ignorelockingfailure
      logonly nameprefixes noheadings nosuffix readonly reportformat rows separator shared unbuffered units
      unquoted
""",
)

PVREMOVE = Command(
    "pvremove",
    "Remove LVM label(s) from physical volume(s)",
    options="--reportformat=basic|json|json_std -f|--force",
    forms="""\
  pvremove PV...
    optional: force reportformat
""",
)

PVRESIZE = Command(
    "pvresize",
    "Resize physical volume(s)",
    options="--reportformat=basic|json|json_std --setphysicalvolumesize=Size[m|UNIT]",
    forms="""\
  pvresize PV...
    optional: setphysicalvolumesize reportformat
""",
)

PVCHANGE = Command(
    "pvchange",
    "Change attributes of physical volume(s)",
    options=(
        "--addtag=Tag --deltag=Tag --metadataignore=y|n --reportformat=basic|json|json_std "
        "-A|--autobackup=y|n -S|--select=String -a|--all -f|--force -u|--uuid -x|--allocatable=y|n"
    ),
    common="autobackup force uuid reportformat",
    forms="""\
Change properties of all PVs.
  pvchange --all
    any_of: allocatable uuid addtag deltag metadataignore
Change properties of specified PVs.
  pvchange PV|Select...
    any_of: allocatable uuid addtag deltag metadataignore
    optional: select
""",
)

PVMOVE = Command(
    "pvmove",
    "Move extents to other physical volumes of the group",
    options=(
        "--abort --alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --atomic --noudevsync "
        "--reportformat=basic|json|json_std -A|--autobackup=y|n -b|--background -i|--interval=Number "
        "-n|--name=LV"
    ),
    common="background interval abort",
    forms="""\
Move what lies on a physical volume or on a range of its extents.
  pvmove PV [PV...]
    optional: autobackup name alloc atomic noudevsync reportformat
Go on with moves that were begun, or abort them.
  pvmove
""",
)

PVCK = Command(
    "pvck",
    "Check metadata on physical volumes",
    options=(
        "--dump=headers|metadata|metadata_all|metadata_search --labelsector=Number --pvmetadatacopies=0|1|2 "
        "--repair --repairtype=pv_header|metadata|label_header --settings=String -f|--file=String"
    ),
    common="labelsector",
    forms="""\
Check for metadata on a device
  pvck PV...
Check and print LVM headers and metadata on a device
  pvck --dump PV
    optional: file settings pvmetadatacopies
Repair LVM headers or metadata on a device
  pvck --repairtype PV
    optional: file settings
Repair LVM headers and metadata on a device
  pvck --repair --file PV
    optional: settings
""",
)

PVSCAN = Command(
    "pvscan",
    "List all physical volumes",
    options=(
        "--autoactivation=String --cache --checkcomplete --ignorelockingfailure --listlvs --listvg "
        "--minor=Number --noudevsync --reportformat=basic|json|json_std --udevoutput --vgonline "
        "-a|--activate=y|n|ay -e|--exported -j|--major=Number -n|--novolumegroup -s|--short -u|--uuid"
    ),
    forms="""\
Display PV information.
  pvscan
    optional: exported novolumegroup short uuid ignorelockingfailure reportformat
Record that a PV is online or offline.
  pvscan --cache [String|PV...]
    optional: major ignorelockingfailure reportformat minor noudevsync
Record that a PV is online and autoactivate the VG if complete.
  pvscan --cache --activate=ay [String|PV...]
    optional: major ignorelockingfailure reportformat minor noudevsync autoactivation
Record that a PV is online and list the VG using the PV.
  pvscan --cache --listvg PV
    optional: ignorelockingfailure checkcomplete vgonline udevoutput autoactivation
Record that a PV is online and list LVs using the PV.
  pvscan --cache --listlvs PV
    optional: ignorelockingfailure checkcomplete vgonline
List LVs using the PV.
  pvscan --listlvs PV
List the VG using the PV.
  pvscan --listvg PV
""",
)
