# SPDX-License-Identifier: Apache-2.0
"""How a command line of LVM2 is described: a command, its options, and the variants that it accepts.

LVM2 knows each command in one or more *variants*. A variant has required options and positional
arguments, which decide whether a command line is meant for it, and optional ones. The tables are
in ``pv``, ``vg``, ``lv``, ``lvcreate`` and ``lvconvert`` beside this module; they
are text, taken apart only for the one command that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

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
    """One form of a command; see :func:`variant`."""

    description: str
    required: tuple[Wanted, ...]
    any_of: tuple[Wanted, ...]
    positionals: tuple[str, ...]
    optional: tuple[str, ...]
    more: tuple[str, ...]
    hidden: bool = False
    """An old form, accepted and not listed."""

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


def variant(
    description: str,
    required: str,
    *,
    any_of: str = "",
    optional: str = "",
    more: str = "",
    hidden: bool = False,
) -> Variant:
    """A variant from its table entry.

    *required* holds options (``--name``, ``--name=literal``, ``--name:Kind``) and positional arguments;
    of *any_of* one option must be there; *optional* lists options; *more*, optional positional arguments.
    """
    wanted, positionals = [], []
    for word in required.split():
        if word.startswith("--"):
            wanted.append(_wanted(word[2:]))
        else:
            positionals.append(word)
    return Variant(
        description,
        tuple(wanted),
        tuple(_wanted(word) for word in any_of.split()),
        tuple(positionals),
        tuple(optional.split()),
        tuple(more.split()),
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
DISPLAY = f"{_REPORTING} -C|--columns -c|--colon"
"""Those that ``pvdisplay``, ``vgdisplay`` and ``lvdisplay`` share: with ``-C`` they are reports too."""


@dataclass(eq=False, repr=False)
class Command:
    """A command: *options* and *common* as in :data:`COMMON`; *common* are those of all its variants."""

    name: str
    summary: str
    options: str
    common: str
    variants: tuple[Variant, ...]

    @cached_property
    def table(self) -> dict[str, Option]:
        """Every option that the command knows, by its long name."""
        found: dict[str, Option] = {}
        for word in f"{self.options} {COMMON} {HIDDEN}".split():
            spelled, _, kind = word.partition("=")
            short, _, long = spelled.rpartition("|")
            option = Option(long.removeprefix("--"), short.removeprefix("-"), kind)
            found.setdefault(option.name, option)
        return found

    @cached_property
    def shorts(self) -> dict[str, Option]:
        """The options that have a letter, by that letter."""
        return {option.short: option for option in self.table.values() if option.short}


def simple(
    name: str, summary: str, required: str, *, options: str, optional: str = "", more: str = ""
) -> Command:
    """A command with a single variant, which has no description of its own; see :func:`variant`."""
    return Command(name, summary, options, "", (variant("", required, optional=optional, more=more),))


def find_command(name: str) -> Command | None:
    """The description of the command called *name*, or None."""
    family = name if name in ("lvcreate", "lvconvert") else name[:2]
    if family not in ("pv", "vg", "lv", "lvcreate", "lvconvert"):
        return None
    module = import_module(f"lamella.cli.lvm.syntax.{family}")
    found = getattr(module, name.upper(), None)
    return found if isinstance(found, Command) else None
