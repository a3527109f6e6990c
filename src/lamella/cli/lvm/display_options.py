# SPDX-License-Identifier: Apache-2.0
"""Options of ``pvdisplay``, ``vgdisplay`` and ``lvdisplay`` that exclude each other, with LVM2's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand

if TYPE_CHECKING:
    from lamella.cli.lvm.syntax.parse import Arguments

OF_REPORTS = ("aligned", "binary", "noheadings", "options", "separator", "sort", "unbuffered")
"""Meaningless without ``--columns``."""
OF_DISPLAYS = ("colon", "maps", "short", "activevolumegroups")
"""Meaningless with it."""
INCOMPATIBLE = "Incompatible options selected"


def check_display_options(args: Arguments) -> None:
    """Raise :class:`BadCommand` where options of tables and of the long display are mixed."""
    kind = args.command.name[:2]
    if args.has("columns"):
        if any(args.has(name) for name in OF_DISPLAYS):
            raise BadCommand(INCOMPATIBLE)
        return
    names = (*OF_REPORTS, "all") if kind == "pv" else OF_REPORTS
    if any(args.has(name) for name in names):
        raise BadCommand(INCOMPATIBLE if kind == "pv" else f"{INCOMPATIBLE}.")
    if args.has("colon") and args.has("maps"):
        raise BadCommand(
            "Option -c not allowed with option -m" if kind == "pv" else "Options -c and -m are incompatible."
        )
    if args.has("colon") and args.has("short"):
        raise BadCommand("Option -c is not allowed with option -s")
    if args.has("activevolumegroups") and args.positionals:
        raise BadCommand("Option -A is not allowed with volume group names")
