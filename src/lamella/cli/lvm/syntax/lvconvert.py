# SPDX-License-Identifier: Apache-2.0
"""What lvconvert accepts: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import Command

LVCONVERT = Command(
    "lvconvert",
    "Change logical volume layout",
    options=(
        "--alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --cachedevice=PV "
        "--cachemetadataformat=auto|1|2 --cachemode=writethrough|writeback|passthrough --cachepolicy=String "
        "--cachepool=LV --cachesettings=String --cachesize=Size[m|UNIT] --cachevol=LV --compression=y|n "
        "--deduplication=y|n --discards=passdown|nopassdown|ignore --errorwhenfull=y|n --merge "
        "--mergemirrors --mergesnapshot --mergethin --metadataprofile=String --mirrorlog=core|disk "
        "--noudevsync --originname=LV_new --poolmetadata=LV --poolmetadatasize=Size[m|UNIT] "
        "--poolmetadataspare=y|n --raidintegrity=y|n --raidintegrityblocksize=Number "
        "--raidintegritymode=String --repair --replace=PV --splitcache --splitmirrors=Number "
        "--splitsnapshot=LV --startpoll --stripes=Number --swapmetadata --thinpool=LV --trackchanges "
        "--type=SegType --uncache --usepolicies --vdopool=LV --vdosettings=String -H|--cache "
        "-I|--stripesize=Size[k|UNIT] -R|--regionsize=Size[m|UNIT] -T|--thin -V|--virtualsize=Size[m|UNIT] "
        "-Z|--zero=y|n -b|--background -c|--chunksize=Size[k|UNIT] -f|--force -i|--interval=Number "
        "-m|--mirrors=[+|-]Number -n|--name=LV_new -r|--readahead=auto|none|Number -s|--snapshot"
    ),
    common="background force alloc noudevsync",
    forms="""\
Convert LV to linear.
  lvconvert --type=linear LV [PV...]
Convert LV to striped.
  lvconvert --type=striped LV [PV...]
    optional: stripesize regionsize interval stripes
Convert LV to type mirror (also see type raid1),
  lvconvert --type=mirror LV [PV...]
    optional: mirrors stripesize regionsize interval stripes mirrorlog
Convert LV to raid or change raid layout
(a specific raid level must be used, e.g. raid1).
  lvconvert --type=raid LV [PV...]
    optional: mirrors stripesize regionsize interval stripes
Convert LV to raid1 or mirror, or change number of mirror images.
  lvconvert --mirrors LV [PV...]
    optional: regionsize interval mirrorlog
Convert raid LV to change number of stripe images.
  lvconvert --stripes LV [PV...]
    optional: interval regionsize stripesize
Convert raid LV to change the stripe size.
  lvconvert --stripesize LV
    optional: interval regionsize
Change the region size of an LV.
  lvconvert --regionsize LV
Split images from a raid1 or mirror LV and use them to create a new LV.
  lvconvert --splitmirrors --name LV [PV...]
Split images from a raid1 LV and track changes to origin for later merge.
  lvconvert --splitmirrors --trackchanges LV [PV...]
Merge LV images that were split from a raid1 LV.
  lvconvert --mergemirrors VG|LV|Tag...
Change the type of mirror log used by a mirror LV.
  lvconvert --mirrorlog LV [PV...]
Convert LV to a thin LV, using the original LV as an external origin.
  lvconvert --type=thin --thinpool LV
    optional: thin readahead chunksize zero originname poolmetadata poolmetadatasize poolmetadataspare
      metadataprofile
Convert LV to a thin LV, using the original LV as an external origin.
  lvconvert --thin --thinpool LV
    optional: type=thin readahead chunksize zero originname poolmetadata poolmetadatasize poolmetadataspare
      metadataprofile
Attach a cache pool to an LV, converts the LV to type cache.
  lvconvert --type=cache --cachepool LV
    optional: cache zero readahead chunksize cachemetadataformat cachemode cachepolicy cachesettings
      poolmetadata poolmetadatasize poolmetadataspare metadataprofile
Attach a cache pool to an LV.
  lvconvert --cache --cachepool LV
    optional: type=cache zero readahead chunksize cachemetadataformat cachemode cachepolicy cachesettings
      poolmetadata poolmetadatasize poolmetadataspare metadataprofile
Attach a writecache to an LV, converts the LV to type writecache.
  lvconvert --type=writecache --cachevol LV
    optional: cachesettings
Attach a cache to an LV, converts the LV to type cache.
  lvconvert --type=cache --cachevol LV
    optional: cache zero chunksize cachemetadataformat cachemode cachepolicy cachesettings poolmetadatasize
Attach a cache to an LV, converts the LV to type cache.
  lvconvert --cache --cachevol LV
    optional: zero chunksize cachemetadataformat cachemode cachepolicy cachesettings poolmetadatasize
Add a writecache to an LV, using a specified cache device.
  lvconvert --type=writecache --cachedevice LV
    optional: cachesize cachesettings
Add a cache to an LV, using a specified cache device.
  lvconvert --type=cache --cachedevice LV
    optional: chunksize cachesize cachesettings
Convert LV to type thin-pool.
  lvconvert --type=thin-pool LV [PV...]
    optional: stripesize readahead chunksize zero stripes discards errorwhenfull poolmetadata poolmetadatasize
      poolmetadataspare metadataprofile
Convert LV to type cache-pool.
  lvconvert --type=cache-pool LV [PV...]
    optional: zero readahead chunksize cachemetadataformat cachemode cachepolicy cachesettings poolmetadata
      poolmetadatasize poolmetadataspare metadataprofile
Convert LV to type vdopool.
  lvconvert --type=vdo-pool LV
    optional: name virtualsize readahead zero metadataprofile compression deduplication vdosettings
Convert LV to type vdopool.
  lvconvert --vdopool
    optional: type=vdo-pool readahead zero name virtualsize metadataprofile compression deduplication
      vdosettings
Detach a cache from an LV.
  lvconvert --splitcache LV
    optional: cachesettings
Detach and delete a cache from an LV.
  lvconvert --uncache LV
    optional: cachesettings
Swap metadata LV in a thin pool or cache pool (for repair only).
  lvconvert --swapmetadata --poolmetadata LV
    optional: chunksize
Merge LV that was split from a mirror (variant, use --mergemirrors).
Merge thin LV into its origin LV (variant, use --mergethin).
Merge COW snapshot LV into its origin (variant, use --mergesnapshot).
  lvconvert --merge VG|LV|Tag...
    optional: interval
Merge thin LV into its origin LV.
  lvconvert --mergethin LV...
Merge COW snapshot LV into its origin.
  lvconvert --mergesnapshot LV...
    optional: interval
Separate a COW snapshot from its origin LV.
  lvconvert --splitsnapshot
Combine a former COW snapshot (second arg) with a former
origin LV (first arg) to reverse a splitsnapshot command.
  lvconvert --type=snapshot LV LV
    optional: snapshot chunksize zero
Combine a former COW snapshot (second arg) with a former
origin LV (first arg) to reverse a splitsnapshot command.
  lvconvert --snapshot LV LV
    optional: type=snapshot chunksize zero
Replace failed PVs in a raid or mirror LV.
Repair a thin pool.
Repair a cache pool.
  lvconvert --repair LV [PV...]
    optional: interval usepolicies poolmetadataspare
Replace specific PV(s) in a raid LV with another PV.
  lvconvert --replace LV [PV...]
Poll LV to continue conversion.
  lvconvert --startpoll LV
Poll LV to continue conversion (also see --startpoll)
or waits till conversion/mirror syncing is finished
  lvconvert LV
Add or remove data integrity checksums to raid images.
  lvconvert --raidintegrity LV [PV...]
    optional: raidintegritymode raidintegrityblocksize
(not listed)
  lvconvert --thinpool [PV...]
    optional: stripesize readahead chunksize zero stripes discards errorwhenfull poolmetadata poolmetadatasize
      poolmetadataspare metadataprofile
(not listed)
  lvconvert --cachepool [PV...]
    optional: zero readahead chunksize cachemetadataformat cachemode cachepolicy cachesettings poolmetadata
      poolmetadatasize poolmetadataspare metadataprofile
""",
)
