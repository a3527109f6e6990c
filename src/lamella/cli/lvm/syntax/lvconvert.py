# SPDX-License-Identifier: Apache-2.0
"""What lvconvert accepts: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import Command, variant

LVCONVERT = Command(
    "lvconvert",
    "Change logical volume layout",
    options=(
        "--alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --cachedevice=PV "
        "--cachemetadataformat=auto|1|2 --cachemode=writethrough|writeback|passthrough "
        "--cachepolicy=String --cachepool=LV --cachesettings=String --cachesize=Size[m|UNIT] "
        "--cachevol=LV --compression=y|n --deduplication=y|n --discards=passdown|nopassdown|ignore "
        "--errorwhenfull=y|n --merge --mergemirrors --mergesnapshot --mergethin --metadataprofile=String "
        "--mirrorlog=core|disk --noudevsync --originname=LV_new --poolmetadata=LV "
        "--poolmetadatasize=Size[m|UNIT] --poolmetadataspare=y|n --raidintegrity=y|n "
        "--raidintegrityblocksize=Number --raidintegritymode=String --repair --replace=PV --splitcache "
        "--splitmirrors=Number --splitsnapshot=LV --startpoll --stripes=Number --swapmetadata "
        "--thinpool=LV --trackchanges --type=SegType --uncache --usepolicies --vdopool=LV "
        "--vdosettings=String -H|--cache -I|--stripesize=Size[k|UNIT] -R|--regionsize=Size[m|UNIT] "
        "-T|--thin -V|--virtualsize=Size[m|UNIT] -Z|--zero=y|n -b|--background "
        "-c|--chunksize=Size[k|UNIT] -f|--force -i|--interval=Number -m|--mirrors=[+|-]Number "
        "-n|--name=LV_new -r|--readahead=auto|none|Number -s|--snapshot"
    ),
    common="background force alloc noudevsync",
    variants=(
        variant(
            "Convert LV to linear.",
            "--type=linear LV",
            more="PV...",
        ),
        variant(
            "Convert LV to striped.",
            "--type=striped LV",
            optional="stripesize regionsize interval stripes",
            more="PV...",
        ),
        variant(
            "Convert LV to type mirror (also see type raid1),",
            "--type=mirror LV",
            optional="mirrors stripesize regionsize interval stripes mirrorlog",
            more="PV...",
        ),
        variant(
            "Convert LV to raid or change raid layout\n(a specific raid level must be used, e.g. raid1).",
            "--type=raid LV",
            optional="mirrors stripesize regionsize interval stripes",
            more="PV...",
        ),
        variant(
            "Convert LV to raid1 or mirror, or change number of mirror images.",
            "--mirrors LV",
            optional="regionsize interval mirrorlog",
            more="PV...",
        ),
        variant(
            "Convert raid LV to change number of stripe images.",
            "--stripes LV",
            optional="interval regionsize stripesize",
            more="PV...",
        ),
        variant(
            "Convert raid LV to change the stripe size.",
            "--stripesize LV",
            optional="interval regionsize",
        ),
        variant(
            "Change the region size of an LV.",
            "--regionsize LV",
        ),
        variant(
            "Split images from a raid1 or mirror LV and use them to create a new LV.",
            "--splitmirrors --name LV",
            more="PV...",
        ),
        variant(
            "Split images from a raid1 LV and track changes to origin for later merge.",
            "--splitmirrors --trackchanges LV",
            more="PV...",
        ),
        variant(
            "Merge LV images that were split from a raid1 LV.",
            "--mergemirrors VG|LV|Tag...",
        ),
        variant(
            "Change the type of mirror log used by a mirror LV.",
            "--mirrorlog LV",
            more="PV...",
        ),
        variant(
            "Convert LV to a thin LV, using the original LV as an external origin.",
            "--type=thin --thinpool LV",
            optional=(
                "thin readahead chunksize zero originname poolmetadata poolmetadatasize poolmetadataspare "
                "metadataprofile"
            ),
        ),
        variant(
            "Convert LV to a thin LV, using the original LV as an external origin.",
            "--thin --thinpool LV",
            optional=(
                "type=thin readahead chunksize zero originname poolmetadata poolmetadatasize "
                "poolmetadataspare metadataprofile"
            ),
        ),
        variant(
            "Attach a cache pool to an LV, converts the LV to type cache.",
            "--type=cache --cachepool LV",
            optional=(
                "cache zero readahead chunksize cachemetadataformat cachemode cachepolicy cachesettings "
                "poolmetadata poolmetadatasize poolmetadataspare metadataprofile"
            ),
        ),
        variant(
            "Attach a cache pool to an LV.",
            "--cache --cachepool LV",
            optional=(
                "type=cache zero readahead chunksize cachemetadataformat cachemode cachepolicy "
                "cachesettings poolmetadata poolmetadatasize poolmetadataspare metadataprofile"
            ),
        ),
        variant(
            "Attach a writecache to an LV, converts the LV to type writecache.",
            "--type=writecache --cachevol LV",
            optional="cachesettings",
        ),
        variant(
            "Attach a cache to an LV, converts the LV to type cache.",
            "--type=cache --cachevol LV",
            optional=(
                "cache zero chunksize cachemetadataformat cachemode cachepolicy cachesettings "
                "poolmetadatasize"
            ),
        ),
        variant(
            "Attach a cache to an LV, converts the LV to type cache.",
            "--cache --cachevol LV",
            optional=(
                "zero chunksize cachemetadataformat cachemode cachepolicy cachesettings poolmetadatasize"
            ),
        ),
        variant(
            "Add a writecache to an LV, using a specified cache device.",
            "--type=writecache --cachedevice LV",
            optional="cachesize cachesettings",
        ),
        variant(
            "Add a cache to an LV, using a specified cache device.",
            "--type=cache --cachedevice LV",
            optional="chunksize cachesize cachesettings",
        ),
        variant(
            "Convert LV to type thin-pool.",
            "--type=thin-pool LV",
            optional=(
                "stripesize readahead chunksize zero stripes discards errorwhenfull poolmetadata "
                "poolmetadatasize poolmetadataspare metadataprofile"
            ),
            more="PV...",
        ),
        variant(
            "Convert LV to type cache-pool.",
            "--type=cache-pool LV",
            optional=(
                "zero readahead chunksize cachemetadataformat cachemode cachepolicy cachesettings "
                "poolmetadata poolmetadatasize poolmetadataspare metadataprofile"
            ),
            more="PV...",
        ),
        variant(
            "Convert LV to type vdopool.",
            "--type=vdo-pool LV",
            optional=(
                "name virtualsize readahead zero metadataprofile compression deduplication vdosettings"
            ),
        ),
        variant(
            "Convert LV to type vdopool.",
            "--vdopool",
            optional=(
                "type=vdo-pool readahead zero name virtualsize metadataprofile compression deduplication "
                "vdosettings"
            ),
        ),
        variant(
            "Detach a cache from an LV.",
            "--splitcache LV",
            optional="cachesettings",
        ),
        variant(
            "Detach and delete a cache from an LV.",
            "--uncache LV",
            optional="cachesettings",
        ),
        variant(
            "Swap metadata LV in a thin pool or cache pool (for repair only).",
            "--swapmetadata --poolmetadata LV",
            optional="chunksize",
        ),
        variant(
            "Merge LV that was split from a mirror (variant, use --mergemirrors).\n"
            "Merge thin LV into its origin LV (variant, use --mergethin).\n"
            "Merge COW snapshot LV into its origin (variant, use --mergesnapshot).",
            "--merge VG|LV|Tag...",
            optional="interval",
        ),
        variant(
            "Merge thin LV into its origin LV.",
            "--mergethin LV...",
        ),
        variant(
            "Merge COW snapshot LV into its origin.",
            "--mergesnapshot LV...",
            optional="interval",
        ),
        variant(
            "Separate a COW snapshot from its origin LV.",
            "--splitsnapshot",
        ),
        variant(
            "Combine a former COW snapshot (second arg) with a former\n"
            "origin LV (first arg) to reverse a splitsnapshot command.",
            "--type=snapshot LV LV",
            optional="snapshot chunksize zero",
        ),
        variant(
            "Combine a former COW snapshot (second arg) with a former\n"
            "origin LV (first arg) to reverse a splitsnapshot command.",
            "--snapshot LV LV",
            optional="type=snapshot chunksize zero",
        ),
        variant(
            "Replace failed PVs in a raid or mirror LV.\nRepair a thin pool.\nRepair a cache pool.",
            "--repair LV",
            optional="interval usepolicies poolmetadataspare",
            more="PV...",
        ),
        variant(
            "Replace specific PV(s) in a raid LV with another PV.",
            "--replace LV",
            more="PV...",
        ),
        variant(
            "Poll LV to continue conversion.",
            "--startpoll LV",
        ),
        variant(
            "Poll LV to continue conversion (also see --startpoll)\n"
            "or waits till conversion/mirror syncing is finished",
            "LV",
        ),
        variant(
            "Add or remove data integrity checksums to raid images.",
            "--raidintegrity LV",
            optional="raidintegritymode raidintegrityblocksize",
            more="PV...",
        ),
        variant(
            "",
            "--thinpool",
            optional=(
                "stripesize readahead chunksize zero stripes discards errorwhenfull poolmetadata "
                "poolmetadatasize poolmetadataspare metadataprofile"
            ),
            more="PV...",
            hidden=True,
        ),
        variant(
            "",
            "--cachepool",
            optional=(
                "zero readahead chunksize cachemetadataformat cachemode cachepolicy cachesettings "
                "poolmetadata poolmetadatasize poolmetadataspare metadataprofile"
            ),
            more="PV...",
            hidden=True,
        ),
    ),
)
