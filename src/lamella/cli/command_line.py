# SPDX-License-Identifier: Apache-2.0
"""The command's name in a command line, and the shared options that stand before it.

Without argparse, so that ``lamella --version`` and LVM2's commands start without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.command_table import COMMANDS, DM_NAMES, LVM_NAMES, LVM_PROGRAM, THIN_TOOL_NAMES
from lamella.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

TAKES_VALUE = ("--root", "--engine", "--wait")
"""The shared options that take a value."""
ALONE = ("--quiet", "--verbose", "--debug")
"""Those that take none."""
INSTEAD = ("-h", "--help", "-V", "--version")
"""Options that stand in a command's place."""

_ACCEPTED = {
    **dict.fromkeys(COMMANDS, (*TAKES_VALUE, *ALONE)),
    **dict.fromkeys((*LVM_NAMES, *LVM_PROGRAM), ("--root", "--engine", *ALONE)),
    **dict.fromkeys(DM_NAMES, (*TAKES_VALUE, "--verbose")),
    **dict.fromkeys(THIN_TOOL_NAMES, ("--verbose",)),
}
"""The shared options that each command takes."""


def split_command(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Shared options before the command, its name or one of :data:`INSTEAD`, and the rest.

    The name is empty if nothing was given at all. Raises :class:`UsageError` for an option that does not
    stand before a command, or not before that one, and for options without a command.
    """
    at = 0
    while at < len(arguments) and arguments[at].startswith("-") and arguments[at] not in INSTEAD:
        name, equals, _ = arguments[at].partition("=")
        if name in TAKES_VALUE:
            if not equals and at + 1 == len(arguments):
                raise UsageError(f"option {name} needs a value", hint="'lamella --help' explains it")
            at += 1 if equals else 2
        elif name in ALONE and not equals:
            at += 1
        else:
            raise UsageError(
                f"there is no option {arguments[at]} before the command",
                hint="the options of a command go after its name; 'lamella --help' lists both",
            )
    if at == len(arguments):
        if at:
            raise UsageError("no command was given", hint="'lamella --help' lists them")
        return [], "", []
    before, command = list(arguments[:at]), arguments[at]
    accepted = _ACCEPTED.get(command, (*TAKES_VALUE, *ALONE))
    for word in before:
        name = word.partition("=")[0]
        if name in (*TAKES_VALUE, *ALONE) and name not in accepted:
            raise UsageError(f"{command} takes no option {name}", hint=f"see 'lamella {command} --help'")
    return before, command, list(arguments[at + 1 :])
