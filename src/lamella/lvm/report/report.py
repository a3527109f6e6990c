# SPDX-License-Identifier: Apache-2.0
"""Assemble a report: which fields, which rows, in which order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lamella.errors import UsageError
from lamella.lvm.report import values
from lamella.lvm.report.fields import ALL_OF, ALONE, Field, fields, find_field
from lamella.lvm.report.layout import (
    Layout,
    compact,
    json_group,
    json_log,
    json_report,
    json_section,
    text_report,
)
from lamella.lvm.report.units import Units
from lamella.lvm.report.view import Row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.report.selection import Selection
    from lamella.lvm.report.view import DeviceInfo, GroupView

DEFAULT_FIELDS = {
    "lv": "lv_name,vg_name,lv_attr,lv_size,pool_lv,origin,data_percent,metadata_percent,move_pv,mirror_log,"
    "copy_percent,convert_lv",
    "seg": "lv_name,vg_name,lv_attr,stripes,segtype,seg_size",
    "vg": "vg_name,pv_count,lv_count,snap_count,vg_attr,vg_size,vg_free",
    "pv": "pv_name,vg_name,pv_fmt,pv_attr,pv_size,pv_free",
    "pvseg": "pv_name,vg_name,pv_fmt,pv_attr,pv_size,pv_free,pvseg_start,pvseg_size",
    "devtype": "devtype_name,devtype_max_partitions,devtype_description",
    "log": "log_seq_num,log_type,log_context,log_object_type,log_object_name,log_object_id,log_object_group,"
    "log_object_group_id,log_message,log_errno,log_ret_code",
}
FULL_FIELDS = {
    "vg": "vg_all",
    "pv": "pv_all",
    "lv": "lv_all",
    "pvseg": "pvseg_all,pv_uuid,lv_uuid",
    "seg": "seg_all,lv_uuid",
}
"""The fields of ``fullreport``'s parts, in the order of the parts."""
FULL_SORT = {
    "vg": "vg_name",
    "pv": "pv_name",
    "lv": "vg_name,lv_name",
    "pvseg": "pv_uuid,pvseg_start",
    "seg": "lv_uuid,seg_start",
}
VERBOSE_FIELDS = {
    "lv": "lv_name,vg_name,seg_count,lv_attr,lv_size,lv_major,lv_minor,lv_kernel_major,lv_kernel_minor,"
    "pool_lv,origin,data_percent,metadata_percent,move_pv,copy_percent,mirror_log,convert_lv,lv_uuid,lv_profile",
    "seg": "lv_name,vg_name,lv_attr,seg_start,seg_size,stripes,segtype,stripe_size,chunk_size",
    "vg": "vg_name,vg_attr,vg_extent_size,pv_count,lv_count,snap_count,vg_size,vg_free,vg_uuid,vg_profile",
    "pv": "pv_name,vg_name,pv_fmt,pv_attr,pv_size,pv_free,dev_size,pv_uuid",
    "pvseg": "pv_name,vg_name,pv_fmt,pv_attr,pv_size,pv_free,pvseg_start,pvseg_size,lv_name,seg_start_pe,"
    "segtype,seg_pe_ranges",
}
DEFAULT_SORT = {
    "lv": "vg_name,lv_name",
    "seg": "vg_name,lv_name,seg_start",
    "vg": "vg_name",
    "pv": "pv_name",
    "pvseg": "pv_name,pvseg_start",
    "devtype": "devtype_name",
    "log": "log_seq_num",
}
_ALL_HERE = {
    "lv": ("lv", "lvinfo", "lvstatus", "lvinfostatus", "vg"),
    "seg": ("lv", "lvinfo", "lvstatus", "lvinfostatus", "vg", "seg"),
    "vg": ("vg",),
    "pv": ("label", "pv"),
    "pvseg": ("label", "pv", "pvseg"),
    "devtype": ("devtype",),
    "log": ("log",),
}
"""Sections that ``-o all`` stands for."""


@dataclass(slots=True, eq=False, repr=False)
class Request:
    """The options of a report. *kind*: lv, seg, vg, pv, pvseg, devtype or log."""

    kind: str
    options: list[str] = field(default_factory=list)
    """The ``-o`` arguments, in order."""
    sort: str | None = None
    select: str = ""
    units: Units = field(default_factory=Units)
    layout: Layout = field(default_factory=Layout)
    binary: bool = False
    format: str = "basic"
    """basic, json or json_std."""
    verbose: bool = False
    hidden: bool = False
    """``-a``."""
    list_separator: str = ","
    time_format: str = "%Y-%m-%d %H:%M:%S %z"
    buffered: bool = True


class UnknownFieldError(UsageError):
    """A field that does not exist; *option* is where it was named."""

    exit_code = 5

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message, hint="see -o help for all fields")
        self.name = name


class HelpAsked(Exception):
    """``-o help``, ``-O help`` or ``-S help``."""


def expand(text: str, kind: str, *, prefix: str = "") -> list[str]:
    """Full names of the listed fields. Raises :class:`UnknownFieldError` or :class:`HelpAsked`."""
    found: list[str] = []
    for word in text.split(","):
        name = word.strip()
        if not name:
            continue
        if name in ("help", "?"):
            raise HelpAsked
        if name == "all":
            found += [one.name for one in fields().values() if one.section in _ALL_HERE[kind]]
            continue
        full = find_field(name, kind)
        if full is None:
            raise UnknownFieldError(name, f"{prefix}Unrecognised field: {name}")
        if full in ALL_OF:
            found += [one.name for one in fields().values() if one.section in ALL_OF[full]]
        else:
            found.append(full)
    return found


def choose_fields(request: Request) -> tuple[list[str], set[str] | None]:
    """(names of the fields to show, names of those to leave out where empty; an empty set: none).

    The second part is None where it is ``#all``: any empty column goes.
    """
    kind = request.kind
    chosen = (VERBOSE_FIELDS.get(kind, "") if request.verbose else "").split(",")
    if chosen == [""]:
        chosen = DEFAULT_FIELDS[kind].split(",")
    leave_out: set[str] | None = set()
    for option in request.options:
        mark, names = (option[0], option[1:]) if option[:1] in ("+", "-", "#") else ("", option)
        if mark == "#":
            leave_out = None if names == "all" else set(expand(names, kind))
        elif mark == "+":
            chosen += expand(names, kind)
        elif mark == "-":
            gone = set(expand(names, kind))
            chosen = [name for name in chosen if name not in gone]
        else:
            if not names:
                raise UsageError(f"Invalid options string: {names}")
            chosen = expand(names, kind)
    return list(chosen), leave_out


def final_kind(kind: str, names: Iterable[str]) -> str:
    """The kind of rows that a report needs once its fields are known.

    Raises :class:`UsageError` where fields of volumes and of disks cannot meet.
    """
    if kind in ALONE:
        return kind
    sections = {fields()[name].section for name in names}
    of_lv = bool(sections & {"lv", "lvinfo", "lvstatus", "lvinfostatus", "seg"})
    of_pv = bool(sections & {"pv", "label", "pvseg"})
    if kind in ("lv", "seg", "vg") and of_lv and of_pv:
        raise UsageError(f'Can\'t report LV and PV fields at the same time in report type "{kind}".')
    if kind in ("lv", "seg") and of_pv:
        raise UsageError(f'Can\'t report LV and PV fields at the same time in report type "{kind}".')
    if kind in ("pv", "pvseg"):
        return "pvseg" if "pvseg" in sections or of_lv or kind == "pvseg" else "pv"
    if kind == "vg":
        if of_pv:
            return "pvseg" if "pvseg" in sections else "pv"
        return "seg" if "seg" in sections else "lv" if of_lv else "vg"
    return "seg" if "seg" in sections or kind == "seg" else "lv"


def rows_of(
    kind: str, views: Iterable[GroupView], bare: Iterable[DeviceInfo] = (), *, hidden: bool = False
) -> list[Row]:
    """Rows of the given kind; *bare* are devices without a physical volume (``pvs -a``)."""
    found: list[Row] = []
    for view in views:
        if kind == "vg":
            if view.vg is not None:
                found.append(Row(view))
        elif kind in ("lv", "seg"):
            if view.vg is None:
                continue
            lvs = [*(view.reportable_lvs if hidden else view.visible_lvs), *view.removed]
            if view.shown_lvs is not None:
                lvs = view.shown_lvs
            if kind == "lv":
                found += [Row(view, lv) for lv in lvs]
            else:
                found += [Row(view, lv, segment) for lv in lvs for segment in lv.segments]
        else:
            disks = view.vg.pvs if view.vg is not None else view.orphans
            found += disk_rows(kind, view, view.shown_pvs if view.shown_pvs is not None else disks)
    if kind in ("pv", "pvseg"):
        from lamella.lvm.report.view import GroupView

        nothing = GroupView(None)
        found += [Row(nothing, device=device) for device in bare]
    return found


def disk_rows(kind: str, view: GroupView, disks: Iterable[PhysicalVolume]) -> list[Row]:
    """Rows of *kind* "pv" or "pvseg" about these disks of the view."""
    found = []
    for pv in disks:
        device = view.devices.get(pv.uuid)
        if kind == "pv":
            found.append(Row(view, pv=pv, device=device))
        elif view.vg is None:
            found.append(Row(view, pv=pv, device=device, run=(0, 0, None, None, 0)))
        else:
            found += [Row(view, run[2], run[3], pv, device, run) for run in view.runs(pv)]
    return found


Table = list[Any]
"""Lines of cells."""


@dataclass(slots=True, eq=False, repr=False)
class Report:
    """A report ready to be printed."""

    kind: str
    name: str
    """What its section is called in JSON."""
    fields: list[Field]
    table: Table
    values: Table

    def text(self, request: Request) -> str:
        """The report by itself, as basic text or as a JSON document."""
        if request.format == "basic":
            return text_report(self.fields, self.table, request.layout, always=self.name == "log")
        if self.name == "log":
            return json_report(None, self.log(request))
        return json_report([json_group([self.section(request)])])

    def section(self, request: Request) -> str:
        """It as a section of a JSON document."""
        return json_section(self.name, self.fields, self.table, self._lists(request))

    def log(self, request: Request) -> str:
        """It as the command log of a JSON document."""
        return json_log(self.fields, self.table, self._lists(request))

    def _lists(self, request: Request) -> Table | None:
        return self.values if request.format == "json_std" else None


Prepared = tuple[list[str], "set[str] | None", str, "Selection | None"]
"""What :func:`prepare` gives."""


def prepare(request: Request) -> Prepared:
    """Everything that can be wrong with a request, found before anything is read.

    Returns (fields to show, columns to leave out where empty, kind of rows, selection).
    """
    names, leave_out = choose_fields(request)
    sort = request.sort if request.sort is not None else DEFAULT_SORT[request.kind]
    sort_names = [name for name, _down in sort_keys(sort, request.kind)]
    selection = None
    if request.select:
        from lamella.lvm.report.selection import Selection

        selection = Selection.parse(request.select, request.kind)
    needed = [*names, *(selection.fields if selection else ())]
    kind = final_kind(request.kind, [*needed, *(sort_names if request.sort is not None else ())])
    return names, leave_out, kind, selection


def sort_keys(text: str, kind: str) -> list[tuple[str, bool]]:
    """(field, descending) of every sort key in an ``-O`` argument."""
    found = []
    for word in text.split(","):
        key = word.strip()
        if not key:
            continue
        down = key.startswith("-")
        found += [(name, down) for name in expand(key.lstrip("+-"), kind, prefix="dm_report: ")]
    return found


def build(request: Request, views: Iterable[GroupView], bare: Iterable[DeviceInfo] = ()) -> Report:
    """The report over groups (and devices without one). Raises :class:`UsageError` for a bad request."""
    prepared = prepare(request)
    return _assemble(request, prepared, rows_of(prepared[2], views, bare, hidden=request.hidden))


def build_rows(request: Request, rows: list[Row]) -> Report:
    """The report over these rows, of the kind that :func:`prepare` gives. Raises :class:`UsageError`."""
    return _assemble(request, prepare(request), rows)


def _assemble(request: Request, prepared: Prepared, rows: list[Row]) -> Report:
    names, leave_out, kind, selection = prepared
    columns = [fields()[name] for name in names]
    if selection is not None:
        if "selected" in names:
            marks = {id(row): selection.holds(row) for row in rows}
        else:
            rows = [row for row in rows if selection.holds(row)]
            marks = {}
    else:
        marks = {}
    if request.buffered:
        sort = request.sort if request.sort is not None else DEFAULT_SORT[request.kind]
        for name, down in reversed(sort_keys(sort, request.kind)):
            _sort(rows, name, down, kind)
    raw = []
    for column in columns:
        if column.name == "selected":
            raw.append([marks.get(id(row), True) for row in rows])
        else:
            raw.append(values.column(column, rows, kind))
    shown = []
    for column, cells in zip(columns, raw, strict=True):
        put = values.printer(
            column,
            request.units,
            binary=request.binary,
            time_format=request.time_format,
            separator=request.list_separator,
        )
        shown.append(values.put_all(put, cells))
    table: Table = list(zip(*shown, strict=True)) if columns else []
    lines: Table = list(zip(*raw, strict=True)) if columns and request.format == "json_std" else []
    if leave_out is None or leave_out:
        stay = compact(columns, table, leave_out)
        columns = [columns[index] for index in stay]
        table = [[line[index] for index in stay] for line in table]
        lines = [[line[index] for index in stay] for line in lines]
    return Report(kind, request.kind, columns, table, lines)


def _sort(rows: list[Row], name: str, down: bool, kind: str) -> None:
    column = fields()[name]
    if name == "vg_name" and len({id(row.view) for row in rows}) < 2:
        return
    if name == "lv_name" and kind in ("lv", "seg") and rows:
        rows.sort(key=_lv_name, reverse=down)
        return
    keys = [values.sort_key(column, value) for value in values.column(column, rows, kind)]
    order = sorted(range(len(rows)), key=keys.__getitem__, reverse=down)
    rows[:] = [rows[index] for index in order]


def _lv_name(row: Row) -> str:
    return row.lv.name if row.lv is not None else ""
