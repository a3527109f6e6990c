# SPDX-License-Identifier: Apache-2.0
"""The fields that a report can show: names, headings, widths and types as LVM2 2.03.16 has them.

Facts from lib/report/columns.h. A field's value comes from the function of the same name in
``lv_values``, ``segment_values``, ``pv_values`` or ``vg_values``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

SECTIONS = {
    "lv": "Logical Volume Fields",
    "lvinfo": "Logical Volume Device Info Fields",
    "lvstatus": "Logical Volume Device Status Fields",
    "lvinfostatus": "Logical Volume Device Info and Status Combined Fields",
    "label": "Physical Volume Label Fields",
    "pv": "Physical Volume Fields",
    "vg": "Volume Group Fields",
    "seg": "Logical Volume Segment Fields",
    "pvseg": "Physical Volume Segment Fields",
    "log": "Command Log Fields",
    "devtype": "Device Types Fields",
}
"""Sections in the order of the field list, with their titles."""

ALONE = ("log", "devtype")
"""Sections of reports of their own: no other report has their fields, and these reports have no others."""

PREFIXES = {
    "lv": "lv_", "seg": "lv_", "vg": "vg_", "pv": "pv_", "pvseg": "pv_", "log": "log_", "devtype": "devtype_",
}  # fmt: skip
"""What may be left out of a field's name in a report of this kind."""

ALL_OF = {
    "lv_all": ("lv", "lvinfo", "lvstatus", "lvinfostatus"),
    "pv_all": ("label", "pv"),
    "vg_all": ("vg",),
    "seg_all": ("seg",),
    "pvseg_all": ("pvseg",),
    "log_all": ("log",),
    "devtype_all": ("devtype",),
}

STRING, LIST, NUMBER, SIGNED, SIZE, PERCENT, BINARY, TIME = (
    "string",
    "string list",
    "number",
    "signed number",
    "size",
    "percent",
    "binary",
    "time",
)
_KINDS = {"s": STRING, "l": LIST, "n": NUMBER, "i": SIGNED, "z": SIZE, "p": PERCENT, "b": BINARY, "t": TIME}

# section | letter of the kind, least width | name | heading | words for "true" | what it is
_TABLE = """\
lv|s38|lv_uuid|LV UUID||Its unique identifier.
lv|s4|lv_name|LV||Its name; a hidden volume's is in brackets.
lv|s4|lv_full_name|LV||The group's and its own name.
lv|s0|lv_path|Path||Path of its device; none if hidden.
lv|s0|lv_dm_path|DMPath||Path of its device in /dev/mapper.
lv|s0|lv_parent|Parent||The volume that it is a part of.
lv|l10|lv_layout|Layout||How it is laid out.
lv|l10|lv_role|Role||What it is for.
lv|b10|lv_initial_image_sync|InitImgSync|initial image sync,sync|Whether its images were synchronised.
lv|b10|lv_image_synced|ImgSynced|image synced,synced|Whether a mirror's image is in sync.
lv|b10|lv_merging|Merging|merging|Whether a snapshot is being merged into its origin.
lv|b0|lv_converting|Converting|converting|Whether it is being converted.
lv|s10|lv_allocation_policy|AllocPol||Its allocation policy.
lv|b10|lv_allocation_locked|AllocLock|allocation locked,locked|Whether its allocation may not change.
lv|b10|lv_fixed_minor|FixMin|fixed minor,fixed|Whether it has a fixed minor number.
lv|b15|lv_skip_activation|SkipAct|skip activation,skip|Whether activation passes it over.
lv|b0|lv_autoactivation|AutoAct|enabled|Whether it may be activated automatically.
lv|s15|lv_when_full|WhenFull||What a full thin pool does.
lv|s0|lv_active|Active||Whether the kernel has it.
lv|b10|lv_active_locally|ActLocal|active locally,active,locally|Whether this host's kernel has it.
lv|b10|lv_active_remotely|ActRemote|active remotely,active,remotely|Whether another host's kernel has it.
lv|b10|lv_active_exclusively|ActExcl|active exclusively,active,exclusively|Whether only one kernel has it.
lv|i0|lv_major|Maj||Persistent major number, or -1.
lv|i0|lv_minor|Min||Persistent minor number, or -1.
lv|z0|lv_read_ahead|Rahead||Read-ahead as set.
lv|z0|lv_size|LSize||Its size.
lv|z0|lv_metadata_size|MSize||Size of a pool's metadata volume.
lv|n0|seg_count|#Seg||How many segments it has.
lv|s0|origin|Origin||What it is a snapshot of.
lv|s38|origin_uuid|Origin UUID||Identifier of what it is a snapshot of.
lv|z0|origin_size|OSize||Size of what it is a snapshot of.
lv|l0|lv_ancestors|Ancestors||Its origin, the origin's origin, and so on.
lv|l0|lv_full_ancestors|FAncestors||The same with removed volumes that are remembered.
lv|l0|lv_descendants|Descendants||Its snapshots, and theirs.
lv|l0|lv_full_descendants|FDescendants||The same with removed volumes that are remembered.
lv|n0|raid_mismatch_count|Mismatches||Mismatches that a RAID check found.
lv|s0|raid_sync_action|SyncAction||What RAID synchronisation is doing.
lv|n0|raid_write_behind|WBehind||Outstanding writes allowed to write-mostly RAID1 devices.
lv|n0|raid_min_recovery_rate|MinSync||Least RAID recovery rate, KiB/s per disk.
lv|n0|raid_max_recovery_rate|MaxSync||Greatest RAID recovery rate, KiB/s per disk.
lv|s0|raidintegritymode|IntegMode||How RAID integrity is kept.
lv|i0|raidintegrityblocksize|IntegBlkSize||Block size of RAID integrity.
lv|n0|integritymismatches|IntegMismatches||Mismatches that integrity found.
lv|s0|move_pv|Move||The disk that pvmove empties.
lv|s38|move_pv_uuid|Move UUID||Identifier of the disk that pvmove empties.
lv|s0|convert_lv|Convert||The temporary volume of a conversion.
lv|s38|convert_lv_uuid|Convert UUID||Identifier of the temporary volume of a conversion.
lv|s0|mirror_log|Log||A mirror's log volume.
lv|s38|mirror_log_uuid|Log UUID||Identifier of a mirror's log volume.
lv|s0|data_lv|Data||A pool's data volume.
lv|s38|data_lv_uuid|Data UUID||Identifier of a pool's data volume.
lv|s0|metadata_lv|Meta||A pool's metadata volume.
lv|s38|metadata_lv_uuid|Meta UUID||Identifier of a pool's metadata volume.
lv|s0|pool_lv|Pool||The pool that it is in.
lv|s38|pool_lv_uuid|Pool UUID||Identifier of the pool that it is in.
lv|l0|lv_tags|LV Tags||Its tags.
lv|s0|lv_profile|LProfile||The profile attached to it.
lv|s0|lv_lockargs|LLockArgs||Its arguments for lvmlockd.
lv|t26|lv_time|CTime||When it was created.
lv|t26|lv_time_removed|RTime||When it was removed.
lv|s10|lv_host|Host||Where it was created.
lv|l0|lv_modules|Modules||Kernel modules that it needs.
lv|b0|lv_historical|Historical|historical|Whether it was removed and is only remembered.
lv|i0|writecache_block_size|WCacheBlkSize||Block size of a write cache.
lvinfo|i0|lv_kernel_major|KMaj||Major number in the kernel, or -1.
lvinfo|i0|lv_kernel_minor|KMin||Minor number in the kernel, or -1.
lvinfo|z0|lv_kernel_read_ahead|KRahead||Read-ahead in the kernel.
lvinfo|s8|lv_permissions|LPerms||Whether it may be written.
lvinfo|b10|lv_suspended|Suspended|suspended|Whether it is suspended.
lvinfo|b20|lv_live_table|LiveTable|live table present,live table,live|Whether the kernel has a table for it.
lvinfo|b20|lv_inactive_table|InactiveTable|inactive table present,inactive table,inactive|Whether one waits.
lvinfo|b10|lv_device_open|DevOpen|open|Whether its device is open.
lvstatus|p6|data_percent|Data%||How full it is.
lvstatus|p6|snap_percent|Snap%||How full a snapshot is.
lvstatus|p6|metadata_percent|Meta%||How full a pool's metadata is.
lvstatus|p0|copy_percent|Cpy%Sync||How much is in sync.
lvstatus|p0|sync_percent|Cpy%Sync||How much is in sync.
lvstatus|n0|cache_total_blocks|CacheTotalBlocks||Blocks of a cache.
lvstatus|n16|cache_used_blocks|CacheUsedBlocks||Used blocks of a cache.
lvstatus|n0|cache_dirty_blocks|CacheDirtyBlocks||Dirty blocks of a cache.
lvstatus|n16|cache_read_hits|CacheReadHits||Reads that a cache served.
lvstatus|n16|cache_read_misses|CacheReadMisses||Reads that a cache could not serve.
lvstatus|n16|cache_write_hits|CacheWriteHits||Writes that a cache took.
lvstatus|n0|cache_write_misses|CacheWriteMisses||Writes that a cache did not take.
lvstatus|l18|kernel_cache_settings|KCacheSettings||A cache's settings in the kernel.
lvstatus|s18|kernel_cache_policy|KCachePolicy||A cache's policy in the kernel.
lvstatus|n0|kernel_metadata_format|KMFmt||A cache's metadata format in the kernel.
lvstatus|s15|lv_health_status|Health||Its health.
lvstatus|s0|kernel_discards|KDiscards||How the kernel's thin pool treats discards.
lvstatus|b15|lv_check_needed|CheckNeeded|check needed,needed|Whether a pool's metadata needs a check.
lvstatus|b15|lv_merge_failed|MergeFailed|merge failed,failed|Whether a merge failed.
lvstatus|b15|lv_snapshot_invalid|SnapInvalid|snapshot invalid,invalid|Whether a snapshot is invalid.
lvstatus|s0|vdo_operating_mode|VDOOperatingMode||Mode of a VDO pool.
lvstatus|s0|vdo_compression_state|VDOCompressionState||State of a VDO pool's compression.
lvstatus|s0|vdo_index_state|VDOIndexState||State of a VDO pool's index.
lvstatus|z0|vdo_used_size|VDOUsedSize||Used space of a VDO pool.
lvstatus|p0|vdo_saving_percent|VDOSaving%||Space that a VDO pool saves.
lvstatus|n0|writecache_total_blocks|WCacheTotalBlocks||Blocks of a write cache.
lvstatus|n0|writecache_free_blocks|WCacheFreeBlocks||Free blocks of a write cache.
lvstatus|n0|writecache_writeback_blocks|WCacheWritebackBlocks||Blocks to be written back.
lvstatus|n0|writecache_error|WCacheErrors||Errors of a write cache.
lvinfostatus|s0|lv_attr|Attr||Its attributes, a letter each; see lvs(8).
label|s0|pv_fmt|Fmt||Its metadata format.
label|s38|pv_uuid|PV UUID||Its unique identifier.
label|z0|dev_size|DevSize||Size of the device under it.
label|s10|pv_name|PV||Path of its device.
label|s0|pv_major|Maj||Major number of its device.
label|s0|pv_minor|Min||Minor number of its device.
label|z9|pv_mda_free|PMdaFree||Free room in its metadata areas.
label|z9|pv_mda_size|PMdaSize||Size of its smallest metadata area.
label|n0|pv_ext_vsn|PExtVsn||Version of its header's extension.
pv|z7|pe_start|1st PE||Where its first extent lies.
pv|z0|pv_size|PSize||Its size.
pv|z0|pv_free|PFree||Its free space.
pv|z0|pv_used|Used||Its used space.
pv|s0|pv_attr|Attr||Its attributes, a letter each; see pvs(8).
pv|b0|pv_allocatable|Allocatable|allocatable|Whether space may be allocated on it.
pv|b10|pv_exported|Exported|exported|Whether it is exported.
pv|b10|pv_missing|Missing|missing|Whether its device is missing.
pv|n3|pv_pe_count|PE||How many extents it has.
pv|n0|pv_pe_alloc_count|Alloc||How many of its extents are used.
pv|l0|pv_tags|PV Tags||Its tags.
pv|n0|pv_mda_count|#PMda||How many metadata areas it has.
pv|n0|pv_mda_used_count|#PMdaUse||How many of its metadata areas are in use.
pv|z0|pv_ba_start|BA Start||Where its boot loader area lies.
pv|z0|pv_ba_size|BA Size||Size of its boot loader area.
pv|b0|pv_in_use|PInUse|used,in use|Whether it belongs to a group.
pv|b0|pv_duplicate|Duplicate|duplicate|Whether another device with its identifier was preferred.
pv|s0|pv_device_id|DeviceID||The name that its hardware or file has.
pv|s0|pv_device_id_type|DeviceIDType||What kind of name that is.
vg|s0|vg_fmt|Fmt||Its metadata format.
vg|s38|vg_uuid|VG UUID||Its unique identifier.
vg|s0|vg_name|VG||Its name.
vg|s5|vg_attr|Attr||Its attributes, a letter each; see vgs(8).
vg|s10|vg_permissions|VPerms||Whether it may be written.
vg|b0|vg_extendable|Extendable|extendable|Whether it may be extended.
vg|b10|vg_exported|Exported|exported|Whether it is exported.
vg|b0|vg_autoactivation|AutoAct|enabled|Whether it may be activated automatically.
vg|b10|vg_partial|Partial|partial|Whether some of its disks are missing.
vg|s10|vg_allocation_policy|AllocPol||Its allocation policy.
vg|b10|vg_clustered|Clustered|clustered|Whether it is clustered.
vg|b7|vg_shared|Shared|shared|Whether hosts share it through lvmlockd.
vg|z0|vg_size|VSize||Its size.
vg|z0|vg_free|VFree||Its free space.
vg|s0|vg_sysid|SYS ID||The host that owns it.
vg|s0|vg_systemid|System ID||The host that owns it.
vg|s0|vg_lock_type|LockType||How lvmlockd locks it.
vg|s0|vg_lock_args|VLockArgs||Its arguments for lvmlockd.
vg|z0|vg_extent_size|Ext||Size of its extents.
vg|n0|vg_extent_count|#Ext||How many extents it has.
vg|n0|vg_free_count|Free||How many of its extents are free.
vg|n0|max_lv|MaxLV||How many logical volumes it may have; 0: any.
vg|n0|max_pv|MaxPV||How many disks it may have; 0: any.
vg|n0|pv_count|#PV||How many disks it has.
vg|n0|vg_missing_pv_count|#PV Missing||How many of its disks are missing.
vg|n0|lv_count|#LV||How many logical volumes it has.
vg|n0|snap_count|#SN||How many old-style snapshots it has.
vg|n0|vg_seqno|Seq||How often its metadata has been written.
vg|l0|vg_tags|VG Tags||Its tags.
vg|s0|vg_profile|VProfile||The profile attached to it.
vg|n0|vg_mda_count|#VMda||How many metadata areas it has.
vg|n0|vg_mda_used_count|#VMdaUse||How many of its metadata areas are in use.
vg|z9|vg_mda_free|VMdaFree||Free room in its metadata areas.
vg|z9|vg_mda_size|VMdaSize||Size of its smallest metadata area.
vg|n0|vg_mda_copies|#VMdaCps||How many metadata areas should be in use.
seg|s0|segtype|Type||How the segment is mapped.
seg|n0|stripes|#Str||Its stripes, or a mirror's legs.
seg|n0|data_stripes|#DStr||Its stripes without parity.
seg|z0|reshape_len|RSize||Room for reshaping.
seg|n0|reshape_len_le|RSize||Room for reshaping, in extents.
seg|n0|data_copies|#Cpy||Copies of the data.
seg|n0|data_offset|DOff||Where data begins on each image.
seg|n0|new_data_offset|NOff||Where data will begin after reshaping.
seg|n0|parity_chunks|#Par||Parity chunks.
seg|z0|stripe_size|Stripe||Data on one stripe before the next one.
seg|z0|region_size|Region||The unit in which mirrors are synchronised.
seg|z0|chunk_size|Chunk||The unit in which a pool, snapshot or cache maps.
seg|n0|thin_count|#Thins||Thin volumes in a pool.
seg|s0|discards|Discards||How a thin pool treats discards.
seg|n0|cache_metadata_format|CMFmt||Metadata format of a cache.
seg|s0|cache_mode|CacheMode||How a cache treats writes.
seg|b0|zero|Zero|zero|Whether a thin pool zeroes new chunks.
seg|n0|transaction_id|TransId||A pool's transaction id, or a thin volume's at its creation.
seg|n0|thin_id|ThId||A thin volume's device id.
seg|z0|seg_start|Start||Where it begins in the volume.
seg|n0|seg_start_pe|Start||Where it begins in the volume, in extents.
seg|z0|seg_size|SSize||Its size.
seg|z0|seg_size_pe|SSize||Its size in extents.
seg|l0|seg_tags|Seg Tags||Its tags.
seg|l0|seg_pe_ranges|PE Ranges||Extents under it, as command lines take them.
seg|l0|seg_le_ranges|LE Ranges||Extents under it.
seg|l0|seg_metadata_le_ranges|Metadata LE Ranges||Extents of the metadata volumes under it.
seg|l0|devices|Devices||Devices under it with their first extents.
seg|l0|metadata_devices|Metadata Devs||Metadata devices under it with their first extents.
seg|s0|seg_monitor|Monitor||Whether dmeventd watches it.
seg|s0|cache_policy|CachePolicy||Policy of a cache.
seg|l0|cache_settings|CacheSettings||Settings of a cache.
seg|b0|vdo_compression|VDOCompression|enabled|Whether a VDO pool compresses.
seg|b0|vdo_deduplication|VDODeduplication|enabled|Whether a VDO pool deduplicates.
seg|b0|vdo_use_metadata_hints|VDOMetadataHints|enabled|Whether a VDO pool marks its metadata writes.
seg|n0|vdo_minimum_io_size|VDOMinimumIOSize||Smallest request of a VDO pool.
seg|z0|vdo_block_map_cache_size|VDOBlockMapCacheSize||Size of a VDO pool's map cache.
seg|n0|vdo_block_map_era_length|VDOBlockMapEraLength||How fast a VDO pool writes its map.
seg|b0|vdo_use_sparse_index|VDOSparseIndex|enabled|Whether a VDO pool's index is sparse.
seg|z0|vdo_index_memory_size|VDOIndexMemorySize||Memory of a VDO pool's index.
seg|z0|vdo_slab_size|VDOSlabSize||Size of a VDO pool's slabs.
seg|n0|vdo_ack_threads|VDOAckThreads||Acknowledging threads of a VDO pool.
seg|n0|vdo_bio_threads|VDOBioThreads||Request threads of a VDO pool.
seg|n0|vdo_bio_rotation|VDOBioRotation||Requests before a VDO pool turns to the next thread.
seg|n0|vdo_cpu_threads|VDOCPUThreads||Hashing and compressing threads of a VDO pool.
seg|n0|vdo_hash_zone_threads|VDOHashZoneThreads||Hash zone threads of a VDO pool.
seg|n0|vdo_logical_threads|VDOLogicalThreads||Logical threads of a VDO pool.
seg|n0|vdo_physical_threads|VDOPhysicalThreads||Physical threads of a VDO pool.
seg|n0|vdo_max_discard|VDOMaxDiscard||Largest discard that a VDO pool takes.
seg|s0|vdo_write_policy|VDOWritePolicy||When a VDO pool acknowledges writes.
seg|z0|vdo_header_size|VDOHeaderSize||Size of the header before a VDO pool.
pvseg|n0|pvseg_start|Start||First extent of the run.
pvseg|n0|pvseg_size|SSize||Extents in the run.
log|n0|log_seq_num|Seq||Its number in the log.
log|s0|log_type|LogType||Whether it is a status, or what was printed, warned of or reported as an error.
log|s0|log_context|Context||Which part of the command it is from.
log|s0|log_object_type|ObjType||What is processed: cmd, orphan, pv, label, vg or lv.
log|s0|log_object_name|ObjName||The name of what is processed.
log|s7|log_object_id|ObjID||The identifier of what is processed.
log|s7|log_object_group|ObjGrp||The group of what is processed.
log|s0|log_object_group_id|ObjGrpID||The identifier of the group of what is processed.
log|s7|log_message|Msg||The message, or success or failure.
log|i0|log_errno|Errno||0, or -1 from the first error on.
log|n0|log_ret_code|RetCode||Of a status: 1 for success, else the exit code.
devtype|s0|devtype_name|DevType||The name of the block driver in /proc/devices.
devtype|n0|devtype_max_partitions|MaxParts||Minor numbers for each device: itself and its partitions.
devtype|s0|devtype_description|Description||What the devices are.
"""


@dataclass(slots=True, eq=False, repr=False)
class Field:
    """One column. ``words`` are the names of *true* where ``kind`` is BINARY; the first is printed."""

    name: str
    heading: str
    kind: str
    width: int
    section: str
    words: tuple[str, ...]
    description: str

    @property
    def right(self) -> bool:
        """Whether the column is aligned to the right."""
        return self.kind in (NUMBER, SIGNED, SIZE, BINARY)


@cache
def fields() -> dict[str, Field]:
    """Every field by name, in the order of LVM2's list."""
    found = {}
    for line in _TABLE.splitlines():
        section, kind, name, heading, words, description = line.split("|", 5)
        found[name] = Field(
            name,
            heading,
            _KINDS[kind[0]],
            int(kind[1:]),
            section,
            tuple(words.split(",")) if words else (),
            description,
        )
    found["selected"] = Field(
        "selected", "Selected", BINARY, 0, "special", (), "Whether the selection holds."
    )
    return found


def _plain(name: str) -> str:
    return name.replace("_", "")


def _of_report(section: str, report: str) -> bool:
    """Whether a *report* of that kind may have the fields of a section."""
    return section in ("special", report) if report in ALONE else section not in ALONE


@cache
def _plain_names(report: str) -> dict[str, str]:
    names = [field.name for field in fields().values() if _of_report(field.section, report)]
    names += [name for name, parts in ALL_OF.items() if _of_report(parts[0], report)]
    return {_plain(name): name for name in names}


def find_field(name: str, report: str) -> str | None:
    """The full name of the field, or of the group of fields, that *name* means in a *report*.

    Underscores do not count, and the report's own prefix may be left out: ``name`` is
    ``lv_name`` in ``lvs``. None if there is no such field.
    """
    plain = _plain(name.lower())
    names = _plain_names(report if report in ALONE else "")
    return names.get(plain) or names.get(_plain(PREFIXES.get(report, "")) + plain)


def field_list(report: str = "") -> str:
    """What ``-o help`` prints in a *report* of that kind."""
    known = [field for field in fields().values() if _of_report(field.section, report)]
    width = max(len(field.name) for field in known)
    lines = []
    for section, title in SECTIONS.items():
        if not _of_report(section, report):
            continue
        lines += [f"  {title}", f"  {'-' * len(title)}"]
        group = next(name for name, parts in ALL_OF.items() if section in parts)
        lines.append(f"    {group:<{width}} - All fields in this section.")
        lines += [
            f"    {field.name:<{width}} - {field.description}" for field in known if field.section == section
        ]
        lines.append("   ")
    lines += ["  Special Fields", "  --------------"]
    lines.append(f"    {'selected':<{width}} - {fields()['selected'].description}")
    lines += [f"    {name:<{width}} - Show this list." for name in ("help", "?")]
    lines.append("   ")
    return "\n".join(lines) + "\n"
