# SPDX-License-Identifier: Apache-2.0
"""The fields of ``dmsetup info -c``: their headings, widths and values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lamella.cli.dmsetup.backend import FailedError, shown
from lamella.devicemapper.nodes import unmangled
from lamella.errors import NotFoundError
from lamella.lvm.format.names import split_dm_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.cli.dmsetup.backend import Source
    from lamella.cli.dmsetup.options import Options
    from lamella.devicemapper.device import DeviceInfo

Cell = str | int


@dataclass(eq=False)
class Row:
    """One device, and what its fields ask device-mapper for."""

    devices: Source
    info: DeviceInfo
    options: Options

    @cached_property
    def uses(self) -> Sequence[tuple[int, int]]:
        """Numbers of the devices that it uses."""
        return self.devices.deps(self.info.name)

    @cached_property
    def used_by(self) -> list[DeviceInfo]:
        """The devices that use it."""
        own = (self.info.major, self.info.minor)
        everybody = [self.devices.info(name) for name in self.devices.names()]
        return [each for each in everybody if own in self.devices.deps(each.name)]


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


# section | flush right (n) or left (s), least width | name | heading | what it is
_TABLE = """\
name|s16|name|Name|Name of mapped device.
name|s16|mangled_name|MangledName|Mangled name of mapped device.
name|s16|unmangled_name|UnmangledName|Unmangled name of mapped device.
name|s32|uuid|UUID|Unique (optional) identifier for mapped device.
name|s32|mangled_uuid|MangledUUID|Mangled unique (optional) identifier for mapped device.
name|s32|unmangled_uuid|UnmangledUUID|Unmangled unique (optional) identifier for mapped device.
name|n6|read_ahead|RAhead|Read ahead value.
info|s16|blkdevname|BlkDevName|Name of block device.
info|s4|attr|Stat|(L)ive, (I)nactive, (s)uspended, (r)ead-only, read-(w)rite.
info|s6|tables_loaded|Tables|Which of the live and inactive table slots are filled.
info|s9|suspended|Suspended|Whether the device is suspended.
info|s9|readonly|Read-only|Whether the device is read-only or writeable.
info|s5|devno|DevNo|Device major and minor numbers
info|n3|major|Maj|Block device major number.
info|n3|minor|Min|Block device minor number.
info|n4|open|Open|Number of references to open device, if requested.
info|n4|segments|Targ|Number of segments in live table, if present.
info|n6|events|Event|Number of most recent event.
deps|n5|device_count|#Devs|Number of devices used by this one.
deps|s16|devs_used|DevNamesUsed|List of names of mapped devices used by this one.
deps|s16|devnos_used|DevNosUsed|List of device numbers of devices used by this one.
deps|s16|blkdevs_used|BlkDevNamesUsed|List of names of block devices used by this one.
deps|n5|device_ref_count|#Refs|Number of mapped devices referencing this one.
deps|s8|names_using_dev|RefNames|List of names of mapped devices using this one.
deps|s9|devnos_using_dev|RefDevNos|List of device numbers of mapped devices using this one.
split|s6|subsystem|Subsys|Userspace subsystem responsible for this device.
split|s4|vg_name|VG|LVM Volume Group name.
split|s4|lv_name|LV|LVM Logical Volume name.
split|s7|lv_layer|LVLayer|LVM device layer.
"""
_VALUES: dict[str, Callable[[Row], Cell]] = {
    "name": lambda row: shown(row.info.name, row.options),
    "mangled_name": lambda row: row.info.name,
    "unmangled_name": lambda row: unmangled(row.info.name),
    "uuid": lambda row: shown(row.info.uuid, row.options),
    "mangled_uuid": lambda row: row.info.uuid,
    "unmangled_uuid": lambda row: unmangled(row.info.uuid),
    "read_ahead": _read_ahead,
    "blkdevname": lambda row: _block_name(row, (row.info.major, row.info.minor)),
    "attr": _attributes,
    "tables_loaded": _tables,
    "suspended": lambda row: "Suspended" if row.info.suspended else "Active",
    "readonly": lambda row: "Read-only" if row.info.read_only else "Writeable",
    "devno": lambda row: row.info.number,
    "major": lambda row: row.info.major,
    "minor": lambda row: row.info.minor,
    "open": lambda row: row.info.open_count,
    "segments": lambda row: row.info.target_count,
    "events": lambda row: row.info.event_nr,
    "device_count": lambda row: len(row.uses),
    "devs_used": _names_used,
    "devnos_used": lambda row: ",".join(f"{major}:{minor}" for major, minor in row.uses),
    "blkdevs_used": lambda row: ",".join(_block_name(row, number) for number in row.uses),
    "device_ref_count": lambda row: len(row.used_by),
    "names_using_dev": lambda row: ",".join(shown(each.name, row.options) for each in row.used_by),
    "devnos_using_dev": lambda row: ",".join(each.number for each in row.used_by),
    "subsystem": _subsystem,
    "vg_name": _part(0),
    "lv_name": _part(1),
    "lv_layer": _part(2),
}


def _fields() -> dict[str, list[Field]]:
    """The fields of each section, in dmsetup's order."""
    found: dict[str, list[Field]] = {}
    for line in _TABLE.splitlines():
        section, layout, name, heading, text = line.split("|")
        field = Field(name, heading, int(layout[1:]), layout[0] == "n", _VALUES[name], text)
        found.setdefault(section, []).append(field)
    return found


_BY_SECTION = _fields()
_GROUPS = {
    "Mapped Device Name": ("name_all", _BY_SECTION["name"]),
    "Mapped Device Information": ("info_all", _BY_SECTION["info"]),
    "Mapped Device Relationship Information": ("deps_all", _BY_SECTION["deps"]),
    "Mapped Device Name Components": ("splitname_all", _BY_SECTION["split"]),
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
