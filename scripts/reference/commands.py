# SPDX-License-Identifier: Apache-2.0
"""A page for each command, from the tables that parse its arguments."""

from __future__ import annotations

import argparse
import inspect
from importlib import import_module
from typing import TYPE_CHECKING

from scripts.reference.model import Entry, Page, Section

from lamella.cli.command_table import (
    COMMANDS,
    DM,
    DM_NAMES,
    LVM,
    LVM_NAMES,
    LVM_PROGRAM,
    THIN_TOOL_NAMES,
    THIN_TOOLS,
)
from lamella.cli.dmsetup import options as dmsetup_options
from lamella.cli.dmsetup import usage as dmsetup_usage
from lamella.cli.dmsetup.fields import FIELDS as DMSETUP_FIELDS
from lamella.cli.lvm.syntax.commands import INNER
from lamella.cli.lvm.syntax.grammar import COMMON, HIDDEN, SYNONYMS, Option, find_command
from lamella.cli.lvm.syntax.usage import full_usage, syntax_line
from lamella.cli.parsing import command_parser

if TYPE_CHECKING:
    from collections.abc import Iterable

LVM_EXIT_CODES = (
    Entry("0", "done"),
    Entry("3", "wrong usage: an unknown option, a bad value, options that exclude each other"),
    Entry("5", "it failed, for all or for some of what was named"),
)
DMSETUP_EXIT_CODES = (Entry("0", "done"), Entry("1", "it failed, or the usage was wrong"))
DMSETUP_LETTERS = {"-o": "options", "-O": "sort", "-u": "uuid", "-j": "major", "-m": "minor"}
THIN_EXIT_CODES = (
    Entry("0", "done; for thin_check: the metadata is sound"),
    Entry("1", "it failed, or the metadata is damaged"),
    Entry("2", "wrong usage"),
)
THIN_EXAMPLES = {
    "thin_check": ("lamella thin_check metadata",),
    "thin_dump": ("lamella thin_dump -o metadata.xml metadata",),
    "thin_repair": ("lamella thin_repair -i metadata -o repaired",),
    "thin_restore": ("lamella thin_restore -i metadata.xml -o restored",),
}


def all_pages() -> list[Page]:
    """One page per command, in the order of ``lamella --help``."""
    return [
        *(_own(name) for name in COMMANDS),
        *(_lvm(name) for name in LVM_NAMES),
        *(_lvm_program(name) for name in LVM_PROGRAM),
        *(_dmsetup(name) for name in DM_NAMES),
        *(_thin_tool(name) for name in THIN_TOOL_NAMES),
    ]


# -- Lamella's own commands ----------------------------------------------------------------------


def _own(name: str) -> Page:
    command = COMMANDS[name]
    module = import_module(f"lamella.cli.commands.{command.module}")
    parser = command_parser(name)
    return Page(
        name=name,
        title=parser.prog,
        family=command.family,
        summary=command.help,
        synopsis=(_synopsis(parser),),
        description=paragraphs(module.__doc__ or ""),
        sections=tuple(_sections(parser)),
        example=_example(parser.epilog or ""),
        json=tuple(_fields(getattr(module, "JSON", ""))),
    )


def paragraphs(text: str) -> tuple[str, ...]:
    """The paragraphs of a docstring, each as one line."""
    return tuple(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n") if part.strip())


def _synopsis(parser: argparse.ArgumentParser) -> str:
    words = [parser.prog, "[OPTION...]"]
    for action in parser._actions:
        if not action.option_strings:
            words.append(_positional(action))
        elif action.required:
            words.append(_option_term(action).split(", ")[-1])
    return " ".join(words)


def _positional(action: argparse.Action) -> str:
    name = _value_name(action)
    return {None: name, "?": f"[{name}]", "*": f"[{name}...]", "+": f"{name}..."}[action.nargs]  # type: ignore[index]


def _value_name(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices:
        return "|".join(str(choice) for choice in action.choices)
    return action.dest.upper().replace("_", "-")


def _option_term(action: argparse.Action) -> str:
    terms = ", ".join(action.option_strings)
    if action.nargs == 0:
        return terms
    return f"{terms}[=[{_value_name(action)}]]" if action.nargs == "?" else f"{terms} {_value_name(action)}"


def _sections(parser: argparse.ArgumentParser) -> Iterable[Section]:
    """Arguments, options, and argparse's further groups under their own names."""
    titles = {"positional arguments": "Arguments", "options": "Options", "shared options": "Shared options"}
    for group in parser._action_groups:
        entries = tuple(
            Entry(_option_term(action) if action.option_strings else _value_name(action), _help(action))
            for action in group._group_actions
            if action.help != argparse.SUPPRESS
        )
        if entries:
            yield Section(titles.get(group.title or "", group.title or ""), entries)


def _help(action: argparse.Action) -> str:
    if isinstance(action, argparse._HelpAction):
        return "show the help"
    return (action.help or "").replace("%%", "%")


def _example(epilog: str) -> tuple[str, ...]:
    _, _, text = epilog.partition("example:\n")
    return tuple(inspect.cleandoc(text).splitlines())


def _fields(text: str) -> Iterable[Entry]:
    for line in text.splitlines():
        path, _, meaning = line.partition(" ")
        yield Entry(path, meaning.strip())


# -- the families that follow other programs -----------------------------------------------------


def _thin_tool(name: str) -> Page:
    parser: argparse.ArgumentParser = import_module(
        f"lamella.cli.thin.{name.removeprefix('thin_')}"
    ).arguments()
    parser.prog = f"lamella {name}"
    return Page(
        name=name,
        title=parser.prog,
        family=THIN_TOOLS,
        summary=THIN_TOOL_NAMES[name],
        synopsis=(_synopsis(parser),),
        description=(parser.description or "", _link(name)),
        sections=tuple(_sections(parser)),
        example=THIN_EXAMPLES[name],
        exit_codes=THIN_EXIT_CODES,
    )


def _link(name: str) -> str:
    return f"Through a link of the name `{name}` to `lamella` it is called as `{name}`."


def _lvm(name: str) -> Page:
    command = find_command(name)
    assert command is not None
    usage, _, example = full_usage(command, long=True).rpartition("  Example: ")
    forms = tuple(syntax_line(command, one) for one in command.variants if not one.hidden)
    common = {word.partition("=")[0].rpartition("--")[2] for word in COMMON.split()}
    own = {word.partition("=")[0].rpartition("--")[2] for word in HIDDEN.split()}
    options = [option for option in command.table.values() if option.name not in common | own]
    return Page(
        name=name,
        title=f"lamella {name}",
        family=LVM,
        summary=LVM_NAMES[name],
        synopsis=tuple(dict.fromkeys(f"lamella {form}" for form in forms)),
        description=(f"{command.summary}, as LVM2's command of that name.", _link(name)),
        sections=(
            Section("Forms", block=usage.rstrip()),
            Section("Options of this command", tuple(map(_lvm_option, options))),
            Section(
                "Options of all LVM commands",
                tuple(_lvm_option(option) for option in command.table.values() if option.name in common),
            ),
            Section(
                "Options of Lamella",
                (
                    Entry("--root DIR", "the store's folder; the list of known disks is in it"),
                    Entry("--engine auto|user|kernel", "accepted, and without effect here"),
                    Entry("--help2", "as --help"),
                ),
            ),
        ),
        example=(f"lamella {example.strip()}",),
        exit_codes=LVM_EXIT_CODES,
    )


def _lvm_program(name: str) -> Page:
    inner = [command for command in map(find_command, INNER) if command is not None]
    forms = "\n".join(full_usage(command).partition("  Common options for lvm:")[0] for command in inner)
    return Page(
        name=name,
        title=f"lamella {name}",
        family=LVM,
        summary=LVM_PROGRAM[name],
        synopsis=(f"lamella {name} COMMAND [ARGUMENT...]", f"lamella {name} help [COMMAND...]"),
        description=(
            f"LVM2's commands as `{name} COMMAND`, in the same words as LVM2's program. Some of them have no "
            "program of their own; they are described here, the others on their pages.",
            _link(name),
        ),
        sections=(
            Section("Commands that have no program of their own", tuple(map(Entry, INNER, INNER.values()))),
            Section("Their forms", block=forms.rstrip()),
            Section(
                "Options of all LVM commands",
                tuple(
                    _lvm_option(option)
                    for option in inner[0].table.values()
                    if option.name in {word.partition("=")[0].rpartition("--")[2] for word in COMMON.split()}
                ),
            ),
        ),
        example=(f"lamella {name} fullreport --reportformat json",),
        exit_codes=(*LVM_EXIT_CODES, Entry("2", "there is no such command")),
    )


def _lvm_option(option: Option) -> Entry:
    """Names and values as in LVM2's tables; the meaning is in LVM2's manual."""
    names = [f"-{option.short}"] if option.short else []
    value = f" {option.kind}" if option.kind else ""
    synonyms = [f"--{name}" for name, meant in SYNONYMS.items() if meant == option.name]
    text = f"also {', '.join(synonyms)}" if synonyms else ""
    return Entry(", ".join([*names, f"--{option.name}"]) + value, text)


def _dmsetup(name: str) -> Page:
    letters = {**dmsetup_options._SHORT_NAMES, **DMSETUP_LETTERS}
    entries = []
    for long in dmsetup_options.LONG:
        bare = long.rstrip("=")
        shorts = [short for short, meant in letters.items() if meant == bare]
        entries.append(Entry(", ".join([*shorts, f"--{bare}"]) + " VALUE" * long.endswith("="), ""))
    return Page(
        name=name,
        title=f"lamella {name}",
        family=DM,
        summary=DM_NAMES[name],
        synopsis=tuple(f"lamella {name} {command}" for command in dmsetup_usage.subcommands()),
        description=(
            "The reporting commands of dmsetup, with its options and output: of the kernel's devices, or of "
            "the devices that a store of the user engine would have.",
            _link(name),
        ),
        sections=(
            Section("Usage", block=dmsetup_usage.TEXT.rstrip()),
            Section("Options", tuple(entries)),
            Section(
                "Fields of info -c", tuple(Entry(field.name, field.help) for field in DMSETUP_FIELDS.values())
            ),
        ),
        example=("lamella dmsetup ls --tree", "lamella dmsetup info -c -o name,blkdevs_used"),
        exit_codes=DMSETUP_EXIT_CODES,
    )
