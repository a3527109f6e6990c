# SPDX-License-Identifier: Apache-2.0
"""What the value of an option may be, by the word that the usage has for it."""

from __future__ import annotations

from lamella.errors import UsageError
from lamella.lvm.format.model import POLICIES
from lamella.lvm.format.names import is_valid_tag
from lamella.lvm.operations.sizes import parse_extents, parse_number, parse_size

SEGMENT_TYPES = (
    "linear", "striped", "snapshot", "mirror", "thin", "thin-pool", "cache", "cache-pool", "vdo",
    "vdo-pool", "writecache", "error", "zero", "raid0", "raid0_meta", "raid1", "raid10", "raid10_near",
    "raid4", "raid5", "raid5_n", "raid5_la", "raid5_ra", "raid5_ls", "raid5_rs", "raid6", "raid6_n_6",
    "raid6_zr", "raid6_nr", "raid6_nc", "raid6_ls_6", "raid6_rs_6", "raid6_la_6", "raid6_ra_6",
)  # fmt: skip
ACTIVATION = ("y", "n", "ay", "ey", "en", "ly", "ln", "ay", "sy", "s")

UNSIGNED = frozenset((
    "virtualsize", "physicalextentsize", "metadatasize", "bootloaderareasize", "setphysicalvolumesize",
))  # fmt: skip
"""Sizes that LVM2 takes without a sign; of others it ignores a plus."""


def check_value(name: str, kind: str, value: str) -> None:
    """Raise :class:`UsageError` unless *value* suits; its message is what LVM2 says first, or ""."""
    signs = "+-"
    if name in UNSIGNED and value[:1] in ("+", "-"):
        raise UsageError("Size may not be relative/signed.")
    if "Size[" in kind:
        signs = "+" if not kind.startswith("[") else "".join(sign for sign in "+-" if sign in kind[:6])
        unit = kind[kind.index("Size[") + 5]
        parse_size(value, unit=unit, signs=signs)
    elif kind.endswith("Number[PERCENT]"):
        signs = "+" if not kind.startswith("[") else "".join(sign for sign in "+-" if sign in kind[:6])
        parse_extents(value, signs=signs)
    elif kind == "[+|-]Number":
        parse_number(value, signs="+-")
    elif kind == "Number":
        parse_number(value, signs="+")
    elif kind == "SegType":
        if value not in SEGMENT_TYPES:
            raise UsageError(f"WARNING: Unrecognised segment type {value}")
    elif kind == "Tag":
        if not is_valid_tag(value.removeprefix("@")):
            raise UsageError("")
    elif name == "alloc":
        if value not in POLICIES:
            raise UsageError(f"Unrecognised allocation policy {value}")
    elif kind == "y|n|ay":
        if value not in ACTIVATION:
            raise UsageError("")
    elif kind == "auto|none|Number":
        _read_ahead(value)
    elif kind == "all|unmanaged|Number":
        if value not in ("all", "unmanaged"):
            parse_number(value, signs="+")
    elif name == "activationmode" or (name == "locktype" and value in ("clvm", "idm")):
        pass  # the commands check it
    elif name not in ("units", "writemostly") and "|" in kind and kind == kind.lower():
        if value not in kind.split("|") and (name, value) != ("dump", "metadata_area"):
            raise UsageError(f'Thin pool discards type "{value}" is unknown.' if name == "discards" else "")
    elif kind == "lvm2" and value not in ("lvm2", "2"):
        raise UsageError("")


def _read_ahead(value: str) -> None:
    if value in ("auto", "none"):
        return
    if value[:1] == "-":
        raise UsageError("")
    parse_size(value, unit="s")
