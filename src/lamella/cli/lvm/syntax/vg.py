# SPDX-License-Identifier: Apache-2.0
"""What the commands for volume groups accept: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import DISPLAY, FORMAT, PARTIAL, REPORT, Command

VGCREATE = Command(
    "vgcreate",
    "Create a volume group",
    options=(
        "--addtag=Tag --alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit "
        "--dataalignment=Size[k|UNIT] --dataalignmentoffset=Size[k|UNIT] --labelsector=Number "
        "--locktype=sanlock|dlm|none --metadataprofile=String --metadatasize=Size[m|UNIT] "
        "--pvmetadatacopies=0|1|2 --reportformat=basic|json|json_std --setautoactivation=y|n --shared "
        "--systemid=String --vgmetadatacopies=all|unmanaged|Number -A|--autobackup=y|n "
        "-M|--metadatatype=lvm2 -Z|--zero=y|n -c|--clustered=y|n -f|--force -l|--maxlogicalvolumes=Number "
        "-p|--maxphysicalvolumes=Number -s|--physicalextentsize=Size[m|UNIT]"
    ),
    forms="""\
  vgcreate VG_new PV...
    optional: autobackup clustered maxlogicalvolumes maxphysicalvolumes metadatatype physicalextentsize force
      zero addtag alloc metadataprofile labelsector metadatasize pvmetadatacopies vgmetadatacopies
      reportformat dataalignment dataalignmentoffset shared systemid locktype setautoactivation
""",
)

VGDISPLAY = Command(
    "vgdisplay",
    "Display volume group information",
    options=f"{DISPLAY} -A|--activevolumegroups -s|--short",
    unlisted=f"{FORMAT} {PARTIAL}",
    forms="""\
  vgdisplay [VG|Tag...]
    optional: activevolumegroups colon columns options select short sort aligned binary configreport foreign
      ignorelockingfailure logonly noheadings nosuffix readonly shared separator unbuffered units
""",
)

VGS = Command(
    "vgs",
    "Display information about volume groups",
    options=REPORT,
    unlisted=PARTIAL,
    forms="""\
  vgs [VG|Tag...]
    optional: all options select sort aligned binary configreport foreign ignorelockingfailure logonly
      nameprefixes noheadings nosuffix readonly reportformat rows separator shared unbuffered units unquoted
""",
)

VGEXTEND = Command(
    "vgextend",
    "Add physical volumes to a volume group",
    options=(
        "--dataalignment=Size[k|UNIT] --dataalignmentoffset=Size[k|UNIT] --labelsector=Number "
        "--metadataignore=y|n --metadatasize=Size[m|UNIT] --pvmetadatacopies=0|1|2 "
        "--reportformat=basic|json|json_std --restoremissing -A|--autobackup=y|n -M|--metadatatype=lvm2 "
        "-Z|--zero=y|n -f|--force"
    ),
    forms="""\
  vgextend VG PV...
    optional: autobackup force zero metadatatype labelsector metadatasize pvmetadatacopies metadataignore
      dataalignment dataalignmentoffset reportformat restoremissing
""",
)

VGREDUCE = Command(
    "vgreduce",
    "Remove physical volume(s) from a volume group",
    options=(
        "--mirrorsonly --removemissing --reportformat=basic|json|json_std -A|--autobackup=y|n -a|--all "
        "-f|--force"
    ),
    common="autobackup force reportformat",
    forms="""\
Remove a PV from a VG.
  vgreduce VG PV...
Remove all unused PVs from a VG.
  vgreduce --all VG
Remove all missing PVs from a VG.
  vgreduce --removemissing VG
    optional: mirrorsonly
""",
)

VGSPLIT = Command(
    "vgsplit",
    "Move physical volumes into a new or existing volume group",
    options=(
        "--alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --poolmetadataspare=y|n "
        "--vgmetadatacopies=all|unmanaged|Number -A|--autobackup=y|n -M|--metadatatype=lvm2 "
        "-l|--maxlogicalvolumes=Number -n|--name=LV -p|--maxphysicalvolumes=Number"
    ),
    common=(
        "autobackup maxlogicalvolumes metadatatype maxphysicalvolumes alloc poolmetadataspare "
        "vgmetadatacopies"
    ),
    forms="""\
Split a VG by specified PVs.
  vgsplit VG VG PV...
Split a VG by PVs in a specified LV.
  vgsplit --name VG VG
""",
)

VGMERGE = Command(
    "vgmerge",
    "Merge volume groups",
    options="--poolmetadataspare=y|n -A|--autobackup=y|n -l|--list",
    forms="""\
  vgmerge VG VG
    optional: autobackup list poolmetadataspare
""",
)

VGIMPORTCLONE = Command(
    "vgimportclone",
    "Import a VG from cloned PVs",
    options="--importdevices -i|--import -n|--basevgname=String",
    forms="""\
  vgimportclone PV...
    optional: basevgname import importdevices
""",
)

VGIMPORTDEVICES = Command(
    "vgimportdevices",
    "Add devices for a VG to the devices file.",
    options="--foreign --reportformat=basic|json -S|--select=String -a|--all",
    common="foreign reportformat",
    forms="""\
Add devices from specific VGs to the devices file.
  vgimportdevices VG|Tag|Select...
    optional: select
Add devices from all accessible VGs to the devices file.
  vgimportdevices --all
""",
)

VGREMOVE = Command(
    "vgremove",
    "Remove volume group(s)",
    options="--noudevsync --reportformat=basic|json|json_std -S|--select=String -f|--force",
    forms="""\
  vgremove VG|Tag|Select...
    optional: force select noudevsync reportformat
""",
)

VGRENAME = Command(
    "vgrename",
    "Rename a volume group",
    options="--reportformat=basic|json|json_std -A|--autobackup=y|n -f|--force",
    common="autobackup force reportformat",
    forms="""\
Rename a VG.
  vgrename VG VG_new
Rename a VG by specifying the VG UUID.
  vgrename String VG_new
""",
)

VGCHANGE = Command(
    "vgchange",
    "Change volume group attributes",
    options=(
        "--activationmode=partial|degraded|complete --addtag=Tag "
        "--alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --autoactivation=String --deltag=Tag "
        "--detachprofile --ignorelockingfailure --ignoremonitoring --lockstart --lockstop "
        "--locktype=sanlock|dlm|none --metadataprofile=String --monitor=y|n --noudevsync --poll=y|n "
        "--profile=String --pvmetadatacopies=0|1|2 --readonly --refresh --reportformat=basic|json|json_std "
        "--setautoactivation=y|n --sysinit --systemid=String --vgmetadatacopies=all|unmanaged|Number "
        "-A|--autobackup=y|n -K|--ignoreactivationskip -P|--partial -S|--select=String -a|--activate=y|n|ay "
        "-f|--force -l|--logicalvolume=Number -p|--maxphysicalvolumes=Number "
        "-s|--physicalextentsize=Size[m|UNIT] -u|--uuid -x|--resizeable=y|n"
    ),
    forms="""\
Change a general VG attribute.
For options listed in parentheses, any one is
required, after which the others are optional.
  vgchange [VG|Tag|Select...]
    any_of: logicalvolume maxphysicalvolumes uuid physicalextentsize resizeable addtag deltag alloc
      pvmetadatacopies vgmetadatacopies profile detachprofile metadataprofile setautoactivation
    optional: autobackup select force poll ignoremonitoring noudevsync reportformat
Start or stop monitoring LVs from dmeventd.
  vgchange --monitor [VG|Tag|Select...]
    optional: autobackup select force sysinit ignorelockingfailure poll ignoremonitoring noudevsync
      reportformat
Start or stop processing LV conversions.
  vgchange --poll [VG|Tag|Select...]
    optional: autobackup select force ignorelockingfailure ignoremonitoring noudevsync reportformat
Activate or deactivate LVs.
  vgchange --activate [VG|Tag|Select...]
    optional: ignoreactivationskip partial autobackup select force activationmode sysinit readonly
      ignorelockingfailure monitor poll autoactivation ignoremonitoring noudevsync reportformat
Reactivate LVs using the latest metadata.
  vgchange --refresh [VG|Tag|Select...]
    optional: autobackup select force sysinit ignorelockingfailure poll ignoremonitoring noudevsync
      reportformat
Change the system ID of a VG.
  vgchange --systemid VG
Start the lockspace of a shared VG in lvmlockd.
  vgchange --lockstart [VG|Tag|Select...]
    optional: select
Stop the lockspace of a shared VG in lvmlockd.
  vgchange --lockstop [VG|Tag|Select...]
    optional: select
Change the lock type for a shared VG.
  vgchange --locktype VG
""",
)

VGCK = Command(
    "vgck",
    "Check the consistency of volume group(s)",
    options="--reportformat=basic|json|json_std --updatemetadata",
    forms="""\
Read and display information about a VG.
  vgck [VG|Tag...]
    optional: reportformat
Rewrite VG metadata to correct problems.
  vgck --updatemetadata VG
""",
)

VGCFGBACKUP = Command(
    "vgcfgbackup",
    "Backup volume group configuration(s)",
    options="--foreign --ignorelockingfailure --readonly --reportformat=basic|json|json_std -f|--file=String",
    unlisted=PARTIAL,
    forms="""\
  vgcfgbackup [VG...]
    optional: file foreign ignorelockingfailure readonly reportformat
""",
)

VGCFGRESTORE = Command(
    "vgcfgrestore",
    "Restore volume group configuration",
    options="--force -M|--metadatatype=lvm2 -f|--file=String -l|--list",
    common="metadatatype force",
    forms="""\
Restore VG metadata from last backup.
  vgcfgrestore VG
Restore VG metadata from specified file.
  vgcfgrestore --file VG
List all VG metadata backups.
  vgcfgrestore --list VG
List one VG metadata backup file.
  vgcfgrestore --list --file [VG]
""",
)

VGEXPORT = Command(
    "vgexport",
    "Unregister volume group(s) from the system",
    options="--reportformat=basic|json|json_std -S|--select=String -a|--all",
    common="reportformat",
    forms="""\
Export specified VGs.
  vgexport VG|Tag|Select...
    optional: select
Export all VGs.
  vgexport --all
""",
)

VGIMPORT = Command(
    "vgimport",
    "Register exported volume group with system",
    options="--reportformat=basic|json|json_std -S|--select=String -a|--all -f|--force",
    common="force reportformat",
    forms="""\
Import specified VGs.
  vgimport VG|Tag|Select...
    optional: select
Import all VGs.
  vgimport --all
""",
)

VGMKNODES = Command(
    "vgmknodes",
    "Create the special files for volume group devices in /dev",
    options="--ignorelockingfailure --refresh --reportformat=basic|json|json_std",
    forms="""\
  vgmknodes [VG|LV|Tag...]
    optional: ignorelockingfailure refresh reportformat
""",
)

VGSCAN = Command(
    "vgscan",
    "Search for all volume groups",
    options="--cache --ignorelockingfailure --mknodes --notifydbus --reportformat=basic|json|json_std",
    unlisted=PARTIAL,
    forms="""\
  vgscan
    optional: ignorelockingfailure mknodes notifydbus reportformat
(not listed)
  vgscan --cache
    optional: ignorelockingfailure mknodes notifydbus reportformat
""",
)
