# SPDX-License-Identifier: Apache-2.0
"""``fullreport``: for each volume group a report on it, its disks, volumes, and the segments of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed
from lamella.cli.lvm.processing import ORPHAN, each_group, log_reported
from lamella.cli.lvm.reports import bare_request, checked, helped
from lamella.cli.lvm.scans import ORPHANS
from lamella.cli.lvm.targets import choose_groups
from lamella.errors import UsageError
from lamella.lvm.report import report as reporting
from lamella.lvm.report.fields import fields
from lamella.lvm.report.layout import TITLES
from lamella.lvm.report.report import FULL_FIELDS, FULL_SORT

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.report.report import Report, Request
    from lamella.lvm.report.view import GroupView

MIXED = 'Can\'t report LV and PV fields at the same time in subreport type "{kind}" in VG {name}.'
OF_ORPHANS = ("pv", "pvseg")
"""The parts about disks of no group."""


def fullreport(context: Context) -> None:
    """Report on groups and, unless groups are named, on the disks of none."""
    requests = [_request(context, kind) for kind in FULL_FIELDS]
    for found in each_group(context, choose_groups(context, context.args.positionals)):
        _report(context, requests, context.view(found), found.group.name)
    if context.args.positionals:
        return
    orphans = context.session.read_orphans()
    if orphans:
        from lamella.lvm.report.sources import orphan_view

        with context.processing(*ORPHAN):
            _report(
                context,
                [one for one in requests if one.kind in OF_ORPHANS],
                orphan_view(orphans, context.sources),
                ORPHANS,
            )


def _request(context: Context, kind: str) -> Request:
    """One part. Options before any ``--configreport`` concern none of them."""
    request = bare_request(context, kind, "_full")
    if request.options and not request.options[0].startswith("#"):
        columns = []
    else:
        columns = [FULL_FIELDS[kind]]
    given = context.args.reports.get(kind, {})
    request.options = [*columns, *request.options, *given.get("options", [])]
    request.sort = given.get("sort", [request.sort or FULL_SORT[kind]])[-1]
    request.select = given.get("select", [""])[-1]
    request.verbose = False
    return request


def _report(context: Context, requests: list[Request], view: GroupView, name: str) -> None:
    """The parts about one group; what is wrong with one of them ends the group's report."""
    reports: list[tuple[str, Report]] = []
    failure = None
    try:
        for request in requests:
            report = _part(context, request, view, name)
            if report is not None:
                reports.append((TITLES[request.kind], report))
    except Failed as error:
        failure = error
    context.output.add(requests[0], reports)
    if failure is not None:
        context.console.fail_with(failure)


def _part(context: Context, request: Request, view: GroupView, name: str) -> Report | None:
    kind = request.kind
    if helped(context, kind, request.options, request.select):
        return None
    try:
        needed = checked(context, request)
    except Failed as error:
        if error.message.startswith("Can't report"):
            raise Failed(MIXED.format(kind=kind, name=name)) from error
        raise
    if kind == "pv" and _of_volumes(request):
        raise Failed(MIXED.format(kind=kind, name=name))
    if needed != kind:
        raise Failed(
            f'Subreport of type "{kind}" for VG {name} contains columns which lead to change of report type. '
            "Add these columns to proper subreport type."
        )
    try:
        report = reporting.build(request, [view])
    except UsageError as error:
        raise Failed(error.message) from error
    log_reported(context, kind, [view] if kind != "vg" else [])
    return report


def _of_volumes(request: Request) -> bool:
    names, _leave_out, _kind, selection = reporting.prepare(request)
    sections = {fields()[name].section for name in (*names, *(selection.fields if selection else ()))}
    return any(section.startswith("lv") or section == "seg" for section in sections)
