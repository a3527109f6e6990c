# SPDX-License-Identifier: Apache-2.0
"""What a command prints at its end: its reports, and the command log where it is asked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.lvm.command_log import LOGGED, CommandLog
from lamella.cli.lvm.errors import Failed
from lamella.cli.lvm.settings import report_format
from lamella.lvm.report.layout import INDENT, TITLES, json_group, json_report, titled

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.report.report import Report, Request

REPORTING = frozenset(("fullreport", "lvs", "pvs", "vgs"))
FORMATS = ("basic", "json", "json_std")


class Output:
    """The reports of one command, printed by :meth:`finish` and, without a log, as soon as they are there.

    Raises :class:`Failed` where the log's fields, order or selection are wrong.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        args, config = context.args, context.config
        logged = context.name in LOGGED
        self._reporting = context.name in REPORTING or args.has("columns")
        self._only = args.has("logonly")
        self._format = report_format(args, config)
        if logged and self._format not in FORMATS:
            lines = [f"{self._format}: unknown report format.", "Supported report formats: basic, json."]
            if not self._reporting:
                lines.append("Failed to initialize processing handle.")
            raise Failed("\n".join(lines))
        self._json = logged and self._format != "basic"
        self._log: CommandLog | None = None
        self._texts: list[str] = []
        self._groups: list[str] = []
        self._titles = config.flag("log/report_command_log")
        if logged and (self._titles or self._only):
            self._log_request = self._make_log_request()
            self._log = CommandLog()

    def begin(self) -> None:
        """From here on, the command's messages go to the log, if there is one."""
        self._context.console.log = self._log

    def _make_log_request(self) -> Request:
        from lamella.cli.lvm.reports import bare_request, checked, helped

        context = self._context
        config, given = context.config, context.args.reports.get("log", {})
        request = bare_request(context, "log")
        columns = config.find("log/command_log_cols")
        request.options = [*([columns] if isinstance(columns, str) else []), *request.options]
        options = given.get("options", [])
        order = config.find("log/command_log_sort")
        request.sort = given.get("sort", [order if isinstance(order, str) else None])[-1]
        request.select = given.get("select", [config.text("log/command_log_selection")])[-1]
        if helped(context, "log", options, request.select):
            request.select = ""
        else:
            request.options += options
        try:
            checked(context, request)
        except Failed as error:
            lines = [error.message] if error.message else []
            raise Failed("\n".join([*lines, "Failed to create log report."])) from error
        return request

    def add(self, request: Request, reports: list[tuple[str, Report]]) -> None:
        """A report of the command; several, by title, are the parts of one element (a group)."""
        if self._only:
            return
        if request.format != "basic":
            group = json_group([one.section(request) for _, one in reports])
            if self._log is None and self._context.name != "fullreport":
                sys.stdout.write(json_report([group]))
                self._json = False
            else:
                self._groups.append(group)
            return
        for title, report in reports:
            text = report.text(request)
            if not self._titles:
                sys.stdout.write(text)
            else:
                self._texts.append(titled(title, text) if text else "")

    def finish(self) -> None:
        """Print what has not been printed yet."""
        log, self._context.console.log = self._log, None
        table = None
        if log is not None:
            from lamella.lvm.report.report import build_rows
            from lamella.lvm.report.view import GroupView, Row

            nothing = GroupView(None)
            rows = [Row(nothing, entry=entry) for entry in log.entries()]
            table = build_rows(self._log_request, rows)
        if self._json:
            groups = self._groups if self._reporting and not self._only else None
            sys.stdout.write(json_report(groups, table.log(self._log_request) if table is not None else ""))
        elif self._titles or table is not None:
            texts = [text for text in self._texts if text] or ([""] if self._reporting else [])
            if table is not None:
                text = table.text(self._log_request)
                texts = [text] if self._only else [*texts, titled(TITLES["log"], text)]
            sys.stdout.write(f"{INDENT}\n".join(texts))
