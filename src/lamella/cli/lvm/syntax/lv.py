# SPDX-License-Identifier: Apache-2.0
"""What the commands for logical volumes accept: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import DISPLAY, REPORT, Command, simple, variant

LVDISPLAY = simple(
    "lvdisplay",
    "Display information about a logical volume",
    "",
    options=f"{DISPLAY} --segments -H|--history -a|--all -m|--maps",
    optional=(
        "all colon columns history maps options sort select aligned binary configreport foreign "
        "ignorelockingfailure logonly noheadings nosuffix readonly segments separator shared "
        "unbuffered units"
    ),
    more="VG|LV|Tag...",
)

LVS = simple(
    "lvs",
    "Display information about logical volumes",
    "",
    options=f"{REPORT} --segments -H|--history",
    optional=(
        "history all options select sort segments aligned binary configreport foreign "
        "ignorelockingfailure logonly nameprefixes noheadings nosuffix readonly reportformat rows "
        "separator shared unbuffered units unquoted"
    ),
    more="VG|LV|Tag...",
)

LVEXTEND = Command(
    "lvextend",
    "Add space to a logical volume",
    options=(
        "--alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --nosync --noudevsync "
        "--poolmetadatasize=[+]Size[m|UNIT] --reportformat=basic|json|json_std --type=SegType "
        "--usepolicies -A|--autobackup=y|n -I|--stripesize=Size[k|UNIT] -L|--size=[+]Size[m|UNIT] "
        "-f|--force -i|--stripes=Number -l|--extents=[+]Number[PERCENT] -m|--mirrors=Number -n|--nofsck "
        "-r|--resizefs"
    ),
    common="autobackup force mirrors nofsck alloc nosync noudevsync reportformat type",
    variants=(
        variant(
            "Extend an LV by a specified size.",
            "--size LV",
            optional="extents resizefs stripes stripesize poolmetadatasize",
            more="PV...",
        ),
        variant(
            "Extend an LV by specified PV extents.",
            "LV PV...",
            optional="resizefs stripes stripesize",
        ),
        variant(
            "Extend a pool metadata SubLV by a specified size.",
            "--poolmetadatasize LV",
            optional="stripes stripesize",
            more="PV...",
        ),
        variant(
            "Extend an LV according to a predefined policy.",
            "--usepolicies LV",
            optional="resizefs",
            more="PV...",
        ),
    ),
)

LVREDUCE = simple(
    "lvreduce",
    "Reduce the size of a logical volume",
    "--size LV",
    options=(
        "--noudevsync --reportformat=basic|json|json_std -A|--autobackup=y|n -L|--size=[-]Size[m|UNIT] "
        "-f|--force -l|--extents=[-]Number[PERCENT] -n|--nofsck -r|--resizefs"
    ),
    optional="extents autobackup force nofsck resizefs noudevsync reportformat",
)

LVRESIZE = Command(
    "lvresize",
    "Resize a logical volume",
    options=(
        "--alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --nosync --noudevsync "
        "--poolmetadatasize=[+]Size[m|UNIT] --reportformat=basic|json|json_std --type=SegType "
        "-A|--autobackup=y|n -I|--stripesize=Size[k|UNIT] -L|--size=[+|-]Size[m|UNIT] -f|--force "
        "-i|--stripes=Number -l|--extents=[+|-]Number[PERCENT] -n|--nofsck -r|--resizefs"
    ),
    common="autobackup force stripes stripesize nofsck alloc nosync noudevsync reportformat type",
    variants=(
        variant(
            "Resize an LV by a specified size.",
            "--size LV",
            optional="extents resizefs poolmetadatasize",
            more="PV...",
        ),
        variant(
            "Resize an LV by specified PV extents.",
            "LV PV...",
            optional="resizefs",
        ),
        variant(
            "Resize a pool metadata SubLV by a specified size.",
            "--poolmetadatasize LV",
            more="PV...",
        ),
    ),
)

LVREMOVE = simple(
    "lvremove",
    "Remove logical volume(s) from the system",
    "VG|LV|Tag|Select...",
    options=(
        "--nohistory --noudevsync --reportformat=basic|json|json_std -A|--autobackup=y|n "
        "-S|--select=String -f|--force"
    ),
    optional="autobackup force select nohistory noudevsync reportformat",
)

LVRENAME = Command(
    "lvrename",
    "Rename a logical volume",
    options="--noudevsync --reportformat=basic|json|json_std -A|--autobackup=y|n",
    common="autobackup noudevsync reportformat",
    variants=(
        variant(
            "",
            "VG LV LV_new",
        ),
        variant(
            "",
            "LV LV_new",
        ),
    ),
)

LVCHANGE = Command(
    "lvchange",
    "Change the attributes of logical volume(s)",
    options=(
        "--activationmode=partial|degraded|complete --addtag=Tag "
        "--alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit "
        "--cachemode=writethrough|writeback|passthrough --cachepolicy=String --cachesettings=String "
        "--compression=y|n --deduplication=y|n --deltag=Tag --detachprofile "
        "--discards=passdown|nopassdown|ignore --errorwhenfull=y|n --ignorelockingfailure "
        "--ignoremonitoring --maxrecoveryrate=Size[k|UNIT] --metadataprofile=String --minor=Number "
        "--minrecoveryrate=Size[k|UNIT] --monitor=y|n --noudevsync --poll=y|n --profile=String --readonly "
        "--rebuild=PV --refresh --reportformat=basic|json|json_std --resync --setautoactivation=y|n "
        "--syncaction=check|repair --sysinit --vdosettings=String --writebehind=Number "
        "--writemostly=PV[:t|n|y] -A|--autobackup=y|n -C|--contiguous=y|n -K|--ignoreactivationskip "
        "-M|--persistent=y|n -P|--partial -S|--select=String -Z|--zero=y|n -a|--activate=y|n|ay "
        "-f|--force -j|--major=Number -k|--setactivationskip=y|n -p|--permission=rw|r "
        "-r|--readahead=auto|none|Number"
    ),
    common="autobackup force select ignoremonitoring noudevsync reportformat",
    variants=(
        variant(
            "Change a general LV attribute.\n"
            "For options listed in parentheses, any one is\n"
            "required, after which the others are optional.",
            "VG|LV|Tag|Select...",
            any_of=(
                "contiguous permission readahead setactivationskip zero persistent=n addtag deltag alloc "
                "compression deduplication detachprofile metadataprofile profile setautoactivation "
                "errorwhenfull discards cachemode cachepolicy cachesettings minrecoveryrate "
                "maxrecoveryrate vdosettings writebehind writemostly"
            ),
            optional="activate poll monitor",
        ),
        variant(
            "Resyncronize a mirror or raid LV.\n"
            "Use to reset 'R' attribute on a not initially synchronized LV.",
            "--resync VG|LV|Tag|Select...",
            optional="activate",
        ),
        variant(
            "Resynchronize or check a raid LV.",
            "--syncaction VG|LV|Tag|Select...",
        ),
        variant(
            "Reconstruct data on specific PVs of a raid LV.",
            "--rebuild VG|LV|Tag|Select...",
        ),
        variant(
            "Activate or deactivate an LV.",
            "--activate VG|LV|Tag|Select...",
            optional=(
                "partial ignoreactivationskip activationmode poll monitor ignorelockingfailure sysinit "
                "readonly"
            ),
        ),
        variant(
            "Reactivate an LV using the latest metadata.",
            "--refresh VG|LV|Tag|Select...",
            optional="partial activationmode poll monitor",
        ),
        variant(
            "Start or stop monitoring an LV from dmeventd.",
            "--monitor VG|LV|Tag|Select...",
        ),
        variant(
            "Start or stop processing an LV conversion.",
            "--poll VG|LV|Tag|Select...",
            optional="monitor",
        ),
        variant(
            "Make the minor device number persistent for an LV.",
            "--persistent=y --minor LV",
            optional="major activate poll monitor",
        ),
    ),
)

LVSCAN = simple(
    "lvscan",
    "List all logical volumes in all volume groups",
    "",
    options="--ignorelockingfailure --readonly --reportformat=basic|json|json_std -a|--all -b|--blockdevice",
    optional="all blockdevice ignorelockingfailure readonly reportformat",
)

LVMDISKSCAN = simple(
    "lvmdiskscan",
    "List devices that may be used as physical volumes",
    "",
    options="--readonly -l|--lvmpartition",
    optional="lvmpartition readonly",
)
