# SPDX-License-Identifier: Apache-2.0
"""What the commands for volume groups accept: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import DISPLAY, REPORT, Command, simple, variant

VGCREATE = simple(
    "vgcreate",
    "Create a volume group",
    "VG_new PV...",
    options=(
        "--addtag=Tag --alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit "
        "--dataalignment=Size[k|UNIT] --dataalignmentoffset=Size[k|UNIT] --labelsector=Number "
        "--locktype=sanlock|dlm|none --metadataprofile=String --metadatasize=Size[m|UNIT] "
        "--pvmetadatacopies=0|1|2 --reportformat=basic|json|json_std --setautoactivation=y|n --shared "
        "--systemid=String --vgmetadatacopies=all|unmanaged|Number -A|--autobackup=y|n "
        "-M|--metadatatype=lvm2 -Z|--zero=y|n -c|--clustered=y|n -f|--force -l|--maxlogicalvolumes=Number "
        "-p|--maxphysicalvolumes=Number -s|--physicalextentsize=Size[m|UNIT]"
    ),
    optional=(
        "autobackup clustered maxlogicalvolumes maxphysicalvolumes metadatatype "
        "physicalextentsize force zero addtag alloc metadataprofile labelsector metadatasize "
        "pvmetadatacopies vgmetadatacopies reportformat dataalignment dataalignmentoffset shared "
        "systemid locktype setautoactivation"
    ),
)

VGDISPLAY = simple(
    "vgdisplay",
    "Display volume group information",
    "",
    options=f"{DISPLAY} -A|--activevolumegroups -s|--short",
    optional=(
        "activevolumegroups colon columns options select short sort aligned binary configreport "
        "foreign ignorelockingfailure logonly noheadings nosuffix readonly shared separator "
        "unbuffered units"
    ),
    more="VG|Tag...",
)

VGS = simple(
    "vgs",
    "Display information about volume groups",
    "",
    options=REPORT,
    optional=(
        "all options select sort aligned binary configreport foreign ignorelockingfailure logonly "
        "nameprefixes noheadings nosuffix readonly reportformat rows separator shared unbuffered "
        "units unquoted"
    ),
    more="VG|Tag...",
)

VGEXTEND = simple(
    "vgextend",
    "Add physical volumes to a volume group",
    "VG PV...",
    options=(
        "--dataalignment=Size[k|UNIT] --dataalignmentoffset=Size[k|UNIT] --labelsector=Number "
        "--metadataignore=y|n --metadatasize=Size[m|UNIT] --pvmetadatacopies=0|1|2 "
        "--reportformat=basic|json|json_std --restoremissing -A|--autobackup=y|n -M|--metadatatype=lvm2 "
        "-Z|--zero=y|n -f|--force"
    ),
    optional=(
        "autobackup force zero metadatatype labelsector metadatasize pvmetadatacopies "
        "metadataignore dataalignment dataalignmentoffset reportformat restoremissing"
    ),
)

VGREDUCE = Command(
    "vgreduce",
    "Remove physical volume(s) from a volume group",
    options=(
        "--mirrorsonly --removemissing --reportformat=basic|json|json_std -A|--autobackup=y|n -a|--all "
        "-f|--force"
    ),
    common="autobackup force reportformat",
    variants=(
        variant(
            "Remove a PV from a VG.",
            "VG PV...",
        ),
        variant(
            "Remove all unused PVs from a VG.",
            "--all VG",
        ),
        variant(
            "Remove all missing PVs from a VG.",
            "--removemissing VG",
            optional="mirrorsonly",
        ),
    ),
)

VGREMOVE = simple(
    "vgremove",
    "Remove volume group(s)",
    "VG|Tag|Select...",
    options="--noudevsync --reportformat=basic|json|json_std -S|--select=String -f|--force",
    optional="force select noudevsync reportformat",
)

VGRENAME = Command(
    "vgrename",
    "Rename a volume group",
    options="--reportformat=basic|json|json_std -A|--autobackup=y|n -f|--force",
    common="autobackup force reportformat",
    variants=(
        variant(
            "Rename a VG.",
            "VG VG_new",
        ),
        variant(
            "Rename a VG by specifying the VG UUID.",
            "String VG_new",
        ),
    ),
)

VGCHANGE = Command(
    "vgchange",
    "Change volume group attributes",
    options=(
        "--activationmode=partial|degraded|complete --addtag=Tag "
        "--alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --autoactivation=String "
        "--deltag=Tag --detachprofile --ignorelockingfailure --ignoremonitoring --lockstart --lockstop "
        "--locktype=sanlock|dlm|none --metadataprofile=String --monitor=y|n --noudevsync --poll=y|n "
        "--profile=String --pvmetadatacopies=0|1|2 --readonly --refresh "
        "--reportformat=basic|json|json_std --setautoactivation=y|n --sysinit --systemid=String "
        "--vgmetadatacopies=all|unmanaged|Number -A|--autobackup=y|n -K|--ignoreactivationskip "
        "-P|--partial -S|--select=String -a|--activate=y|n|ay -f|--force -l|--logicalvolume=Number "
        "-p|--maxphysicalvolumes=Number -s|--physicalextentsize=Size[m|UNIT] -u|--uuid "
        "-x|--resizeable=y|n"
    ),
    common="",
    variants=(
        variant(
            "Change a general VG attribute.\n"
            "For options listed in parentheses, any one is\n"
            "required, after which the others are optional.",
            "",
            any_of=(
                "logicalvolume maxphysicalvolumes uuid physicalextentsize resizeable addtag deltag alloc "
                "pvmetadatacopies vgmetadatacopies profile detachprofile metadataprofile "
                "setautoactivation"
            ),
            optional="autobackup select force poll ignoremonitoring noudevsync reportformat",
            more="VG|Tag|Select...",
        ),
        variant(
            "Start or stop monitoring LVs from dmeventd.",
            "--monitor",
            optional=(
                "autobackup select force sysinit ignorelockingfailure poll ignoremonitoring noudevsync "
                "reportformat"
            ),
            more="VG|Tag|Select...",
        ),
        variant(
            "Start or stop processing LV conversions.",
            "--poll",
            optional=(
                "autobackup select force ignorelockingfailure ignoremonitoring noudevsync reportformat"
            ),
            more="VG|Tag|Select...",
        ),
        variant(
            "Activate or deactivate LVs.",
            "--activate",
            optional=(
                "ignoreactivationskip partial autobackup select force activationmode sysinit readonly "
                "ignorelockingfailure monitor poll autoactivation ignoremonitoring noudevsync "
                "reportformat"
            ),
            more="VG|Tag|Select...",
        ),
        variant(
            "Reactivate LVs using the latest metadata.",
            "--refresh",
            optional=(
                "autobackup select force sysinit ignorelockingfailure poll ignoremonitoring noudevsync "
                "reportformat"
            ),
            more="VG|Tag|Select...",
        ),
        variant(
            "Change the system ID of a VG.",
            "--systemid VG",
        ),
        variant(
            "Start the lockspace of a shared VG in lvmlockd.",
            "--lockstart",
            optional="select",
            more="VG|Tag|Select...",
        ),
        variant(
            "Stop the lockspace of a shared VG in lvmlockd.",
            "--lockstop",
            optional="select",
            more="VG|Tag|Select...",
        ),
        variant(
            "Change the lock type for a shared VG.",
            "--locktype VG",
        ),
    ),
)

VGCK = Command(
    "vgck",
    "Check the consistency of volume group(s)",
    options="--reportformat=basic|json|json_std --updatemetadata",
    common="",
    variants=(
        variant(
            "Read and display information about a VG.",
            "",
            optional="reportformat",
            more="VG|Tag...",
        ),
        variant(
            "Rewrite VG metadata to correct problems.",
            "--updatemetadata VG",
        ),
    ),
)

VGCFGBACKUP = simple(
    "vgcfgbackup",
    "Backup volume group configuration(s)",
    "",
    options="--foreign --ignorelockingfailure --readonly --reportformat=basic|json|json_std -f|--file=String",
    optional="file foreign ignorelockingfailure readonly reportformat",
    more="VG...",
)

VGCFGRESTORE = Command(
    "vgcfgrestore",
    "Restore volume group configuration",
    options="--force -M|--metadatatype=lvm2 -f|--file=String -l|--list",
    common="metadatatype force",
    variants=(
        variant(
            "Restore VG metadata from last backup.",
            "VG",
        ),
        variant(
            "Restore VG metadata from specified file.",
            "--file VG",
        ),
        variant(
            "List all VG metadata backups.",
            "--list VG",
        ),
        variant(
            "List one VG metadata backup file.",
            "--list --file",
            more="VG",
        ),
    ),
)

VGEXPORT = Command(
    "vgexport",
    "Unregister volume group(s) from the system",
    options="--reportformat=basic|json|json_std -S|--select=String -a|--all",
    common="reportformat",
    variants=(
        variant(
            "Export specified VGs.",
            "VG|Tag|Select...",
            optional="select",
        ),
        variant(
            "Export all VGs.",
            "--all",
        ),
    ),
)

VGIMPORT = Command(
    "vgimport",
    "Register exported volume group with system",
    options="--reportformat=basic|json|json_std -S|--select=String -a|--all -f|--force",
    common="force reportformat",
    variants=(
        variant(
            "Import specified VGs.",
            "VG|Tag|Select...",
            optional="select",
        ),
        variant(
            "Import all VGs.",
            "--all",
        ),
    ),
)

VGSCAN = simple(
    "vgscan",
    "Search for all volume groups",
    "",
    options="--ignorelockingfailure --mknodes --notifydbus --reportformat=basic|json|json_std",
    optional="ignorelockingfailure mknodes notifydbus reportformat",
)
