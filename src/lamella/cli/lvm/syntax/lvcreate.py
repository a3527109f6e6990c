# SPDX-License-Identifier: Apache-2.0
"""What lvcreate accepts: the command lines of LVM2 2.03.16."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import Command

LVCREATE = Command(
    "lvcreate",
    "Create a logical volume",
    options=(
        "--addtag=Tag --alloc=contiguous|cling|cling_by_tags|normal|anywhere|inherit --cachedevice=PV "
        "--cachemetadataformat=auto|1|2 --cachemode=writethrough|writeback|passthrough --cachepolicy=String "
        "--cachepool=LV_new --cachesettings=String --cachesize=Size[m|UNIT] --cachevol=LV --compression=y|n "
        "--deduplication=y|n --discards=passdown|nopassdown|ignore --errorwhenfull=y|n --ignoremonitoring "
        "--maxrecoveryrate=Size[k|UNIT] --metadataprofile=String --minor=Number "
        "--minrecoveryrate=Size[k|UNIT] --mirrorlog=core|disk --monitor=y|n --nosync --noudevsync "
        "--poolmetadatasize=Size[m|UNIT] --poolmetadataspare=y|n --raidintegrity=y|n "
        "--raidintegrityblocksize=Number --raidintegritymode=String --reportformat=basic|json|json_std "
        "--setautoactivation=y|n --thinpool=LV_new --type=SegType --vdo --vdopool=LV_new "
        "--vdosettings=String -A|--autobackup=y|n -C|--contiguous=y|n -H|--cache "
        "-I|--stripesize=Size[k|UNIT] -K|--ignoreactivationskip -L|--size=Size[m|UNIT] -M|--persistent=y|n "
        "-R|--regionsize=Size[m|UNIT] -T|--thin -V|--virtualsize=Size[m|UNIT] -W|--wipesignatures=y|n "
        "-Z|--zero=y|n -a|--activate=y|n|ay -c|--chunksize=Size[k|UNIT] -i|--stripes=Number "
        "-j|--major=Number -k|--setactivationskip=y|n -l|--extents=Number[PERCENT] -m|--mirrors=Number "
        "-n|--name=String -p|--permission=rw|r -r|--readahead=auto|none|Number -s|--snapshot"
    ),
    common=(
        "activate autobackup contiguous persistent major setactivationskip ignoreactivationskip name "
        "permission readahead wipesignatures zero addtag alloc setautoactivation ignoremonitoring "
        "metadataprofile minor monitor nosync noudevsync reportformat"
    ),
    forms="""\
Create an LV that returns errors when used.
  lvcreate --type=error --size VG
    optional: extents
Create an LV that returns zeros when read.
  lvcreate --type=zero --size VG
    optional: extents
(not listed)
  lvcreate --type=linear --size VG [PV...]
    optional: extents stripes=1 mirrors=0
(not listed)
  lvcreate --size VG [PV...]
    optional: type=linear extents stripes=1 mirrors=0
Create a linear LV.
  lvcreate --type=linear --size VG [PV...]
    optional: extents
Create a linear LV.
  lvcreate --size VG [PV...]
    optional: type=linear extents
Create a striped LV (also see lvcreate --stripes).
  lvcreate --type=striped --size VG [PV...]
    optional: extents stripes stripesize
Create a striped LV.
  lvcreate --stripes --size VG [PV...]
    optional: type=striped extents stripesize
Create a mirror LV (also see --type raid1).
  lvcreate --type=mirror --size VG [PV...]
    optional: extents stripes stripesize mirrors regionsize mirrorlog
Create a raid1 or mirror LV.
  lvcreate --mirrors --size VG [PV...]
    optional: type=raid1|mirror extents stripesize regionsize mirrorlog minrecoveryrate maxrecoveryrate
Create a raid LV (a specific raid level must be used, e.g. raid1).
  lvcreate --type=raid --size VG [PV...]
    optional: extents stripes stripesize mirrors regionsize minrecoveryrate maxrecoveryrate raidintegrity
      raidintegritymode raidintegrityblocksize
Create a raid10 LV.
  lvcreate --mirrors --stripes --size VG [PV...]
    optional: type=raid10 extents stripesize regionsize minrecoveryrate maxrecoveryrate
Create a COW snapshot LV of an origin LV
(also see --snapshot).
  lvcreate --type=snapshot --size LV [PV...]
    optional: extents snapshot stripes stripesize chunksize
Create a COW snapshot LV of an origin LV.
  lvcreate --snapshot --size LV [PV...]
    optional: type=snapshot extents stripes stripesize chunksize
Create a sparse COW snapshot LV of a virtual origin LV
(also see --snapshot).
  lvcreate --type=snapshot --size --virtualsize VG [PV...]
    optional: extents snapshot chunksize
Create a thin pool.
  lvcreate --type=thin-pool --size VG [PV...]
    optional: extents stripes stripesize thin chunksize thinpool discards errorwhenfull poolmetadatasize
      poolmetadataspare
Create a thin pool.
  lvcreate --thin --size VG [PV...]
    optional: type=thin-pool extents stripes stripesize chunksize discards errorwhenfull poolmetadatasize
      poolmetadataspare
Create a thin pool named in --thinpool.
  lvcreate --size --thinpool VG [PV...]
    optional: type=thin-pool extents stripes stripesize thin chunksize discards errorwhenfull poolmetadatasize
      poolmetadataspare
Create a cache pool.
  lvcreate --type=cache-pool --size VG [PV...]
    optional: extents stripes stripesize cache chunksize cachemode cachepolicy cachesettings
      cachemetadataformat poolmetadatasize poolmetadataspare
Create a cache pool named by the --cachepool arg
(variant, uses --cachepool in place of --name).
  lvcreate --type=cache-pool --size --cachepool VG [PV...]
    optional: extents stripes stripesize cache chunksize cachemode cachepolicy cachesettings
      cachemetadataformat poolmetadatasize poolmetadataspare
Create a thin LV in a thin pool.
  lvcreate --type=thin --virtualsize --thinpool:LV VG
    optional: thin
Create a thin LV in a thin pool named in the first arg
(variant, also see --thinpool for naming pool).
  lvcreate --type=thin --virtualsize LV
    optional: thin
Create a thin LV in a thin pool.
  lvcreate --virtualsize --thinpool:LV VG
    optional: type=thin thin
Create a thin LV in the thin pool named in the first arg
(also see --thinpool for naming pool.)
  lvcreate --virtualsize LV
    optional: type=thin thin
Create a thin LV that is a snapshot of an existing thin LV.
  lvcreate --type=thin LV
    optional: thin
Create a thin LV that is a snapshot of an existing thin LV.
  lvcreate --thin LV
    optional: type=thin
Create a thin LV that is a snapshot of an existing thin LV.
  lvcreate --snapshot LV
    optional: type=thin
Create a thin LV that is a snapshot of an external origin LV.
  lvcreate --type=thin --thinpool:LV LV
    optional: thin
Create a thin LV that is a snapshot of an external origin LV.
  lvcreate --snapshot --thinpool:LV LV
    optional: type=thin
Create a LV that returns VDO when used.
  lvcreate --type=vdo --size VG [PV...]
    optional: extents stripes stripesize virtualsize vdo vdopool compression deduplication vdosettings
Create a VDO LV with VDO pool.
  lvcreate --vdo --size VG [PV...]
    optional: type=vdo extents stripes stripesize virtualsize vdopool compression deduplication vdosettings
Create a VDO LV with VDO pool.
  lvcreate --vdopool --size VG [PV...]
    optional: type=vdo extents stripes stripesize virtualsize compression deduplication vdosettings
Create a thin LV, first creating a thin pool for it,
where the new thin pool is named by the --thinpool arg.
  lvcreate --type=thin --virtualsize --size --thinpool VG [PV...]
    optional: extents stripes stripesize thin chunksize discards errorwhenfull poolmetadatasize
      poolmetadataspare
Create a thin LV, first creating a thin pool for it,
where the new thin pool is named by --thinpool.
  lvcreate --virtualsize --size --thinpool VG [PV...]
    optional: type=thin extents stripes stripesize thin chunksize discards errorwhenfull poolmetadatasize
      poolmetadataspare
Create a thin LV, first creating a thin pool for it,
where the new thin pool is named in the first arg,
or the new thin pool name is generated when the first
arg is a VG name.
  lvcreate --type=thin --virtualsize --size VG|LV_new [PV...]
    optional: extents stripes stripesize thin chunksize discards errorwhenfull poolmetadatasize
      poolmetadataspare
Create a thin LV, first creating a thin pool for it,
where the new thin pool is named in the first arg,
or the new thin pool name is generated when the first
arg is a VG name.
  lvcreate --thin --virtualsize --size VG|LV_new [PV...]
    optional: type=thin extents stripes stripesize chunksize discards errorwhenfull poolmetadatasize
      poolmetadataspare
Create a thin LV, first creating a thin pool for it.
Create a sparse snapshot of a virtual origin LV
Chooses type thin or snapshot according to
config setting sparse_segtype_default.
  lvcreate --size --virtualsize VG [PV...]
    optional: type=thin|snapshot extents stripes stripesize snapshot thin chunksize discards errorwhenfull
      poolmetadatasize poolmetadataspare
Create a new LV, then attach the specified cachepool
which converts the new LV to type cache.
  lvcreate --type=cache --size --cachepool:LV VG [PV...]
    optional: extents stripes stripesize cache chunksize cachemode cachepolicy cachesettings
      cachemetadataformat poolmetadatasize poolmetadataspare
Create a new LV, then attach the specified cachepool
which converts the new LV to type cache.
  lvcreate --size --cachepool:LV VG [PV...]
    optional: type=cache extents stripes stripesize cache chunksize cachemode cachepolicy cachesettings
      cachemetadataformat
Create a new LV, then attach the specified cachepool
which converts the new LV to type cache.
(variant, also use --cachepool).
  lvcreate --type=cache --size LV [PV...]
    optional: extents stripes stripesize cache chunksize cachemode cachepolicy cachesettings
      cachemetadataformat poolmetadatasize poolmetadataspare
When the LV arg is a cachepool, then create a new LV and
attach the cachepool arg to it.
(variant, use --type cache and --cachepool.)
When the LV arg is not a cachepool, then create a new cachepool
and attach it to the LV arg (alternative, use lvconvert.)
  lvcreate --cache --size LV [PV...]
    optional: type=cache extents chunksize stripes stripesize cachemode cachepolicy cachesettings
      cachemetadataformat poolmetadatasize poolmetadataspare
Create a new LV, then attach the specified cachevol
which converts the new LV to type cache.
  lvcreate --type=cache --size --cachevol VG [PV...]
    optional: extents stripes stripesize chunksize cachemode cachepolicy cachesettings cachemetadataformat
Create a new LV, then attach a cachevol created from
the specified cache device, which converts the
new LV to type cache.
  lvcreate --type=cache --size --cachedevice VG [PV...]
    optional: extents stripes stripesize chunksize cachesize cachemode cachepolicy cachesettings
      cachemetadataformat
Create a new LV, then attach the specified cachevol
which converts the new LV to type writecache.
  lvcreate --type=writecache --size --cachevol VG [PV...]
    optional: extents stripes stripesize cachesettings
Create a new LV, then attach a cachevol created from
the specified cache device, which converts the
new LV to type writecache.
  lvcreate --type=writecache --size --cachedevice VG [PV...]
    optional: extents stripes stripesize cachesize cachesettings
""",
)
