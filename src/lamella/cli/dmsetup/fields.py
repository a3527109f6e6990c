# SPDX-License-Identifier: Apache-2.0
"""The fields of ``dmsetup info -c``: their headings, widths and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.cli.dmsetup.backend import FailedError, shown
from lamella.devicemapper.nodes import unmangled
from lamella.errors import NotFoundError
from lamella.lvm.format.names import split_dm_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.cli.dmsetup.rows import Row

Cell = str | int


@dataclass(frozen=True, slots=True)
class Field:
    """One field; *right*: it is set flush right, as numbers are."""

    name: str
    heading: str
    width: int
    right: bool
    value: Callable[[Row], Cell]
    help: str


def _block_name(row: Row, number: tuple[int, int]) -> str:
    found = row.devices.block_name(*number)
    if found is None:
        raise FailedError(f"Could not resolve block device name for {number[0]}:{number[1]}.")
    return found


def _attributes(row: Row) -> str:
    info = row.info
    return (
        ("L" if info.live_table else "-")
        + ("I" if info.inactive_table else "-")
        + ("s" if info.suspended else "-")
        + ("r" if info.read_only else "w")
    )


def _tables(row: Row) -> str:
    return (("None", "Live"), ("Inactive", "Both"))[row.info.inactive_table][row.info.live_table]


def _names_used(row: Row) -> str:
    names = []
    for number in row.uses:
        try:
            names.append(shown(row.devices.info(number=number).name, row.options))
        except NotFoundError:
            continue  # a disk
    return ",".join(names)


def _subsystem(row: Row) -> str:
    head, hyphen, _ = row.info.uuid.partition("-")
    return head if hyphen else ""


def _part(at: int) -> Callable[[Row], str]:
    return lambda row: split_dm_name(unmangled(row.info.name))[at] if _subsystem(row) == "LVM" else ""


def _read_ahead(row: Row) -> int:
    return row.devices.read_ahead(row.info) or 0


_NAME = [
    Field(
        "name", "Name", 16, False, lambda row: shown(row.info.name, row.options),
        "Name of mapped device.",
    ),
    Field(
        "mangled_name", "MangledName", 16, False, lambda row: row.info.name,
        "Mangled name of mapped device.",
    ),
    Field(
        "unmangled_name", "UnmangledName", 16, False, lambda row: unmangled(row.info.name),
        "Unmangled name of mapped device.",
    ),
    Field(
        "uuid", "UUID", 32, False, lambda row: shown(row.info.uuid, row.options),
        "Unique (optional) identifier for mapped device.",
    ),
    Field(
        "mangled_uuid", "MangledUUID", 32, False, lambda row: row.info.uuid,
        "Mangled unique (optional) identifier for mapped device.",
    ),
    Field(
        "unmangled_uuid", "UnmangledUUID", 32, False, lambda row: unmangled(row.info.uuid),
        "Unmangled unique (optional) identifier for mapped device.",
    ),
    Field("read_ahead", "RAhead", 6, True, _read_ahead, "Read ahead value."),
]  # fmt: skip
_INFO = [
    Field(
        "blkdevname", "BlkDevName", 16, False,
        lambda row: _block_name(row, (row.info.major, row.info.minor)), "Name of block device.",
    ),
    Field(
        "attr", "Stat", 4, False, _attributes,
        "(L)ive, (I)nactive, (s)uspended, (r)ead-only, read-(w)rite.",
    ),
    Field(
        "tables_loaded", "Tables", 6, False, _tables,
        "Which of the live and inactive table slots are filled.",
    ),
    Field(
        "suspended", "Suspended", 9, False,
        lambda row: "Suspended" if row.info.suspended else "Active", "Whether the device is suspended.",
    ),
    Field(
        "readonly", "Read-only", 9, False,
        lambda row: "Read-only" if row.info.read_only else "Writeable",
        "Whether the device is read-only or writeable.",
    ),
    Field("devno", "DevNo", 5, False, lambda row: row.info.number, "Device major and minor numbers"),
    Field("major", "Maj", 3, True, lambda row: row.info.major, "Block device major number."),
    Field("minor", "Min", 3, True, lambda row: row.info.minor, "Block device minor number."),
    Field(
        "open", "Open", 4, True, lambda row: row.info.open_count,
        "Number of references to open device, if requested.",
    ),
    Field(
        "segments", "Targ", 4, True, lambda row: row.info.target_count,
        "Number of segments in live table, if present.",
    ),
    Field("events", "Event", 6, True, lambda row: row.info.event_nr, "Number of most recent event."),
]  # fmt: skip
_DEPS = [
    Field("device_count", "#Devs", 5, True, lambda row: len(row.uses), "Number of devices used by this one."),
    Field(
        "devs_used", "DevNamesUsed", 16, False, _names_used,
        "List of names of mapped devices used by this one.",
    ),
    Field(
        "devnos_used", "DevNosUsed", 16, False,
        lambda row: ",".join(f"{major}:{minor}" for major, minor in row.uses),
        "List of device numbers of devices used by this one.",
    ),
    Field(
        "blkdevs_used", "BlkDevNamesUsed", 16, False,
        lambda row: ",".join(_block_name(row, number) for number in row.uses),
        "List of names of block devices used by this one.",
    ),
    Field(
        "device_ref_count", "#Refs", 5, True, lambda row: len(row.used_by),
        "Number of mapped devices referencing this one.",
    ),
    Field(
        "names_using_dev", "RefNames", 8, False,
        lambda row: ",".join(shown(each.name, row.options) for each in row.used_by),
        "List of names of mapped devices using this one.",
    ),
    Field(
        "devnos_using_dev", "RefDevNos", 9, False,
        lambda row: ",".join(each.number for each in row.used_by),
        "List of device numbers of mapped devices using this one.",
    ),
]  # fmt: skip
_SPLIT = [
    Field("subsystem", "Subsys", 6, False, _subsystem, "Userspace subsystem responsible for this device."),
    Field("vg_name", "VG", 4, False, _part(0), "LVM Volume Group name."),
    Field("lv_name", "LV", 4, False, _part(1), "LVM Logical Volume name."),
    Field("lv_layer", "LVLayer", 7, False, _part(2), "LVM device layer."),
]

_GROUPS = {
    "Mapped Device Name": ("name_all", _NAME),
    "Mapped Device Information": ("info_all", _INFO),
    "Mapped Device Relationship Information": ("deps_all", _DEPS),
    "Mapped Device Name Components": ("splitname_all", _SPLIT),
}
FIELDS = {field.name: field for _, fields in _GROUPS.values() for field in fields}
SECTIONS = {name: [field.name for field in fields] for name, fields in _GROUPS.values()}
SECTIONS["deps_all"] = ["device_count", "devnos_used", "blkdevs_used"]
"""What it stands for in dmsetup, where the others need another kind of report."""
SECTIONS["all"] = list(FIELDS)


def help_text() -> str:
    """What ``-o help`` prints, and a wrong field."""
    lines = []
    for title, (everything, fields) in _GROUPS.items():
        title += " Fields"
        lines += [title, "-" * len(title), f"  {everything:<21} - All fields in this section."]
        lines += [f"  {field.name:<21} - {field.help}" for field in fields]
        lines.append(" ")
    return "".join(f"{line}\n" for line in lines)
