# SPDX-License-Identifier: Apache-2.0
"""The forms and options of each command, as the installed LVM2 lists them (``lvm COMMAND --longhelp``)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from lamella.cli.lvm.syntax.commands import COMMANDS
from lamella.cli.lvm.syntax.grammar import find_command
from tests.lvm.differential.programs import real_output

NOT_TRIED = frozenset(("debug", "verbose", "help", "longhelp", "version", "journal", "config", "lockopt"))
"""Options that print what is each program's own; ``--config`` is drawn separately."""
_HEAD = "Common options for "


@dataclass(frozen=True)
class Option:
    """*kind* is the value's description in the help; "" without a value."""

    name: str
    letter: str
    kind: str

    def __str__(self) -> str:
        return f"-{self.letter}|--{self.name}" if self.letter else f"--{self.name}"


@dataclass
class Form:
    """One form of a command. Of *any_of*, one option is required."""

    command: str
    required: list[Option] = field(default_factory=list)
    any_of: list[Option] = field(default_factory=list)
    positionals: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    optional: list[Option] = field(default_factory=list)
    common: list[Option] = field(default_factory=list)
    """Those that all forms of the command, or all commands, accept."""


@cache
def forms(command: str) -> list[Form]:
    """Every form of *command*, as the installed LVM2 has it."""
    found: list[Form] = []
    common: list[Option] = []
    section = ""
    for line in real_output([command, "--longhelp"]).splitlines():
        if line.startswith(f"  {_HEAD}"):
            section = "common"
        elif line.startswith("  Common variables"):
            break
        elif section == "common":
            common += _bracketed(line)
        elif re.match(rf"  {command}(?! -) ?", line):
            section = "form"
            found.append(Form(command))
            _head_line(found[-1], line.removeprefix(f"  {command}"))
        elif not line.strip():
            section = ""
        elif section == "form" and line.startswith("\t"):
            _form_line(found[-1], line.strip())
    for form in found:
        form.common += [option for option in common if option.name not in NOT_TRIED]
    return found


def _form_line(form: Form, line: str) -> None:
    if line.startswith("["):
        inside = line[1:-1].strip()
        if inside == "COMMON_OPTIONS":
            return
        if inside.startswith("-"):
            form.optional += [option for option in _bracketed(line) if option.name not in NOT_TRIED]
        else:
            form.more.append(inside)
        return
    if line.startswith(("(", "-")):
        option = _option(line.strip("() ,"))
        form.any_of.append(option)
        return
    form.positionals += [word for word in line.split() if word != "..."]


def _bracketed(line: str) -> list[Option]:
    inside = line.strip()
    return [_option(inside[1:-1].split("] (")[0].strip(" ]"))] if inside.startswith("[") else []


def _option(text: str) -> Option:
    spelled, _, kind = text.partition(" ")
    letter, _, name = spelled.rpartition("|")
    return Option(name.lstrip("-"), letter.lstrip("-"), kind.strip())


def _head_line(form: Form, text: str) -> None:
    words = [word for word in text.split() if word != "..."]
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            form.positionals.append(word)
            continue
        letter, _, name = word.rpartition("|")
        name = name.lstrip("-")
        kind = words.pop(0) if name not in _flags() and words else ""
        form.required.append(Option(name, letter.lstrip("-"), kind))


@cache
def _flags() -> frozenset[str]:
    """Options without a value: a form's first line does not tell its option's value from an argument."""
    found: set[str] = set()
    for name in COMMANDS:
        known = find_command(name)
        if known is not None:
            found |= {option.name for option in known.table.values() if not option.kind}
    return frozenset(found)
