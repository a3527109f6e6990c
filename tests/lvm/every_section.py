# SPDX-License-Identifier: Apache-2.0
"""The text of a group that has every kind of section which LVM2 2.03 writes and in which a volume is named.

LVM2 makes many of them only on a kernel that has their targets; it reads and checks their text without.
Authority for the keys: each segment type's own text_export in LVM2's lib.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


SHOWN, HIDDEN = '"READ", "WRITE", "VISIBLE"', '"READ", "WRITE"'


@dataclass
class Text:
    """Collects volumes; ``at`` is the first extent of the disk that no volume has yet."""

    elsewhere: str = ""
    """A linear volume that lies on the second disk."""
    at: int = 0
    lvs: list[str] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def uuid(self) -> str:
        return f"SeCtIo-nnnn-nnnn-nnnn-nnnn-nnnn-n{next(self.numbers):05d}"

    def lv(
        self, name: str, body: str, *, status: str = '"READ", "WRITE", "VISIBLE"', flags: str = ""
    ) -> None:
        """A volume with one segment; *body* are the segment's keys."""
        self.lvs.append(
            f'{name} {{\nid = "{self.uuid()}"\nstatus = [{status}]\nflags = [{flags}]\n'
            f'creation_time = 1700000000\ncreation_host = "host"\nsegment_count = 1\n'
            f"segment1 {{\nstart_extent = 0\n{body}\n}}\n}}"
        )

    def linear(self, name: str, extents: int = 1, *, status: str = "", flags: str = "") -> None:
        disk = "pv1" if name == self.elsewhere else "pv0"
        self.lv(
            name,
            f'extent_count = {extents}\ntype = "striped"\nstripe_count = 1\nstripes = ["{disk}", {self.at}]',
            status=status or SHOWN,
            flags=flags,
        )
        self.at += extents

    def part(self, name: str, extents: int = 1, flags: str = "") -> None:
        """A hidden part of another volume."""
        self.linear(name, extents, status=HIDDEN, flags=flags)


def _thin(text: Text) -> None:
    text.part("tp_tmeta", 16)
    text.part("tp_tdata", 16)
    text.part("lvol0_pmspare", 16)
    text.lv(
        "tp",
        'extent_count = 16\ntype = "thin-pool"\nmetadata = "tp_tmeta"\npool = "tp_tdata"\n'
        'transaction_id = 8\nchunk_size = 128\ndiscards = "passdown"\nzero_new_blocks = 1\n'
        'message1 {\ncreate = "tnew"\n}\nmessage2 {\ndelete = 20\n}',
    )
    text.linear("ext", status='"READ", "VISIBLE"')
    common = 'extent_count = 4\ntype = "thin"\nthin_pool = "tp"\ntransaction_id = '
    text.lv("t1", common + "0\ndevice_id = 1")
    text.lv("t2", common + '1\ndevice_id = 2\norigin = "t1"')
    text.lv("tmerge", common + '2\ndevice_id = 3\norigin = "t1"\nmerge = "t1"')
    text.lv(
        "text",
        'extent_count = 1\ntype = "thin"\nthin_pool = "tp"\ntransaction_id = 3\ndevice_id = 4\n'
        'external_origin = "ext"',
    )
    text.lv("tlive", common + "4\ndevice_id = 5")
    text.lv("tnew", common + "7\ndevice_id = 6")


def _snapshots(text: Text) -> None:
    record = 'extent_count = 1\ntype = "snapshot"\nchunk_size = 8\n'
    text.linear("sorg")
    text.linear("scow")
    text.lv("snapshot0", record + 'origin = "sorg"\ncow_store = "scow"', status=HIDDEN)
    text.linear("morg")
    text.linear("mcow")
    text.lv("snapshot1", record + 'origin = "morg"\nmerging_store = "mcow"', status=HIDDEN)
    text.lv("virt_vorigin", 'extent_count = 64\ntype = "zero"', status='"READ", "WRITE"')
    text.linear("virt")
    text.lv(
        "snapshot2",
        'extent_count = 64\ntype = "snapshot"\nchunk_size = 8\norigin = "virt_vorigin"\ncow_store = "virt"',
        status=HIDDEN,
    )


def _raids(text: Text) -> None:
    for number in (0, 1):
        text.part(f"mir_mimage_{number}")
    text.part("mir_mlog")
    text.lv(
        "mir",
        'extent_count = 1\ntype = "mirror"\nmirror_count = 2\nmirror_log = "mir_mlog"\nregion_size = 256\n'
        'mirrors = ["mir_mimage_0", 0, "mir_mimage_1", 0]',
    )
    for number in (0, 1):
        text.part(f"r1_rmeta_{number}")
        text.part(f"r1_rimage_{number}_iorig")
        text.part(f"r1_rimage_{number}_imeta")
        text.lv(
            f"r1_rimage_{number}",
            f'extent_count = 1\ntype = "integrity"\norigin = "r1_rimage_{number}_iorig"\ndata_sectors = 256\n'
            f'mode = "J"\ntag_size = 4\nblock_size = 512\ninternal_hash = "crc32c"\n'
            f'meta_dev = "r1_rimage_{number}_imeta"\nrecalculate = 1',
            status=HIDDEN,
        )
    text.lv(
        "r1",
        'extent_count = 1\ntype = "raid1"\ndevice_count = 2\nregion_size = 256\n'
        'raids = ["r1_rmeta_0", "r1_rimage_0", "r1_rmeta_1", "r1_rimage_1"]',
    )
    for number in (0, 1):
        text.part(f"r0_rimage_{number}")
    text.lv(
        "r0",
        'extent_count = 2\ntype = "raid0"\nstripe_count = 2\nstripe_size = 128\n'
        'raid0_lvs = ["r0_rimage_0", "r0_rimage_1"]',
    )


def _caches(text: Text) -> None:
    pool = 'type = "cache-pool"\ndata = "%s_cdata"\nmetadata = "%s_cmeta"\nmetadata_format = 2\n'
    modes = 'chunk_size = 128\ncache_mode = "writethrough"\npolicy = "smq"\n'
    text.part("free_cdata", 4)
    text.part("free_cmeta", 16)
    text.lv(
        "free", "extent_count = 4\n" + pool % ("free", "free") + modes, status='"READ", "WRITE", "VISIBLE"'
    )
    text.part("fast_cpool_cdata", 4)
    text.part("fast_cpool_cmeta", 16)
    text.lv("fast_cpool", "extent_count = 4\n" + pool % ("fast_cpool", "fast_cpool") + modes, status=HIDDEN)
    text.part("slow_corig", 4)
    text.lv("slow", 'extent_count = 4\ntype = "cache"\ncache_pool = "fast_cpool"\norigin = "slow_corig"')
    text.part("quick_cvol", 20, '"CACHE_VOL"')
    text.part("lazy_corig", 4)
    text.lv(
        "lazy",
        'extent_count = 4\ntype = "cache+CACHE_USES_CACHEVOL"\ncache_pool = "quick_cvol"\n'
        'origin = "lazy_corig"\n'
        'metadata_format = 2\nchunk_size = 128\ncache_mode = "writethrough"\npolicy = "smq"\n'
        "metadata_start = 0\nmetadata_len = 4096\ndata_start = 4096\ndata_len = 1024\n"
        'metadata_id = "MeTaDa-nnnn-nnnn-nnnn-nnnn-nnnn-n00001"\n'
        'data_id = "DaTaId-nnnn-nnnn-nnnn-nnnn-nnnn-n00001"',
    )
    text.part("wfast_cvol", 4, '"CACHE_VOL"')
    text.part("wslow_wcorig", 4)
    text.lv(
        "wslow",
        'extent_count = 4\ntype = "writecache"\nwritecache = "wfast_cvol"\norigin = "wslow_wcorig"\n'
        "writecache_block_size = 4096",
    )


def _vdo(text: Text) -> None:
    text.part("vp_vdata", 16)
    text.lv(
        "vp",
        'extent_count = 16\ntype = "vdo-pool"\ndata = "vp_vdata"\nheader_size = 1024\nvirtual_extents = 17\n'
        "use_compression = 1\nuse_deduplication = 1\nuse_metadata_hints = 1\nminimum_io_size = 4096\n"
        "block_map_cache_size_mb = 128\nblock_map_era_length = 16380\nuse_sparse_index = 0\n"
        "index_memory_size_mb = 256\nslab_size_mb = 128\nack_threads = 1\nbio_threads = 4\n"
        "bio_rotation = 64\ncpu_threads = 2\nhash_zone_threads = 1\nlogical_threads = 1\n"
        'physical_threads = 1\nmax_discard = 1\nwrite_policy = "auto"',
    )
    text.lv("v1", 'extent_count = 1\ntype = "vdo"\nvdo_pool = "vp"\nvdo_offset = 0')


def _others(text: Text) -> None:
    text.linear("plain", 2)
    text.linear("other", 2)
    text.lv(
        "striped",
        f'extent_count = 2\ntype = "striped"\nstripe_count = 2\nstripe_size = 128\n'
        f'stripes = ["pv0", {text.at}, "pv0", {text.at + 1}]',
    )
    text.at += 2
    # A move that LVM2 has begun: the volume is mapped to pvmove0, a mirror of two places.
    text.lv(
        "pvmove0",
        f'extent_count = 1\ntype = "mirror"\nmirror_count = 2\nextents_moved = 0\nregion_size = 256\n'
        f'mirrors = ["pv0", {text.at}, "pv0", {text.at + 1}]',
        status='"READ", "WRITE", "PVMOVE", "LOCKED"',
    )
    text.at += 2
    text.lv(
        "moving",
        'extent_count = 1\ntype = "striped"\nstripe_count = 1\nstripes = ["pvmove0", 0]',
        status='"READ", "WRITE", "VISIBLE", "LOCKED"',
    )
    text.lv("zeros", 'extent_count = 1\ntype = "zero"')
    text.lv("errors", 'extent_count = 1\ntype = "error"')


HISTORY = """historical_logical_volumes {
gone {
id = "HiStOr-nnnn-nnnn-nnnn-nnnn-nnnn-n00001"
creation_time = 1700000000
removal_time = 1700000100
origin = "t1"
}
gone2 {
id = "HiStOr-nnnn-nnnn-nnnn-nnnn-nnnn-n00002"
creation_time = 1700000000
removal_time = 1700000200
origin = "-gone"
descendants = ["tlive"]
}
}
"""


KINDS = (_others, _thin, _snapshots, _raids, _caches, _vdo)
"""Each adds the volumes of one kind."""


def group_text(
    pv_uuids: Sequence[str],
    extents: int,
    *,
    elsewhere: str = "",
    sectors: int = 256,
    kinds: Sequence[Callable[[Text], None]] = KINDS,
) -> str:
    """The text of group ``vg``, on disks with *extents* extents of *sectors* from 1 MiB on.

    *elsewhere* is a volume that lies on the second disk alone; the others are on the first. It has the
    volumes of all *kinds*.
    """
    text = Text(elsewhere)
    disks = "\n".join(
        f'pv{number} {{\nid = "{uuid}"\ndevice = "/dev/none"\nstatus = ["ALLOCATABLE"]\nflags = []\n'
        f"dev_size = {2048 + extents * sectors}\npe_start = 2048\npe_count = {extents}\n}}"
        for number, uuid in enumerate(pv_uuids)
    )
    for add in kinds:
        add(text)
    assert text.at <= extents, text.at
    volumes = "\n".join(text.lvs)
    return f"""contents = "Text Format Volume Group"
version = 1
description = "every section"
creation_host = "host"
creation_time = 1700000000
vg {{
id = "VgVgVg-nnnn-nnnn-nnnn-nnnn-nnnn-n00001"
seqno = 7
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = {sectors}
max_lv = 0
max_pv = 0
metadata_copies = 0
physical_volumes {{
{disks}
}}
logical_volumes {{
{volumes}
}}
{HISTORY}}}
"""
