# SPDX-License-Identifier: Apache-2.0
"""dmsetup's command line: options anywhere, long ones shortened, as getopt_long(3) has it."""

from __future__ import annotations

import getopt
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.errors import UsageError
from lamella.units import whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORT = "cCho:O:u:j:m:vyfr"
LONG = (
    "checks", "columns", "concise", "force", "help", "inactive", "major=", "manglename=", "minor=",
    "nameprefixes", "noflush", "noheadings", "nolockfs", "noopencount", "noudevrules", "noudevsync",
    "options=", "readonly", "rows", "separator=", "showkeys", "sort=", "target=", "tree", "unquoted",
    "uuid=", "verbose", "verifyudev", "version", "yes",
)  # fmt: skip
MANGLING = ("none", "hex", "auto")
ENGINES = ("auto", "user", "kernel")


class OptionError(UsageError):
    """An invalid command line, with getopt's message."""


@dataclass(slots=True)
class Options:
    """A parsed command line."""

    command: str = ""
    names: list[str] = field(default_factory=list)
    uuid: str = ""
    number: tuple[int, int] | None = None
    fields: list[str] = field(default_factory=list)
    """The arguments of ``-o``."""
    sort: str = ""
    separator: str | None = None
    target: str = ""
    mangling: str = "auto"
    flags: set[str] = field(default_factory=set)
    """The long names of options without a value."""
    root: Path | None = None
    engine: str = "auto"
    wait: float = 0.0
    verbosity: int = 0
    """How often ``-v`` was given."""

    def __contains__(self, flag: str) -> bool:
        return flag in self.flags

    @property
    def help(self) -> bool:
        return "help" in self.flags

    @property
    def version(self) -> bool:
        return "version" in self.flags


_SHORT_NAMES = {
    "-c": "columns",
    "-C": "columns",
    "-f": "force",
    "-h": "help",
    "-r": "readonly",
    "-v": "verbose",
    "-y": "yes",
}


def parse(argv: Sequence[str]) -> Options:
    """Parse the command line as dmsetup does. Raises :class:`OptionError`."""
    found = Options()
    rest = _own_options(list(argv), found)
    try:
        given, words = getopt.gnu_getopt(rest, SHORT, LONG)
    except getopt.GetoptError as error:
        raise OptionError(_getopt_words(error)) from error
    major = minor = None
    for name, value in given:
        match name:
            case "-o" | "--options":
                found.fields.append(value)
            case "-O" | "--sort":
                found.sort = value
            case "-u" | "--uuid":
                found.uuid = value
            case "-j" | "--major":
                major = _integer(value)
            case "-m" | "--minor":
                minor = _integer(value)
            case "--separator":
                found.separator = value
            case "--target":
                found.target = value
            case "--manglename":
                if value not in MANGLING:
                    raise OptionError("Unknown name mangling mode.")
                found.mangling = value
            case _:
                flag = _SHORT_NAMES.get(name, name.removeprefix("--"))
                found.verbosity += flag == "verbose"
                found.flags.add(flag)
    if (major is None) != (minor is None):
        raise OptionError("Please specify both major number and minor number.")
    if major is not None and minor is not None:
        found.number = (major, minor)
    if words:
        found.command, found.names = words[0], words[1:]
    return found


def _own_options(argv: list[str], found: Options) -> list[str]:
    """Remove Lamella's shared options, which must be written out in full."""
    left: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            return [*left, word, *words]
        if name == "--quiet":
            continue
        if name not in ("--root", "--engine", "--wait"):
            left.append(word)
            continue
        if not equals:
            value = next(words, "")
        if name == "--root" and value:
            found.root = Path(value)
        elif name == "--engine" and value in ENGINES:
            found.engine = value
        elif name == "--wait" and (seconds := whole_number(value)) is not None:
            found.wait = float(seconds)
        else:
            raise OptionError(f"dmsetup: option '{name}' does not take {value!r}")
    return left


def _integer(text: str) -> int:
    number = whole_number(text, 999_999_999)
    if number is None:
        raise OptionError(f"{text!r} is not a device number")
    return number


def _getopt_words(error: getopt.GetoptError) -> str:
    name, text = error.opt, error.msg
    if "not recognized" in text:
        return (
            f"dmsetup: unrecognized option '--{name}'"
            if text.startswith("option --")
            else f"dmsetup: invalid option -- '{name}'"
        )
    if "requires argument" in text:
        if text.startswith("option --"):
            return f"dmsetup: option '--{name}' requires an argument"
        return f"dmsetup: option requires an argument -- '{name}'"
    if "must not have" in text:
        return f"dmsetup: option '--{name}' doesn't allow an argument"
    found = " ".join(f"'--{long.rstrip('=')}'" for long in LONG if long.startswith(name))
    return f"dmsetup: option '--{name}' is ambiguous; possibilities: {found}"
