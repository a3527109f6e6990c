# SPDX-License-Identifier: Apache-2.0
"""How a command line of LVM2 is described: a command, its options, and the variants that it accepts.

LVM2 knows each command in one or more *variants*. A variant has required options and positional
arguments, which decide whether a command line is meant for it, and optional ones. The tables are in ``pv``,
``vg``, ``lv``, ``lvcreate``, ``lvconvert`` and ``others`` beside this module; they are text, taken apart only
for the one command that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMON = (
    "-d|--debug -h|--help -q|--quiet -v|--verbose -y|--yes -t|--test --commandprofile=String --config=String "
    "--driverloaded=y|n --nolocking --lockopt=String --longhelp --profile=String --version "
    "--devicesfile=String --devices=PV --nohints --journal=String"
)
"""Options that every command accepts."""

HIDDEN = "--help2 --root=String --engine=String"
"""Accepted by every command as well, and not listed."""

SYNONYMS = {
    "available": "activate",
    "resizable": "resizeable",
    "metadatacopies": "pvmetadatacopies",
    "allocation": "allocatable",
    "allocationpolicy": "alloc",
    "corelog": "mirrorlog",
    "raidmaxrecoveryrate": "maxrecoveryrate",
    "raidminrecoveryrate": "minrecoveryrate",
    "raidsyncaction": "syncaction",
    "raidwritebehind": "writebehind",
    "raidwritemostly": "writemostly",
    "virtualoriginsize": "virtualsize",
}
"""Other names that options answer to."""

NOT_LISTED = "(not listed)"
"""In place of a description: an old form, accepted and left out of the help."""


@dataclass(slots=True, eq=False, repr=False)
class Option:
    """*kind* says what its value may be, in the words of the usage; "" means that it takes none."""

    name: str
    short: str
    kind: str

    @property
    def spelled(self) -> str:
        """As the usage writes it: ``-L|--size``."""
        return f"-{self.short}|--{self.name}" if self.short else f"--{self.name}"


@dataclass(slots=True, eq=False, repr=False)
class Wanted:
    """An option that a variant requires; with *literal*, only with exactly this value."""

    name: str
    literal: str
    kind: str


@dataclass(eq=False, repr=False)
class Variant:
    """One form of a command; see :class:`Command`."""

    description: str
    required: tuple[Wanted, ...]
    any_of: tuple[Wanted, ...]
    positionals: tuple[str, ...]
    optional: tuple[str, ...]
    more: tuple[str, ...]
    hidden: bool
    """See :data:`NOT_LISTED`."""

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The values of ``--type`` that it is meant for; none: it does not know the option."""
        for wanted in self.required:
            if wanted.name == "type":
                return tuple(wanted.literal.split("|"))
        literal = self.accepted.get("type", "")
        return tuple(literal.split("|")) if literal else ()

    @cached_property
    def accepted(self) -> dict[str, str]:
        """Its own options by name; for optional ones the only value that is accepted ("": any)."""
        names = {wanted.name: "" for wanted in (*self.required, *self.any_of)}
        for item in self.optional:
            name, _, literal = item.partition("=")
            names.setdefault(name, literal)
        return names


def _variants(command: str, forms: str) -> Iterator[Variant]:
    """The variants in a :class:`Command`'s *forms*."""
    description: list[str] = []
    entries: list[tuple[str, list[str]]] = []
    for line in forms.splitlines():
        words = line.split()
        if not line.startswith(" "):
            description.append(line)
        elif words[0] == command:
            entries.append(("\n".join(description), words[1:]))
            description = []
        else:
            entries[-1][1].extend(words)
    for text, words in entries:
        yield _variant("" if text == NOT_LISTED else text, words, hidden=text == NOT_LISTED)


def _variant(description: str, words: list[str], *, hidden: bool) -> Variant:
    sections: dict[str, list[str]] = {"": [], "any_of:": [], "optional:": []}
    section = sections[""]
    for word in words:
        if word in sections:
            section = sections[word]
        else:
            section.append(word)
    line = sections[""]
    return Variant(
        description,
        tuple(_wanted(word[2:]) for word in line if word.startswith("--")),
        tuple(_wanted(word) for word in sections["any_of:"]),
        tuple(word for word in line if not word.startswith(("--", "["))),
        tuple(sections["optional:"]),
        tuple(word[1:-1] for word in line if word.startswith("[")),
        hidden,
    )


def _wanted(word: str) -> Wanted:
    name, _, literal = word.partition("=")
    if literal:
        return Wanted(name, literal, "")
    name, _, kind = word.partition(":")
    return Wanted(name, "", kind)


_REPORTING = (
    "--aligned --binary --configreport=log|vg|lv|pv|pvseg|seg --foreign --ignorelockingfailure "
    "--logonly --noheadings --nosuffix --readonly --separator=String --shared --unbuffered "
    "--units=[Number]r|R|h|H|b|B|s|S|k|K|m|M|g|G|t|T|p|P|e|E -O|--sort=String -S|--select=String "
    "-o|--options=String"
)
REPORT = f"{_REPORTING} --nameprefixes --reportformat=basic|json|json_std --rows --unquoted -a|--all"
"""The options that ``pvs``, ``vgs`` and ``lvs`` share."""
PARTIAL = "-P|--partial"
"""Accepted by commands that only report, too, which process incomplete volumes anyway."""
FORMAT = "--reportformat=basic|json|json_std"
"""The format of reports, which the long displays accept as well, and ignore."""
DISPLAY = f"{_REPORTING} -C|--columns -c|--colon"
"""Those that ``pvdisplay``, ``vgdisplay`` and ``lvdisplay`` share: with ``-C`` they are reports too."""


@dataclass(eq=False, repr=False)
class Command:
    """A command: *options* and *common* as in :data:`COMMON`; *common* are those of all its variants.

    *forms* has its variants. For each: lines with its description (or :data:`NOT_LISTED`); indented, the
    command with the options that are required (``--name``, ``--name=literal``, ``--name:Kind``), positional
    arguments, and in brackets optional ones; after ``any_of:`` options of which one is required; after
    ``optional:`` those that are accepted.
    """

    name: str
    summary: str
    options: str
    forms: str
    common: str = ""
    unlisted: str = ""
    """Options like *options* that are accepted too, and not listed."""

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The forms of the command, in the order in which LVM2 tries and shows them."""
        return tuple(_variants(self.name, self.forms))

    @cached_property
    def table(self) -> dict[str, Option]:
        """Every option that the command knows, by its long name."""
        found: dict[str, Option] = {}
        for word in f"{self.options} {COMMON} {HIDDEN} {self.unlisted}".split():
            spelled, _, kind = word.partition("=")
            short, _, long = spelled.rpartition("|")
            option = Option(long.removeprefix("--"), short.removeprefix("-"), kind)
            found.setdefault(option.name, option)
        return found

    @cached_property
    def shorts(self) -> dict[str, Option]:
        """The options that have a letter, by that letter."""
        return {option.short: option for option in self.table.values() if option.short}


def find_command(name: str) -> Command | None:
    """The description of the command called *name*, or None."""
    family = "lvmconfig" if name in ("config", "dumpconfig") else name
    if family not in ("lvcreate", "lvconvert", "lvmconfig"):
        family = name[:2] if name[:2] in ("pv", "vg", "lv") else "others"
    module = import_module(f"lamella.cli.lvm.syntax.{family}")
    found = getattr(module, name.upper(), None)
    return found if isinstance(found, Command) else None
