# SPDX-License-Identifier: Apache-2.0
"""What lvcreate accepts: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import Command, variant

LVCREATE = Command(
    "lvcreate",
    "Create a logical volume",
    options=(
        "--addtag=Tag --alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --cachedevice=PV "
        "--cachemetadataformat=auto|1|2 --cachemode=writethrough|writeback|passthrough "
        "--cachepolicy=String --cachepool=LV_new --cachesettings=String --cachesize=Size[m|UNIT] "
        "--cachevol=LV --compression=y|n --deduplication=y|n --discards=passdown|nopassdown|ignore "
        "--errorwhenfull=y|n --ignoremonitoring --maxrecoveryrate=Size[k|UNIT] --metadataprofile=String "
        "--minor=Number --minrecoveryrate=Size[k|UNIT] --mirrorlog=core|disk --monitor=y|n --nosync "
        "--noudevsync --poolmetadatasize=Size[m|UNIT] --poolmetadataspare=y|n --raidintegrity=y|n "
        "--raidintegrityblocksize=Number --raidintegritymode=String --reportformat=basic|json|json_std "
        "--setautoactivation=y|n --thinpool=LV_new --type=SegType --vdo --vdopool=LV_new "
        "--vdosettings=String -A|--autobackup=y|n -C|--contiguous=y|n -H|--cache "
        "-I|--stripesize=Size[k|UNIT] -K|--ignoreactivationskip -L|--size=Size[m|UNIT] "
        "-M|--persistent=y|n -R|--regionsize=Size[m|UNIT] -T|--thin -V|--virtualsize=Size[m|UNIT] "
        "-W|--wipesignatures=y|n -Z|--zero=y|n -a|--activate=y|n|ay -c|--chunksize=Size[k|UNIT] "
        "-i|--stripes=Number -j|--major=Number -k|--setactivationskip=y|n -l|--extents=Number[PERCENT] "
        "-m|--mirrors=Number -n|--name=String -p|--permission=rw|r -r|--readahead=auto|none|Number "
        "-s|--snapshot"
    ),
    common=(
        "activate autobackup contiguous persistent major setactivationskip ignoreactivationskip name "
        "permission readahead wipesignatures zero addtag alloc setautoactivation ignoremonitoring "
        "metadataprofile minor monitor nosync noudevsync reportformat"
    ),
    variants=(
        variant(
            "Create an LV that returns errors when used.",
            "--type=error --size VG",
            optional="extents",
        ),
        variant(
            "Create an LV that returns zeros when read.",
            "--type=zero --size VG",
            optional="extents",
        ),
        variant(
            "Create a linear LV.",
            "--type=linear --size VG",
            optional="extents",
            more="PV...",
        ),
        variant(
            "Create a linear LV.",
            "--size VG",
            optional="type=linear extents",
            more="PV...",
        ),
        variant(
            "Create a striped LV (also see lvcreate --stripes).",
            "--type=striped --size VG",
            optional="extents stripes stripesize",
            more="PV...",
        ),
        variant(
            "Create a striped LV.",
            "--stripes --size VG",
            optional="type=striped extents stripesize",
            more="PV...",
        ),
        variant(
            "Create a mirror LV (also see --type raid1).",
            "--type=mirror --size VG",
            optional="extents stripes stripesize mirrors regionsize mirrorlog",
            more="PV...",
        ),
        variant(
            "Create a raid1 or mirror LV.",
            "--mirrors --size VG",
            optional=(
                "type=raid1|mirror extents stripesize regionsize mirrorlog minrecoveryrate maxrecoveryrate"
            ),
            more="PV...",
        ),
        variant(
            "Create a raid LV (a specific raid level must be used, e.g. raid1).",
            "--type=raid --size VG",
            optional=(
                "extents stripes stripesize mirrors regionsize minrecoveryrate maxrecoveryrate "
                "raidintegrity raidintegritymode raidintegrityblocksize"
            ),
            more="PV...",
        ),
        variant(
            "Create a raid10 LV.",
            "--mirrors --stripes --size VG",
            optional="type=raid10 extents stripesize regionsize minrecoveryrate maxrecoveryrate",
            more="PV...",
        ),
        variant(
            "Create a COW snapshot LV of an origin LV\n(also see --snapshot).",
            "--type=snapshot --size LV",
            optional="extents snapshot stripes stripesize chunksize",
            more="PV...",
        ),
        variant(
            "Create a COW snapshot LV of an origin LV.",
            "--snapshot --size LV",
            optional="type=snapshot extents stripes stripesize chunksize",
            more="PV...",
        ),
        variant(
            "Create a sparse COW snapshot LV of a virtual origin LV\n(also see --snapshot).",
            "--type=snapshot --size --virtualsize VG",
            optional="extents snapshot chunksize",
            more="PV...",
        ),
        variant(
            "Create a thin pool.",
            "--type=thin-pool --size VG",
            optional=(
                "extents stripes stripesize thin chunksize thinpool discards errorwhenfull "
                "poolmetadatasize poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a thin pool.",
            "--thin --size VG",
            optional=(
                "type=thin-pool extents stripes stripesize chunksize discards errorwhenfull "
                "poolmetadatasize poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a thin pool named in --thinpool.",
            "--size --thinpool VG",
            optional=(
                "type=thin-pool extents stripes stripesize thin chunksize discards errorwhenfull "
                "poolmetadatasize poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a cache pool.",
            "--type=cache-pool --size VG",
            optional=(
                "extents stripes stripesize cache chunksize cachemode cachepolicy cachesettings "
                "cachemetadataformat poolmetadatasize poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a cache pool named by the --cachepool arg\n"
            "(variant, uses --cachepool in place of --name).",
            "--type=cache-pool --size --cachepool VG",
            optional=(
                "extents stripes stripesize cache chunksize cachemode cachepolicy cachesettings "
                "cachemetadataformat poolmetadatasize poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a thin LV in a thin pool.",
            "--type=thin --virtualsize --thinpool:LV VG",
            optional="thin",
        ),
        variant(
            "Create a thin LV in a thin pool named in the first arg\n"
            "(variant, also see --thinpool for naming pool).",
            "--type=thin --virtualsize LV",
            optional="thin",
        ),
        variant(
            "Create a thin LV in a thin pool.",
            "--virtualsize --thinpool:LV VG",
            optional="type=thin thin",
        ),
        variant(
            "Create a thin LV in the thin pool named in the first arg\n"
            "(also see --thinpool for naming pool.)",
            "--virtualsize LV",
            optional="type=thin thin",
        ),
        variant(
            "Create a thin LV that is a snapshot of an existing thin LV.",
            "--type=thin LV",
            optional="thin",
        ),
        variant(
            "Create a thin LV that is a snapshot of an existing thin LV.",
            "--thin LV",
            optional="type=thin",
        ),
        variant(
            "Create a thin LV that is a snapshot of an existing thin LV.",
            "--snapshot LV",
            optional="type=thin",
        ),
        variant(
            "Create a thin LV that is a snapshot of an external origin LV.",
            "--type=thin --thinpool:LV LV",
            optional="thin",
        ),
        variant(
            "Create a thin LV that is a snapshot of an external origin LV.",
            "--snapshot --thinpool:LV LV",
            optional="type=thin",
        ),
        variant(
            "Create a LV that returns VDO when used.",
            "--type=vdo --size VG",
            optional=(
                "extents stripes stripesize virtualsize vdo vdopool compression deduplication vdosettings"
            ),
            more="PV...",
        ),
        variant(
            "Create a VDO LV with VDO pool.",
            "--vdo --size VG",
            optional=(
                "type=vdo extents stripes stripesize virtualsize vdopool compression deduplication "
                "vdosettings"
            ),
            more="PV...",
        ),
        variant(
            "Create a VDO LV with VDO pool.",
            "--vdopool --size VG",
            optional=(
                "type=vdo extents stripes stripesize virtualsize compression deduplication vdosettings"
            ),
            more="PV...",
        ),
        variant(
            "Create a thin LV, first creating a thin pool for it,\n"
            "where the new thin pool is named by the --thinpool arg.",
            "--type=thin --virtualsize --size --thinpool VG",
            optional=(
                "extents stripes stripesize thin chunksize discards errorwhenfull poolmetadatasize "
                "poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a thin LV, first creating a thin pool for it,\n"
            "where the new thin pool is named by --thinpool.",
            "--virtualsize --size --thinpool VG",
            optional=(
                "type=thin extents stripes stripesize thin chunksize discards errorwhenfull "
                "poolmetadatasize poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a thin LV, first creating a thin pool for it,\n"
            "where the new thin pool is named in the first arg,\n"
            "or the new thin pool name is generated when the first\n"
            "arg is a VG name.",
            "--type=thin --virtualsize --size VG|LV_new",
            optional=(
                "extents stripes stripesize thin chunksize discards errorwhenfull poolmetadatasize "
                "poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a thin LV, first creating a thin pool for it,\n"
            "where the new thin pool is named in the first arg,\n"
            "or the new thin pool name is generated when the first\n"
            "arg is a VG name.",
            "--thin --virtualsize --size VG|LV_new",
            optional=(
                "type=thin extents stripes stripesize chunksize discards errorwhenfull poolmetadatasize "
                "poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a thin LV, first creating a thin pool for it.\n"
            "Create a sparse snapshot of a virtual origin LV\n"
            "Chooses type thin or snapshot according to\n"
            "config setting sparse_segtype_default.",
            "--size --virtualsize VG",
            optional=(
                "type=thin|snapshot extents stripes stripesize snapshot thin chunksize discards "
                "errorwhenfull poolmetadatasize poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a new LV, then attach the specified cachepool\nwhich converts the new LV to type cache.",
            "--type=cache --size --cachepool:LV VG",
            optional=(
                "extents stripes stripesize cache chunksize cachemode cachepolicy cachesettings "
                "cachemetadataformat poolmetadatasize poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a new LV, then attach the specified cachepool\nwhich converts the new LV to type cache.",
            "--size --cachepool:LV VG",
            optional=(
                "type=cache extents stripes stripesize cache chunksize cachemode cachepolicy "
                "cachesettings cachemetadataformat"
            ),
            more="PV...",
        ),
        variant(
            "Create a new LV, then attach the specified cachepool\n"
            "which converts the new LV to type cache.\n"
            "(variant, also use --cachepool).",
            "--type=cache --size LV",
            optional=(
                "extents stripes stripesize cache chunksize cachemode cachepolicy cachesettings "
                "cachemetadataformat poolmetadatasize poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "When the LV arg is a cachepool, then create a new LV and\n"
            "attach the cachepool arg to it.\n"
            "(variant, use --type cache and --cachepool.)\n"
            "When the LV arg is not a cachepool, then create a new cachepool\n"
            "and attach it to the LV arg (alternative, use lvconvert.)",
            "--cache --size LV",
            optional=(
                "type=cache extents chunksize stripes stripesize cachemode cachepolicy cachesettings "
                "cachemetadataformat poolmetadatasize poolmetadataspare"
            ),
            more="PV...",
        ),
        variant(
            "Create a new LV, then attach the specified cachevol\nwhich converts the new LV to type cache.",
            "--type=cache --size --cachevol VG",
            optional=(
                "extents stripes stripesize chunksize cachemode cachepolicy cachesettings cachemetadataformat"
            ),
            more="PV...",
        ),
        variant(
            "Create a new LV, then attach a cachevol created from\n"
            "the specified cache device, which converts the\n"
            "new LV to type cache.",
            "--type=cache --size --cachedevice VG",
            optional=(
                "extents stripes stripesize chunksize cachesize cachemode cachepolicy cachesettings "
                "cachemetadataformat"
            ),
            more="PV...",
        ),
        variant(
            "Create a new LV, then attach the specified cachevol\n"
            "which converts the new LV to type writecache.",
            "--type=writecache --size --cachevol VG",
            optional="extents stripes stripesize cachesettings",
            more="PV...",
        ),
        variant(
            "Create a new LV, then attach a cachevol created from\n"
            "the specified cache device, which converts the\n"
            "new LV to type writecache.",
            "--type=writecache --size --cachedevice VG",
            optional="extents stripes stripesize cachesize cachesettings",
            more="PV...",
        ),
    ),
)
