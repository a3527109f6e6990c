# SPDX-License-Identifier: Apache-2.0
"""What the commands for physical volumes accept: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import DISPLAY, REPORT, Command, simple, variant

PVCREATE = simple(
    "pvcreate",
    "Initialize physical volume(s) for use by LVM",
    "PV...",
    options=(
        "--bootloaderareasize=Size[m|UNIT] --dataalignment=Size[k|UNIT] "
        "--dataalignmentoffset=Size[k|UNIT] --labelsector=Number --metadataignore=y|n "
        "--metadatasize=Size[m|UNIT] --norestorefile --pvmetadatacopies=0|1|2 "
        "--reportformat=basic|json|json_std --restorefile=String --setphysicalvolumesize=Size[m|UNIT] "
        "-M|--metadatatype=lvm2 -Z|--zero=y|n -f|--force -u|--uuid=String"
    ),
    optional=(
        "force metadatatype uuid zero dataalignment dataalignmentoffset bootloaderareasize "
        "labelsector pvmetadatacopies metadatasize metadataignore norestorefile "
        "setphysicalvolumesize reportformat restorefile"
    ),
)

PVDISPLAY = simple(
    "pvdisplay",
    "Display various attributes of physical volume(s)",
    "",
    options=f"{DISPLAY} -a|--all -m|--maps -s|--short",
    optional=(
        "all colon columns maps options select short sort aligned binary configreport foreign "
        "ignorelockingfailure logonly noheadings nosuffix readonly separator shared unbuffered "
        "units"
    ),
    more="PV|Tag...",
)

PVS = simple(
    "pvs",
    "Display information about physical volumes",
    "",
    options=f"{REPORT} --segments",
    optional=(
        "all options select sort segments aligned binary configreport foreign "
        "ignorelockingfailure logonly nameprefixes noheadings nosuffix readonly reportformat rows "
        "separator shared unbuffered units unquoted"
    ),
    more="PV|Tag...",
)

PVREMOVE = simple(
    "pvremove",
    "Remove LVM label(s) from physical volume(s)",
    "PV...",
    options="--reportformat=basic|json|json_std -f|--force",
    optional="force reportformat",
)

PVRESIZE = simple(
    "pvresize",
    "Resize physical volume(s)",
    "PV...",
    options="--reportformat=basic|json|json_std --setphysicalvolumesize=Size[m|UNIT]",
    optional="setphysicalvolumesize reportformat",
)

PVCHANGE = Command(
    "pvchange",
    "Change attributes of physical volume(s)",
    options=(
        "--addtag=Tag --deltag=Tag --metadataignore=y|n --reportformat=basic|json|json_std "
        "-A|--autobackup=y|n -S|--select=String -a|--all -f|--force -u|--uuid -x|--allocatable=y|n"
    ),
    common="autobackup force uuid reportformat",
    variants=(
        variant(
            "Change properties of all PVs.",
            "--all",
            any_of="allocatable uuid addtag deltag metadataignore",
        ),
        variant(
            "Change properties of specified PVs.",
            "PV|Select...",
            any_of="allocatable uuid addtag deltag metadataignore",
            optional="select",
        ),
    ),
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
    variants=(
        variant(
            "Move what lies on a physical volume or on a range of its extents.",
            "PV",
            optional="autobackup name alloc atomic noudevsync reportformat",
            more="PV...",
        ),
        variant(
            "Go on with moves that were begun, or abort them.",
            "",
        ),
    ),
)

PVCK = Command(
    "pvck",
    "Check metadata on physical volumes",
    options=(
        "--dump=headers|metadata|metadata_all|metadata_search --labelsector=Number "
        "--pvmetadatacopies=0|1|2 --repair --repairtype=pv_header|metadata|label_header --settings=String "
        "-f|--file=String"
    ),
    common="labelsector",
    variants=(
        variant(
            "Check for metadata on a device",
            "PV...",
        ),
        variant(
            "Check and print LVM headers and metadata on a device",
            "--dump PV",
            optional="file settings pvmetadatacopies",
        ),
        variant(
            "Repair LVM headers or metadata on a device",
            "--repairtype PV",
            optional="file settings",
        ),
        variant(
            "Repair LVM headers and metadata on a device",
            "--repair --file PV",
            optional="settings",
        ),
    ),
)

PVSCAN = Command(
    "pvscan",
    "List all physical volumes",
    options=(
        "--autoactivation=String --cache --checkcomplete --ignorelockingfailure --listlvs --listvg "
        "--minor=Number --noudevsync --reportformat=basic|json|json_std --udevoutput --vgonline "
        "-a|--activate=y|n|ay -e|--exported -j|--major=Number -n|--novolumegroup -s|--short -u|--uuid"
    ),
    common="",
    variants=(
        variant(
            "Display PV information.",
            "",
            optional="exported novolumegroup short uuid ignorelockingfailure reportformat",
        ),
        variant(
            "Record that a PV is online or offline.",
            "--cache",
            optional="major ignorelockingfailure reportformat minor noudevsync",
            more="String|PV...",
        ),
        variant(
            "Record that a PV is online and autoactivate the VG if complete.",
            "--cache --activate=ay",
            optional="major ignorelockingfailure reportformat minor noudevsync autoactivation",
            more="String|PV...",
        ),
        variant(
            "Record that a PV is online and list the VG using the PV.",
            "--cache --listvg PV",
            optional="ignorelockingfailure checkcomplete vgonline udevoutput autoactivation",
        ),
        variant(
            "Record that a PV is online and list LVs using the PV.",
            "--cache --listlvs PV",
            optional="ignorelockingfailure checkcomplete vgonline",
        ),
        variant(
            "List LVs using the PV.",
            "--listlvs PV",
        ),
        variant(
            "List the VG using the PV.",
            "--listvg PV",
        ),
    ),
)
