# SPDX-License-Identifier: Apache-2.0
"""Whether a set-up's options agree with the pool that is there, or that an interrupted set-up has begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.driver.direct_lvm.group import pool_of
from lamella.errors import ExistsError, UsageError
from lamella.lvm.format.names import split_dm_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.driver.direct_lvm.record import Record
    from lamella.driver.options import Options
    from lamella.lvm.disks.scan import FoundGroup

MAPPER = "/dev/mapper/"


def named_pool(text: str) -> tuple[str, str]:
    """Group and pool of ``VG/POOL``, or of a device-mapper name, in which hyphens are doubled.

    Raises :class:`UsageError` for anything else.
    """
    name = text.removeprefix(MAPPER).removeprefix("/dev/")
    group, slash, pool = name.partition("/")
    if not slash:
        group, pool, layer = split_dm_name(name)
        pool = "" if layer else pool
    if not group or not pool:
        raise UsageError(
            f"dm.thinpooldev={text} is not an LVM thin pool", hint="write it as VG/POOL or VG-POOL"
        )
    return group, pool


def check_chunk_size(found: FoundGroup, pool: str, options: Options) -> None:
    """Raise :class:`ExistsError` where the options give another chunk size than the pool has."""
    size = pool_of(found, pool)[1].chunk_size
    if "dm.blocksize" in options.given and size != options.chunk_size:
        raise ExistsError(
            f"the pool {found.group.name}/{pool} has a block size of {size} bytes, not {options.chunk_size}",
            hint="leave dm.blocksize out",
        )


def check_unchanged(record: Record, before: Options, new: Options) -> None:
    """Raise :class:`ExistsError` where *new* options ask for what cannot be changed of the store's pool."""
    from lamella.driver.direct_lvm.preflight import absolute

    for key, name, shown in (
        ("dm.directlvm_device", "devices", "disks"),
        ("dm.thinp_percent", "data_percent", "share of data"),
        ("dm.thinp_metapercent", "metadata_percent", "share of metadata"),
        ("dm.thinp_autoextend_threshold", "autoextend_threshold", "autoextend threshold"),
        ("dm.thinp_autoextend_percent", "autoextend_percent", "autoextend percent"),
        ("lamella.vg", "group", "volume group"),
        ("lamella.pool", "pool", "pool"),
        ("lamella.zero", "zero", "zeroing"),
        ("dm.thinpooldev", "thin_pool_device", "pool"),
    ):
        there, wanted = getattr(before, name), getattr(new, name)
        if name == "devices":
            there, wanted = list(record.disks), [absolute(path) for path in wanted]
            # Disks that were added since need not be named.
            there, wanted = ((), ()) if set(wanted) <= set(there) else (there, wanted)
        if name == "thin_pool_device" and wanted:
            there, wanted = (record.group, record.pool), named_pool(wanted)
            if record.made:
                there = ("", "")
        if (key in new.given or name == "devices") and there != wanted:
            raise ExistsError(
                f"direct-lvm is set up with another {shown}: {_shown(there)}, not {_shown(wanted)}",
                hint="leave it out; disks are added with vgextend, and the pool is grown with lvextend; "
                f"the profile {record.group}-{record.pool} may be edited",
            )


def check_same_set_up(record: Record, options: Options, paths: Sequence[str]) -> None:
    """Raise :class:`ExistsError` unless the interrupted set-up was for the same disks and pool."""
    own = [f"{record.group}/{record.pool}"]
    for there, wanted in (
        (list(record.disks) if record.made else own, list(paths)),
        (own, [f"{options.group}/{options.pool}"]),
    ):
        if there != wanted:
            raise ExistsError(
                f"a set-up that was not finished uses {', '.join(there)}, not {', '.join(wanted)}",
                hint="run it with the same disks, or undo it first: lamella teardown",
            )


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(each) for each in value) or "none"
    return str(value)
