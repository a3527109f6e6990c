# SPDX-License-Identifier: Apache-2.0
"""What a logical volume is: its layout, its role, and its ten attribute letters.

The letters are those of lvs(8); the order of the questions is LVM2's (lib/metadata/lv.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.lvm.format.segments import VIRTUAL_TYPES
from lamella.lvm.report.vg_values import POLICY_LETTERS

if TYPE_CHECKING:
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.format.segments import ThinPoolSegment
    from lamella.lvm.report.view import GroupView, KernelState

CACHE_VOLUME = "CACHE_VOL"
"""The flag of a volume that is both data and metadata of a cache."""
POOL_KINDS = ("thin-pool", "cache-pool", "vdo-pool")


def part_kind(view: GroupView, lv: LogicalVolume) -> tuple[str, str]:
    """(kind of the volume that *lv* is a part of, role in it), or ("", "")."""
    user = view.role_of(lv)
    if user is not None:
        return user[1].kind, user[2]
    return "", ""


def is_virtual(lv: LogicalVolume) -> bool:
    """Whether a part of the volume lies on no disk, and reads as zeros or fails."""
    return any(segment.kind in VIRTUAL_TYPES for segment in lv.segments)


def is_spare(lv: LogicalVolume) -> bool:
    """The spare for repairing a pool's metadata."""
    return lv.name.endswith("_pmspare") and not lv.visible


def is_cache_origin(view: GroupView, lv: LogicalVolume) -> bool:
    return any(
        role == "origin" and segment.kind in ("cache", "writecache")
        for _user, segment, role in view.users.get(lv.name, ())
    )


def layout(view: GroupView, lv: LogicalVolume) -> list[str]:
    """Words such as ``thin,sparse``, ``raid,raid5,raid5_ls`` or ``linear``."""
    kinds = list(
        dict.fromkeys("striped" if s.kind == "striped" and len(s.mapped) > 1 else s.kind for s in lv.segments)
    )
    kinds = ["linear" if kind == "striped" and lv.kind == "linear" else kind for kind in kinds]
    if virtual := set(kinds) & set(VIRTUAL_TYPES):  # LVM2 has no word for these
        return [kind for kind in kinds if kind not in virtual] or ["unknown"]
    kind = lv.kind
    if kind == "thin-pool":
        return ["thin", "pool"]
    if kind == "thin":
        return ["thin", "sparse"]
    if kind == "cache-pool":
        return ["cache", "pool"]
    if kind == "vdo-pool":
        return ["vdo", "pool"]
    if kind == "vdo":
        return ["vdo", "sparse"]
    if kind.startswith("raid"):
        words = ["raid", _raid_level(kind)]
        if kind in ("raid5", "raid6"):
            words.append("raid5_ls" if kind == "raid5" else "raid6_zr")
        elif kind != words[1]:
            words.append(kind)
        return words
    if kind in ("mirror", "cache", "writecache"):
        return [kind]
    return kinds or ["none"]


def _raid_level(kind: str) -> str:
    return kind.partition("_")[0]


def roles(view: GroupView, lv: LogicalVolume) -> list[str]:
    """Words such as ``public,origin,thinorigin`` or ``private,thin,pool,data``."""
    kind = lv.kind
    in_snapshot = lv.name in view.snapshot_stores or lv.name in view.snapshot_origins
    merging = lv.thin is not None and lv.thin.merge
    hidden = not (view.visible(lv) or in_snapshot or merging) or kind in POOL_KINDS
    words = ["private" if hidden else "public"]
    user_kind, role = part_kind(view, lv)
    if is_spare(lv):
        words += ["pool", "spare"]
    elif user_kind in POOL_KINDS:
        words += [user_kind.partition("-")[0], "pool", "data" if role in ("pool", "data") else "metadata"]
    elif user_kind.startswith("raid"):
        words += ["raid", "metadata" if role == "metadata_area" else "image"]
    elif user_kind == "mirror":
        words += ["mirror", "log" if role == "mirror_log" else "image"]
    elif is_cache_origin(view, lv):
        words += ["cache", "origin", "cacheorigin"]
    if lv.name in view.snapshot_origins:
        words += ["origin", "thickorigin"]
        if len(view.snapshot_origins[lv.name]) > 1:
            words.append("multithickorigin")
    if lv.name in view.external_origins:
        words += ["origin", "extthinorigin"]
        if len(view.children.get(lv.name, ())) > 1:
            words.append("multiextthinorigin")
    if lv.name in view.thin_origins:
        words += ["origin", "thinorigin"]
        thin_children = [child for child in view.children[lv.name] if child.thin is not None]
        if len(thin_children) > 1:
            words.append("multithinorigin")
    if lv.name in view.snapshot_stores:
        words += ["snapshot", "thicksnapshot"]
    elif lv.thin is not None and (lv.thin.origin or lv.thin.external_origin):
        words += ["snapshot", "thinsnapshot"]
    return words


def attributes(view: GroupView, lv: LogicalVolume) -> str:
    """The ten letters of ``lv_attr``."""
    if lv.name not in view.related and len(lv.segments) == 1 and lv.segments[0].type == "striped":
        return _plain_attributes(view, lv)
    state = view.kernel(lv)
    offline = not view.sources.activation
    policy = POLICY_LETTERS.get(lv.allocation_policy or "inherit", "-")
    if "LOCKED" in lv.status:
        policy = policy.upper()
    if offline:
        active = opened = "X"
    elif state is None:
        active = opened = "-"
    else:
        active = _state_letter(view, lv, state)
        opened = "o" if state.open else "-"
    writable = "-" if "PVMOVE" in lv.status else "w" if lv.writable else "r"
    if state is not None and state.read_only and lv.writable:
        writable = "R"
    return (
        _volume_letter(view, lv)
        + writable
        + policy
        + ("m" if "FIXED_MINOR" in lv.status else "-")
        + active
        + opened
        + _target_letter(view, lv)
        + ("z" if _zeroes(view, lv) else "-")
        + _health_letter(view, lv)
        + ("k" if "ACTIVATION_SKIP" in lv.flags else "-")
    )


def _state_letter(view: GroupView, lv: LogicalVolume, state: KernelState) -> str:
    target = view.target(lv) if lv.thin_pool is not None else None
    if target is not None and target.needs_check:
        return "C" if state.suspended else "c"
    if state.suspended:
        return "s"
    return "a" if state.live_table else "i" if state.inactive_table else "d"


def _plain_attributes(view: GroupView, lv: LogicalVolume) -> str:
    """For a linear or striped volume that nothing is built on, and that is a part of nothing."""
    known = view.plain_letters
    key = (*lv.status, "|", *lv.flags, "|", lv.allocation_policy)
    state = view.kernel(lv)
    if state is None and lv.visible and key in known:
        return known[key]
    letter = (
        "p" if "PVMOVE" in lv.status else "e" if is_spare(lv) else "c" if "CONVERTING" in lv.status else "-"
    )
    policy = POLICY_LETTERS.get(lv.allocation_policy or "inherit", "-")
    writable = "w" if lv.writable else "r"
    if state is not None and state.read_only and lv.writable:
        writable = "R"
    if not view.sources.activation:
        active = "XX"
    elif state is None:
        active = "--"
    else:
        active = _state_letter(view, lv, state) + ("o" if state.open else "-")
    found = (
        letter
        + writable
        + (policy.upper() if "LOCKED" in lv.status else policy)
        + ("m" if "FIXED_MINOR" in lv.status else "-")
        + active
        + "--"
        + _health_letter(view, lv)
        + ("k" if "ACTIVATION_SKIP" in lv.flags else "-")
    )
    if state is None and lv.visible and not view.missing:
        known[key] = found
    return found


def _volume_letter(view: GroupView, lv: LogicalVolume) -> str:
    kind = lv.kind
    user_kind, role = part_kind(view, lv)
    synced = "NOTSYNCED" not in lv.status
    letter = "-"
    if "PVMOVE" in lv.status:
        letter = "p"
    elif kind == "thin":
        merging = any(child.thin is not None and child.thin.merge for child in view.children.get(lv.name, ()))
        letter = "O" if merging else "S" if lv.thin is not None and lv.thin.merge else "V"
    elif kind == "thin-pool":
        letter = "t"
    elif user_kind == "thin-pool" and role == "pool":
        letter = "T"
    elif (
        kind in ("cache", "cache-pool", "writecache")
        or (user_kind == "cache-pool" and role == "data")
        or CACHE_VOLUME in lv.flags
    ):
        letter = "C"
    elif role in ("metadata", "metadata_area", "meta_dev") or is_spare(lv):
        letter = "e"
    elif kind == "integrity":
        letter = "g"
    elif user_kind.startswith("raid") or user_kind == "mirror":
        letter = "l" if role == "mirror_log" else "i" if view.kernel(lv) is not None else "I"
    elif kind.startswith("raid"):
        letter = "r" if synced else "R"
    elif kind == "mirror":
        letter = "m" if synced else "M"
    elif kind == "vdo":
        letter = "v"
    elif kind == "vdo-pool":
        letter = "d"
    elif user_kind == "vdo-pool":
        letter = "D"
    elif lv.name in view.snapshot_origins:
        letter = "O" if _merging_store(view, lv.name) else "o"
    elif lv.name in view.external_origins or is_cache_origin(view, lv):
        letter = "o"
    elif lv.name in view.snapshot_stores:
        letter = "S" if "merging_store" in view.snapshot_stores[lv.name][1].extra else "s"
    elif "CONVERTING" in lv.status:
        letter = "c"
    elif is_virtual(lv):
        letter = "v"
    return letter


def _merging_store(view: GroupView, origin: str) -> bool:
    return any(
        "merging_store" in view.snapshot_stores[store][1].extra for store in view.snapshot_origins[origin]
    )


def _target_letter(view: GroupView, lv: LogicalVolume) -> str:
    kind = lv.kind
    user_kind, _role = part_kind(view, lv)
    if kind in ("thin", "thin-pool"):
        return "t"
    cached = kind in ("cache", "cache-pool", "writecache") or CACHE_VOLUME in lv.flags
    if cached or is_cache_origin(view, lv):
        return "C"
    if kind.startswith("raid") or user_kind.startswith("raid"):
        return "r"
    if kind == "mirror" or user_kind == "mirror":
        return "m"
    if lv.name in view.snapshot_origins or lv.name in view.snapshot_stores:
        return "s"
    return "v" if kind == "vdo" or is_virtual(lv) else "-"


def _zeroes(view: GroupView, lv: LogicalVolume) -> bool:
    pool = pool_of(view, lv)
    return pool is not None and pool.zero


def pool_of(view: GroupView, lv: LogicalVolume) -> ThinPoolSegment | None:
    """The segment of the pool that *lv* is, or that it is a thin volume of."""
    if lv.thin_pool is not None:
        return lv.thin_pool
    if lv.thin is not None and lv.thin.pool in view.group.lvs:
        return view.group.lvs[lv.thin.pool].thin_pool
    return None


def health(view: GroupView, lv: LogicalVolume) -> str:
    """``partial``, or ``unknown`` for a RAID's volumes where device-mapper is not asked."""
    if lv.name in view.partial_lvs:
        return "partial"
    kind, user_kind = lv.kind, part_kind(view, lv)[0]
    if not view.sources.activation and (kind.startswith("raid") or user_kind.startswith("raid")):
        return "unknown"
    target = view.target(lv) if lv.thin is not None or lv.thin_pool is not None else None
    return target.health if target is not None else ""


def _health_letter(view: GroupView, lv: LogicalVolume) -> str:
    return _HEALTH[health(view, lv)]


_HEALTH = {
    "": "-",
    "partial": "p",
    "unknown": "X",
    "failed": "F",
    "out_of_data": "D",
    "metadata_read_only": "M",
}
