# SPDX-License-Identifier: Apache-2.0
"""``pvs``, ``vgs`` and ``lvs``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.processing import log_reported
from lamella.cli.lvm.settings import report_format
from lamella.cli.lvm.targets import (
    choose_groups,
    choose_volumes,
    disk_tags,
    named_disks,
    reads_all,
    shown_volumes,
)
from lamella.errors import UsageError
from lamella.lvm.report import report as reporting
from lamella.lvm.report.fields import field_list
from lamella.lvm.report.layout import TITLES, Layout
from lamella.lvm.report.report import HelpAsked, Request, UnknownFieldError
from lamella.lvm.report.sources import time_format

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lamella.cli.lvm.context import Context
    from lamella.lvm.report.view import DeviceInfo, GroupView


NAMES = {"lv": "lvs", "seg": "segs", "vg": "vgs", "pv": "pvs", "pvseg": "pvsegs", "devtype": "devtypes"}
"""Reports in the names of settings: ``report/lvs_cols``."""


def make_request(context: Context, kind: str) -> Request:
    """The report of *kind* that the options and settings ask for. Raises :class:`BadCommand`."""
    request = bare_request(context, kind)
    request.options += context.args.texts("options")
    request.sort = context.args.text("sort") if context.args.has("sort") else request.sort
    request.select = context.args.text("select")
    return request


def bare_request(context: Context, kind: str, suffix: str = "") -> Request:
    """The report of *kind* as the settings have it, and the options that concern all reports.

    *suffix* is a part of the settings' names. Raises :class:`BadCommand`.
    """
    args, config = context.args, context.config
    binary = args.has("binary") or config.flag("report/binary_values_as_numeric")
    separator = args.text("separator") if args.has("separator") else config.text("report/separator")
    given = args.has("separator")
    prefixes = args.has("nameprefixes") or config.flag("report/prefixes")
    aligned = config.flag("report/aligned")
    if given or args.has("nameprefixes"):
        aligned = args.has("aligned") and not prefixes
    layout = Layout(
        separator,
        aligned,
        headings=not args.has("noheadings") and config.flag("report/headings"),
        rows=args.has("rows") or config.flag("report/columns_as_rows"),
        prefixes=prefixes,
        quoted=not args.has("unquoted") and config.flag("report/quoted"),
    )
    options = []
    if config.flag("report/compact_output"):
        options = ["#all"]
    elif config.text("report/compact_output_cols"):
        options = ["#" + config.text("report/compact_output_cols")]
    request = Request(
        kind,
        options,
        units=context.units,
        layout=layout,
        binary=binary,
        format=report_format(args, config),
        verbose=context.console.verbosity > 0,
        hidden=args.has("all"),
        list_separator=config.text("report/list_item_separator") or ",",
        time_format=time_format(context.config),
        buffered=not args.has("unbuffered") and config.flag("report/buffered"),
    )
    name = NAMES.get(kind, "")
    verbose = "_verbose" if request.verbose and not suffix else ""
    columns = config.find(f"report/{name}_cols{verbose}{suffix}")
    if isinstance(columns, str):
        request.options = [columns, *request.options]
    order = config.find(f"report/{name}_sort{suffix}")
    if isinstance(order, str):
        request.sort = order
    return request


def checked(context: Context, request: Request) -> str:
    """The kind of rows, once the request is known to be valid; ends the command where it is not."""
    try:
        return reporting.prepare(request)[2]
    except HelpAsked:
        sys.stdout.write(field_list(request.kind))
        raise Failed from None
    except UnknownFieldError as error:
        context.console.warn(f"{error.message}\n{error.hint}")
        raise Failed from error
    except BadCommand:
        raise
    except UsageError as error:
        raise Failed(error.message) from error


def print_report(
    context: Context, request: Request, views: Sequence[GroupView], bare: Iterable[DeviceInfo] = ()
) -> None:
    """Build a report and write it."""
    try:
        found = reporting.build(request, views, bare)
    except UsageError as error:
        raise Failed(error.message) from error
    log_reported(context, found.kind, views)
    context.output.add(request, [(title_of(context, request.kind), found)])


def title_of(context: Context, kind: str) -> str:
    """What stands above the report where the command log follows it; of ``pvs``, "Label" as with LVM2."""
    return "Physical Volume Label" if kind == "pv" and context.name != "fullreport" else TITLES[kind]


def helped(
    context: Context, kind: str, options: Sequence[str] | None = None, select: str | None = None
) -> bool:
    """Whether ``-o`` or ``-S`` asks for help; prints it."""
    given = context.args.texts("options") if options is None else options
    words = {word for option in given for word in option.lstrip("+-#").split(",")}
    if words & {"help", "?"}:
        sys.stdout.write(field_list(kind))
        return True
    if (context.args.text("select") if select is None else select) not in ("help", "?"):
        return False
    from lamella.lvm.report.selection import HELP

    sys.stdout.write(field_list(kind) + HELP)
    return True


def lvs(context: Context) -> None:
    """List logical volumes, or with ``--segments`` their segments."""
    if helped(context, "lv"):
        return
    request = make_request(context, "seg" if context.args.has("segments") else "lv")
    checked(context, request)
    views = []
    for chosen in choose_volumes(context, context.args.positionals):
        view = context.view(chosen.found)
        view.shown_lvs = shown_volumes(view, chosen)
        views.append(view)
    print_report(context, request, views)


def vgs(context: Context) -> None:
    """List volume groups."""
    if helped(context, "vg"):
        return
    request = make_request(context, "vg")
    checked(context, request)
    select = context.args.given.pop("select", None)
    groups = choose_groups(context, context.args.positionals)
    if select is not None:
        context.args.given["select"] = select
    print_report(context, request, [context.view(found) for found in groups])


def pvs(context: Context) -> None:
    """List physical volumes; with ``-a`` also other devices."""
    if helped(context, "pv"):
        return
    request = make_request(context, "pvseg" if context.args.has("segments") else "pv")
    checked(context, request)
    views, bare = disks_to_report(context, context.args.positionals)
    print_report(context, request, views, bare)


def disks_to_report(context: Context, arguments: list[str]) -> tuple[list[GroupView], list[DeviceInfo]]:
    """Physical volumes by group, then those of no group; and with ``-a`` the other devices.

    *arguments* name disks or tags; without any, all count. What is not found counts as a failure.
    """
    from lamella.lvm.report.sources import device_info, duplicate_view, orphan_view

    scan = context.session.scan
    tags = disk_tags(arguments)

    def refuse(text: str) -> None:
        with context.processing("pv", "", status=False):
            context.console.fail(text)

    wanted, gone = named_disks(context, arguments, refuse)
    every = not arguments
    groups = context.groups(foreign_said=reads_all(context, arguments, wanted, gone))
    for path in gone:  # after what is said about the groups
        refuse(f'Failed to find physical volume "{path}".')
    views = []
    for found in groups:
        view = context.view(found)
        if not every:
            keep = {
                pv.uuid for pv in found.group.pvs if tags & set(pv.tags) or found.disks.get(pv.uuid) in wanted
            }
            if not keep:
                continue
            view.shown_pvs = [pv for pv in found.group.pvs if pv.uuid in keep]
        views.append(view)
    orphans = [disk for disk in context.session.read_orphans() if every or disk in wanted]
    if orphans:
        views.append(orphan_view(orphans, context.sources))
    duplicates = [disk for disk in scan.duplicates if disk in wanted or (every and context.args.has("all"))]
    views += [duplicate_view([disk], context.sources) for disk in duplicates]
    bare = []
    if context.args.has("all"):
        bare = [device_info(disk) for disk in scan.disks if disk.label is None and (every or disk in wanted)]
    return views, bare
