# SPDX-License-Identifier: Apache-2.0
"""What the commands for logical volumes accept: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import DISPLAY, FORMAT, PARTIAL, REPORT, Command

LVDISPLAY = Command(
    "lvdisplay",
    "Display information about a logical volume",
    options=f"{DISPLAY} --segments -H|--history -a|--all -m|--maps",
    unlisted=f"{FORMAT} {PARTIAL}",
    forms="""\
  lvdisplay [VG|LV|Tag...]
    optional: all colon columns history maps options sort select aligned binary configreport foreign
      ignorelockingfailure logonly noheadings nosuffix readonly segments separator shared unbuffered units
""",
)

LVS = Command(
    "lvs",
    "Display information about logical volumes",
    options=f"{REPORT} --segments -H|--history",
    unlisted=PARTIAL,
    forms="""\
  lvs [VG|LV|Tag...]
    optional: history all options select sort segments aligned binary configreport foreign
      ignorelockingfailure logonly nameprefixes noheadings nosuffix readonly reportformat rows separator
      shared unbuffered units unquoted
""",
)

LVEXTEND = Command(
    "lvextend",
    "Add space to a logical volume",
    options=(
        "--alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --nosync --noudevsync "
        "--poolmetadatasize=[+]Size[m|UNIT] --reportformat=basic|json|json_std --type=SegType --usepolicies "
        "-A|--autobackup=y|n -I|--stripesize=Size[k|UNIT] -L|--size=[+]Size[m|UNIT] -f|--force "
        "-i|--stripes=Number -l|--extents=[+]Number[PERCENT] -m|--mirrors=Number -n|--nofsck -r|--resizefs"
    ),
    common="autobackup force mirrors nofsck alloc nosync noudevsync reportformat type",
    forms="""\
Extend an LV by a specified size.
  lvextend --size LV [PV...]
    optional: extents resizefs stripes stripesize poolmetadatasize
Extend an LV by specified PV extents.
  lvextend LV PV...
    optional: resizefs stripes stripesize
Extend a pool metadata SubLV by a specified size.
  lvextend --poolmetadatasize LV [PV...]
    optional: stripes stripesize
Extend an LV according to a predefined policy.
  lvextend --usepolicies LV [PV...]
    optional: resizefs
""",
)

LVREDUCE = Command(
    "lvreduce",
    "Reduce the size of a logical volume",
    options=(
        "--noudevsync --reportformat=basic|json|json_std -A|--autobackup=y|n -L|--size=[-]Size[m|UNIT] "
        "-f|--force -l|--extents=[-]Number[PERCENT] -n|--nofsck -r|--resizefs"
    ),
    forms="""\
  lvreduce --size LV
    optional: extents autobackup force nofsck resizefs noudevsync reportformat
""",
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
    forms="""\
Resize an LV by a specified size.
  lvresize --size LV [PV...]
    optional: extents resizefs poolmetadatasize
Resize an LV by specified PV extents.
  lvresize LV PV...
    optional: resizefs
Resize a pool metadata SubLV by a specified size.
  lvresize --poolmetadatasize LV [PV...]
""",
)

LVREMOVE = Command(
    "lvremove",
    "Remove logical volume(s) from the system",
    options=(
        "--nohistory --noudevsync --reportformat=basic|json|json_std -A|--autobackup=y|n -S|--select=String "
        "-f|--force"
    ),
    forms="""\
  lvremove VG|LV|Tag|Select...
    optional: autobackup force select nohistory noudevsync reportformat
""",
)

LVRENAME = Command(
    "lvrename",
    "Rename a logical volume",
    options="--noudevsync --reportformat=basic|json|json_std -A|--autobackup=y|n",
    common="autobackup noudevsync reportformat",
    forms="""\
  lvrename VG LV LV_new
  lvrename LV LV_new
""",
)

LVCHANGE = Command(
    "lvchange",
    "Change the attributes of logical volume(s)",
    options=(
        "--activationmode=partial|degraded|complete --addtag=Tag "
        "--alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit "
        "--cachemode=writethrough|writeback|passthrough --cachepolicy=String --cachesettings=String "
        "--compression=y|n --deduplication=y|n --deltag=Tag --detachprofile "
        "--discards=passdown|nopassdown|ignore --errorwhenfull=y|n --ignorelockingfailure --ignoremonitoring "
        "--maxrecoveryrate=Size[k|UNIT] --metadataprofile=String --minor=Number "
        "--minrecoveryrate=Size[k|UNIT] --monitor=y|n --noudevsync --poll=y|n --profile=String --readonly "
        "--rebuild=PV --refresh --reportformat=basic|json|json_std --resync --setautoactivation=y|n "
        "--syncaction=check|repair --sysinit --vdosettings=String --writebehind=Number "
        "--writemostly=PV[:t|n|y] -A|--autobackup=y|n -C|--contiguous=y|n -K|--ignoreactivationskip "
        "-M|--persistent=y|n -P|--partial -S|--select=String -Z|--zero=y|n -a|--activate=y|n|ay -f|--force "
        "-j|--major=Number -k|--setactivationskip=y|n -p|--permission=rw|r -r|--readahead=auto|none|Number"
    ),
    common="autobackup force select ignoremonitoring noudevsync reportformat",
    forms="""\
Change a general LV attribute.
For options listed in parentheses, any one is
required, after which the others are optional.
  lvchange VG|LV|Tag|Select...
    any_of: contiguous permission readahead setactivationskip zero persistent=n addtag deltag alloc
      compression deduplication detachprofile metadataprofile profile setautoactivation errorwhenfull discards
      cachemode cachepolicy cachesettings minrecoveryrate maxrecoveryrate vdosettings writebehind writemostly
    optional: activate poll monitor
Resyncronize a mirror or raid LV.
Use to reset 'R' attribute on a not initially synchronized LV.
  lvchange --resync VG|LV|Tag|Select...
    optional: activate
Resynchronize or check a raid LV.
  lvchange --syncaction VG|LV|Tag|Select...
Reconstruct data on specific PVs of a raid LV.
  lvchange --rebuild VG|LV|Tag|Select...
Activate or deactivate an LV.
  lvchange --activate VG|LV|Tag|Select...
    optional: partial ignoreactivationskip activationmode poll monitor ignorelockingfailure sysinit readonly
Reactivate an LV using the latest metadata.
  lvchange --refresh VG|LV|Tag|Select...
    optional: partial activationmode poll monitor
Start or stop monitoring an LV from dmeventd.
  lvchange --monitor VG|LV|Tag|Select...
Start or stop processing an LV conversion.
  lvchange --poll VG|LV|Tag|Select...
    optional: monitor
Make the minor device number persistent for an LV.
  lvchange --persistent=y --minor LV
    optional: major activate poll monitor
""",
)

LVSCAN = Command(
    "lvscan",
    "List all logical volumes in all volume groups",
    options=(
        "--cache --ignorelockingfailure --readonly --reportformat=basic|json|json_std -a|--all "
        "-b|--blockdevice"
    ),
    unlisted=PARTIAL,
    forms="""\
  lvscan
    optional: all blockdevice ignorelockingfailure readonly reportformat
(not listed)
  lvscan --cache
    optional: all blockdevice ignorelockingfailure readonly reportformat
""",
)

LVMDEVICES = Command(
    "lvmdevices",
    "Manage the devices file",
    options=(
        "--adddev=PV --addpvid=String --check --deldev=String|PV --delpvid=String --deviceidtype=String "
        "--update"
    ),
    forms="""\
Print devices in the devices file.
  lvmdevices
Check the devices file and report incorrect values.
  lvmdevices --check
Update the devices file to fix incorrect values.
  lvmdevices --update
Add a device to the devices file.
  lvmdevices --adddev
    optional: deviceidtype
Remove a device from the devices file.
  lvmdevices --deldev
    optional: deviceidtype
Find the device with the given PVID and add it to the devices file.
  lvmdevices --addpvid
    optional: deviceidtype
Remove the devices file entry for the given PVID.
  lvmdevices --delpvid
""",
)

LVMDISKSCAN = Command(
    "lvmdiskscan",
    "List devices that may be used as physical volumes",
    options="--readonly -l|--lvmpartition",
    forms="""\
  lvmdiskscan
    optional: lvmpartition readonly
""",
)
