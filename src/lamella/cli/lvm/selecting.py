# SPDX-License-Identifier: Apache-2.0
"""``-S`` of commands that change or display: whether a group, volume or disk is selected.

A selection may name fields of other kinds of objects. As with LVM2, the object is joined with them: it is
selected if one row of the report that has all the fields holds ("segments of this volume", "disks of this
group"). Fields of volumes and of disks cannot meet in a selection of volumes or groups, which is an error.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed
from lamella.lvm.report.view import Row

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.report.selection import Selection
    from lamella.lvm.report.view import GroupView


class Selector:
    """The command's ``-S``, in objects of *kind* ("lv", "vg" or "pv"); without the option it selects all.

    Raises :class:`Failed` when it is first used, if the selection cannot hold for such objects.
    """

    def __init__(self, context: Context, kind: str) -> None:
        self.text = context.args.text("select") if context.args.has("select") else None
        self.kind = kind

    def check(self) -> None:
        """Raise the error of a selection that cannot be understood, before anything is looked at."""
        if self.text is not None:
            _ = self._selection

    @cached_property
    def _selection(self) -> Selection:
        from lamella.lvm.report.selection import Selection

        return Selection.parse(self.text or "", self.kind)

    @cached_property
    def _parsed(self) -> tuple[Selection, str]:
        """The selection, and the kind of rows that its fields need."""
        from lamella.lvm.report.fields import fields
        from lamella.lvm.report.report import final_kind

        selection = self._selection
        sections = {fields()[name].section for name in selection.fields}
        of_lv = any(section.startswith("lv") or section == "seg" for section in sections)
        if sections & {"pv", "label", "pvseg"} and (self.kind == "lv" or (self.kind == "vg" and of_lv)):
            raise Failed('Can\'t report LV and PV fields at the same time in report type "".')
        return selection, final_kind(self.kind, selection.fields)

    def group(self, view: GroupView) -> bool:
        """Whether the group is selected."""
        if self.text is None:
            return True
        from lamella.lvm.report.report import rows_of

        selection, kind = self._parsed
        return any(selection.holds(row) for row in rows_of(kind, [view]))

    def lv(self, view: GroupView, lv: LogicalVolume) -> bool:
        """Whether the volume is selected."""
        if self.text is None:
            return True
        selection, kind = self._parsed
        if kind != "seg":
            return selection.holds(Row(view, lv))
        return any(selection.holds(Row(view, lv, segment)) for segment in lv.segments)

    def pv(self, view: GroupView, pv: PhysicalVolume) -> bool:
        """Whether the disk is selected; *view* is that of its group, or of the disks without one."""
        if self.text is None:
            return True
        from lamella.lvm.report.report import disk_rows

        selection, kind = self._parsed
        if kind == "pvseg" and view.vg is None:
            return False  # a disk without a group has no extents
        return any(selection.holds(row) for row in disk_rows(kind, view, [pv]))
