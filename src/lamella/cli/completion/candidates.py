# SPDX-License-Identifier: Apache-2.0
"""Candidates at the cursor: commands, options, their values, and names in the store.

All of it comes from the tables that the commands themselves parse their arguments with.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.command_line import TAKES_VALUE
from lamella.cli.command_table import COMMANDS, DM_NAMES, LVM_NAMES, LVM_PROGRAM, THIN_TOOL_NAMES
from lamella.cli.parsing import command_parser, shared_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    Candidate = tuple[str, str]
    """What may stand at the cursor, and a description or ""."""

FILES: Candidate = (":files", "")
FOLDERS: Candidate = (":folders", "")
PROGRAM_OPTIONS = {"--version": "print the version", "--help": "list the commands"}
"""Those that stand alone; the others before a command are the shared options of all commands."""
DEVICES = Path("/dev/mapper")


def candidates(words: Sequence[str]) -> list[Candidate]:
    """Candidates for the last of *words*; these are the command line without the program's name."""
    *before, current = words
    value_of, equals, value = current.partition("=")
    if equals and value_of.startswith("--"):
        # The shell replaces the whole word, so the option stays in front.
        found = candidates([*before, value_of, value])
        return [one if one in (FILES, FOLDERS) else (f"{value_of}={one[0]}", one[1]) for one in found]
    offered = _offered(before, current)
    return [one for one in offered if one in (FILES, FOLDERS) or one[0].startswith(current)]


def _offered(before: Sequence[str], current: str) -> Iterable[Candidate]:
    at = 0
    while at < len(before) and before[at].startswith("-"):
        at += 2 if before[at] in TAKES_VALUE else 1
    root = _root(before)
    if at > len(before):  # the last word is a shared option that takes a value
        return _by_parser(shared_options(), before[-1:], current, root)
    if at == len(before):
        if not current.startswith("-"):
            return _commands()
        return [*_by_parser(shared_options(), [], current, root), *PROGRAM_OPTIONS.items()]
    name, rest = before[at], before[at + 1 :]
    if name == "help":
        return [] if rest else _commands()
    if name in COMMANDS:
        return _by_parser(command_parser(name), rest, current, root)
    if name in THIN_TOOL_NAMES:
        tool = import_module(f"lamella.cli.thin.{name.removeprefix('thin_')}")
        return _by_parser(tool.arguments(), rest, current, root)
    if name in LVM_NAMES:
        return _lvm(name, rest, current)
    if name in LVM_PROGRAM:
        return _lvm_program(rest, current)
    if name in DM_NAMES:
        return _dmsetup(rest, current)
    return []


def _root(before: Sequence[str]) -> Path | None:
    for index, word in enumerate(before):
        if word == "--root" and index + 1 < len(before):
            return Path(before[index + 1])
        if word.startswith("--root="):
            return Path(word.partition("=")[2])
    return None


def _commands() -> Iterator[Candidate]:
    yield from ((name, command.help) for name, command in COMMANDS.items())
    for names in (LVM_NAMES, LVM_PROGRAM, DM_NAMES, THIN_TOOL_NAMES):
        yield from names.items()


# -- commands with an argparse parser ------------------------------------------------------------


def _by_parser(
    parser: argparse.ArgumentParser, rest: Sequence[str], current: str, root: Path | None
) -> Iterator[Candidate]:
    options = {string: action for action in parser._actions for string in action.option_strings}
    positionals = [action for action in parser._actions if not action.option_strings]
    given = 0
    waiting: argparse.Action | None = None
    only_positionals = False
    for word in rest:
        if waiting is not None:
            waiting = None
        elif word == "--":
            only_positionals = True
        elif word.startswith("-") and word != "-" and not only_positionals:
            found = options.get(word)
            waiting = found if found is not None and found.nargs is None else None
        else:
            given += 1
    if waiting is not None:
        yield from _values(waiting, current, root)
    elif current.startswith("-") and not only_positionals:
        yield from ((string, _first_line(action)) for string, action in options.items() if _shown(action))
    elif positionals:
        last = positionals[-1]
        repeated = last.nargs in ("*", "+")
        if given < len(positionals) or repeated:
            yield from _values(positionals[min(given, len(positionals) - 1)], current, root)


def _shown(action: argparse.Action) -> bool:
    return action.help != "==SUPPRESS=="


def _first_line(action: argparse.Action) -> str:
    return (action.help or "").split(";")[0].replace("%%", "%")


def _values(action: argparse.Action, current: str, root: Path | None) -> Iterator[Candidate]:
    if action.choices:
        yield from ((str(choice), "") for choice in action.choices)
        return
    match action.metavar:
        case "CONTAINER":
            yield from _containers(root, current)
        case "IMAGE" | "NAME[:TAG]" | "REPOSITORY[:TAG]":
            yield from _images(root, current)
        case "NAME" | "NAME[:PATH]":
            yield from _containers(root, current)
            yield from _images(root, current)
        case "NAME|DIR":
            yield from _containers(root, current)
            yield from _images(root, current)
            yield FOLDERS
        case "SOURCE" | "TARGET":
            yield from ((f"{name}:", text) for name, text in _containers(root, current))
            yield FILES
        case "FILE" | "DEVICE" | "DISK" | "INPUT":
            yield FILES
        case "DIR":
            yield FOLDERS
        case "KEY=VALUE":
            from lamella.driver.options import known_options

            yield from ((f"{key}=", "") for key in known_options())


def _containers(root: Path | None, prefix: str) -> Iterator[Candidate]:
    from lamella.cli.completion import names

    return ((name, "container") for name in names.containers(root, prefix))


def _images(root: Path | None, prefix: str) -> Iterator[Candidate]:
    from lamella.cli.completion import names

    return ((name, "image") for name in names.images(root, prefix))


# -- LVM2's commands, and dmsetup ----------------------------------------------------------------


def _lvm_program(rest: Sequence[str], current: str) -> Iterator[Candidate]:
    from lamella.cli.lvm.syntax.commands import COMMANDS as NAMES
    from lamella.cli.lvm.syntax.commands import INNER

    if not rest:
        yield from {**LVM_NAMES, **INNER, "--help": "list the commands"}.items()
    elif rest[0] in NAMES:
        yield from _lvm(rest[0], rest[1:], current)


def _lvm(name: str, rest: Sequence[str], current: str) -> Iterator[Candidate]:
    from lamella.cli.lvm.syntax.grammar import find_command

    command = find_command(name)
    assert command is not None
    last = rest[-1] if rest else ""
    waiting = command.table.get(last[2:]) if last.startswith("--") else command.shorts.get(last[1:])
    if last.startswith("-") and waiting is not None and waiting.kind:
        if waiting.kind == "PV":
            yield FILES
        elif "|" in waiting.kind and waiting.kind.replace("|", "").replace("_", "").islower():
            yield from ((value, "") for value in waiting.kind.split("|"))
    elif current.startswith("-"):
        yield from ((f"--{option.name}", "") for option in command.table.values())
    elif any("PV" in word for variant in command.variants for word in (*variant.positionals, *variant.more)):
        yield FILES


def _dmsetup(rest: Sequence[str], current: str) -> Iterator[Candidate]:
    from lamella.cli.dmsetup.options import LONG
    from lamella.cli.dmsetup.usage import subcommands

    if current.startswith("-"):
        yield from ((f"--{option.rstrip('=')}", "") for option in LONG)
    elif not any(word in subcommands() for word in rest):
        yield from ((name, "") for name in subcommands())
    elif DEVICES.is_dir():
        yield from ((name, "") for name in sorted(os.listdir(DEVICES)) if name != "control")
