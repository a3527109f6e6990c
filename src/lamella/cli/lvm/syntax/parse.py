# SPDX-License-Identifier: Apache-2.0
"""Parse a command line as LVM2 does it: check the options one by one, then find the variant.

Options may come anywhere among the positional arguments, letters may be joined, long names may be shortened
while they stay unambiguous, and hyphens inside them do not count (tools/lvmcmdline.c).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.cli.lvm.syntax.grammar import SYNONYMS, Command, Option, Variant, Wanted
from lamella.cli.lvm.syntax.option_values import SEGMENT_TYPES, check_value
from lamella.errors import LamellaError, UsageError
from lamella.lvm.operations.sizes import Extents, Size, parse_extents, parse_number, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_USAGE = 3
COUNTED = frozenset(("debug", "verbose", "quiet", "force", "exported", "partial", "activevolumegroups"))
REPEATED = frozenset((
    "addtag", "deltag", "options", "select", "sort", "configreport", "devices", "writemostly", "rebuild",
    "replace", "cachesettings", "vdosettings",
))  # fmt: skip
WITH_EXTENTS = frozenset(("lvcreate", "lvextend", "lvreduce", "lvresize", "lvconvert"))
"""Commands in which ``--extents`` can stand for ``--size``."""
OF_A_REPORT = frozenset(("options", "sort", "select"))
"""Options that a ``--configreport`` before them directs to one report."""
OWN_REPORTS = {"pv": ("pv", "pvseg"), "vg": ("vg",), "lv": ("lv", "seg")}
"""The reports that are the command's own, by the first letters of its name."""


class ArgumentFault(UsageError):
    """The command line cannot be accepted; *lines* (and *usage*, as output) are printed as they are."""

    exit_code = BAD_USAGE

    def __init__(self, lines: Sequence[str], usage: Sequence[str] = ()) -> None:
        super().__init__(lines[0].strip() if lines else "bad usage")
        self.lines = list(lines)
        self.usage = list(usage)


def _parsing(*lines: str) -> ArgumentFault:
    return ArgumentFault([*lines, "  Error during parsing of command line."])


@dataclass(slots=True, eq=False, repr=False)
class Arguments:
    """The options that were given, and the positional arguments."""

    command: Command
    given: dict[str, list[str]] = field(default_factory=dict)
    positionals: list[str] = field(default_factory=list)
    variant: Variant | None = None
    reports: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Of ``-o``, ``-O`` and ``-S``, those for other reports than the command's own, by report ("": none)."""

    def has(self, name: str) -> bool:
        return name in self.given

    def count(self, name: str) -> int:
        """How often the option was given."""
        return len(self.given.get(name, ()))

    def text(self, name: str, default: str = "") -> str:
        """The value of an option, or *default*."""
        values = self.given.get(name)
        return values[-1] if values else default

    def texts(self, name: str) -> list[str]:
        """All values of an option that may be repeated."""
        return self.given.get(name, [])

    def yes(self, name: str, default: bool = False) -> bool:
        """The value of a y|n option."""
        return self.text(name) == "y" if name in self.given else default

    def number(self, name: str, default: int = 0) -> int:
        return parse_number(self.text(name), signs="+-") if name in self.given else default

    def size(self, name: str, default: int = 0) -> int:
        """Bytes of a size option, its sign left out."""
        return self.signed_size(name).size if name in self.given else default

    def signed_size(self, name: str) -> Size:
        return parse_size(self.text(name), unit=unit_of(self.command.table[name].kind), signs="+-")

    def extents(self, name: str = "extents") -> Extents:
        return parse_extents(self.text(name), signs="+-")

    def tags(self, name: str) -> list[str]:
        """Tags without their ``@``."""
        return [tag.removeprefix("@") for tag in self.texts(name)]


def unit_of(kind: str) -> str:
    """The default unit in a kind such as ``[+]Size[m|UNIT]``."""
    at = kind.find("Size[")
    return kind[at + 5] if at >= 0 else "m"


def parse(command: Command, argv: Sequence[str]) -> Arguments:
    """The arguments of *command*. Raises :class:`ArgumentFault`.

    With ``--help``, ``--longhelp`` or ``--version`` no variant is looked for.
    """
    args = _scan(command, argv)
    if not any(args.has(name) for name in ("help", "help2", "longhelp", "version")):
        args.variant = _find_variant(args)
    return args


# -- options ----------------------------------------------------------------------------------------


def _scan(command: Command, argv: Sequence[str]) -> Arguments:
    args = Arguments(command)
    waiting = list(argv)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            args.positionals += waiting
            break
        if word.startswith("--"):
            _long(args, word, waiting)
        elif word.startswith("-") and len(word) > 1:
            _letters(args, word[1:], waiting)
        else:
            args.positionals.append(word)
    return args


def _long(args: Arguments, word: str, waiting: list[str]) -> None:
    name = args.command.name
    typed, equals, value = word[2:].partition("=")
    plain = typed.replace("-", "")
    option = _find_long(args.command, plain, f"--{plain}{equals}{value}")
    if not option.kind:
        if equals:
            raise _parsing(f"{name}: option '--{option.name}' doesn't allow an argument")
        _take(args, option, "")
        return
    if not equals:
        if not waiting:
            raise _parsing(f"{name}: option '--{option.name}' requires an argument")
        value = waiting.pop(0)
    _take(args, option, value)


def _find_long(command: Command, plain: str, shown: str) -> Option:
    """The option of a long name as typed, without hyphens; *shown* is the whole word likewise."""
    table = command.table
    exact = table.get(plain) or table.get(SYNONYMS.get(plain, ""))
    if plain == "metadatacopies":
        exact = table.get("vgmetadatacopies", exact)
    if exact is not None:
        return exact
    matches = [option for name, option in table.items() if name.startswith(plain)]
    if not matches or not plain:
        raise _parsing(f"{command.name}: unrecognized option '{shown}'")
    if len(matches) > 1:
        matches.sort(key=lambda option: (bool(option.short), option.name))
        names = " ".join(f"'--{option.name}'" for option in matches)
        raise _parsing(f"{command.name}: option '{shown}' is ambiguous; possibilities: {names}")
    return matches[0]


def _letters(args: Arguments, letters: str, waiting: list[str]) -> None:
    name = args.command.name
    while letters:
        letter, letters = letters[0], letters[1:]
        option = args.command.shorts.get(letter)
        if option is None:
            raise _parsing(f"{name}: invalid option -- '{letter}'")
        if not option.kind:
            _take(args, option, "")
            continue
        if not letters:
            if not waiting:
                raise _parsing(f"{name}: option requires an argument -- '{letter}'")
            letters = waiting.pop(0)
        _take(args, option, letters)
        return


def _take(args: Arguments, option: Option, value: str) -> None:
    name = option.name
    if name in args.given and name not in COUNTED and name not in REPEATED:
        spelled = f"-{option.short}/--{name}" if option.short else f"--{name}"
        raise _parsing(f"  Option {spelled} may not be repeated.")
    if option.kind:
        try:
            check_value(name, option.kind, value)
        except LamellaError as error:
            lines = [f"  {line}" for line in error.message.split("\n") if line]
            raise _parsing(*lines, f"  Invalid argument for --{name}: {value}") from error
    report = args.text("configreport")
    elsewhere = bool(report) or args.command.name == "fullreport"
    if name in OF_A_REPORT and elsewhere and report not in OWN_REPORTS.get(args.command.name[:2], ()):
        args.reports.setdefault(report, {}).setdefault(name, []).append(value)
    else:
        args.given.setdefault(name, []).append(value)


# -- variants ---------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False, repr=False)
class _Match:
    variant: Variant
    required: int
    typed: bool
    unused: list[str]


def _find_variant(args: Arguments) -> Variant:
    """The variant that fits best: most required parts, a matching ``--type``, no option left over."""
    command = args.command
    common = _common_names(command)
    best: _Match | None = None
    close: Variant | None = None
    close_options, close_typed = 0, False
    for variant in command.variants:
        if _is_plain_lvconvert(command, variant) and any(name != "verbose" for name in args.given):
            continue
        if _other_type(args, variant):
            continue
        options, typed = _options_met(args, variant)
        places = _places_met(args, variant)
        if variant.any_of:
            any_met = sum(_met(args, wanted) for wanted in variant.any_of)
            fits = any_met > 0 and options == len(variant.required)
        else:
            fits = options == len(variant.required)
        if not fits or places < len(variant.positionals):
            if (typed and not close_typed) or (typed == close_typed and options > close_options):
                close, close_options, close_typed = variant, options, typed
            continue
        required = options + places + 1 + (any_met if variant.any_of else 0)
        unused = _unused(args, variant, common)
        if (
            best is None
            or (required > best.required and not unused)
            or len(unused) < len(best.unused)
            or typed > best.typed
        ):
            best = _Match(variant, required, typed, unused)
    if best is None:
        raise _no_variant(command, close if close_options else None)
    if best.unused:
        raise ArgumentFault([_not_accepted(args, name) for name in best.unused])
    _refuse_extra_places(args, best.variant)
    return best.variant


def _other_type(args: Arguments, variant: Variant) -> bool:
    """Whether ``--type`` was given with another type than the one that the variant implies."""
    if not args.has("type") or not variant.types or args.text("type") in _wider(variant.types):
        return False
    return not any(wanted.name == "type" for wanted in variant.required)


def _wider(types: tuple[str, ...]) -> tuple[str, ...]:
    """``raid`` stands for every RAID level."""
    return (
        (*types, *(name for name in SEGMENT_TYPES if name.startswith("raid"))) if "raid" in types else types
    )


def _is_plain_lvconvert(command: Command, variant: Variant) -> bool:
    return command.name == "lvconvert" and not variant.required and not variant.any_of


def _common_names(command: Command) -> set[str]:
    own = {word.partition("=")[0].rpartition("--")[2] for word in command.options.split()}
    return {name for name in command.table if name not in own} | set(command.common.split())


def _met(args: Arguments, wanted: Wanted) -> bool:
    name = wanted.name
    if name == "size" and not args.has(name) and args.has("extents") and args.command.name in WITH_EXTENTS:
        return True
    if not args.has(name):
        return False
    value = args.text(name)
    if wanted.literal:
        return value in wanted.literal.split("|") or (wanted.literal == "raid" and value.startswith("raid"))
    return True


def _options_met(args: Arguments, variant: Variant) -> tuple[int, bool]:
    met, typed = 0, False
    for wanted in variant.required:
        if _met(args, wanted):
            met += 1
            typed = typed or wanted.name == "type"
    return met, typed


def _places_met(args: Arguments, variant: Variant) -> int:
    met = 0
    for place, kind in enumerate(variant.positionals):
        there = place < len(args.positionals)
        if not there and "Select" in kind and args.has("select"):
            there = True
        if not there and place == 0 and args.command.name == "lvcreate" and kind.startswith("VG"):
            there = "LVM_VG_NAME" in os.environ or any(
                "/" in args.text(name) for name in ("name", "thinpool", "cachepool")
            )
        met += there
    return met


def _unused(args: Arguments, variant: Variant, common: set[str]) -> list[str]:
    unused = []
    for name in args.given:
        if name in common or name == "extents":
            continue
        literal = variant.accepted.get(name)
        if literal is None or (literal and args.text(name) not in literal.split("|")):
            unused.append(name)
    table = args.command.table
    return sorted(unused, key=lambda name: (bool(table[name].short), name))


def _no_variant(command: Command, close: Variant | None) -> ArgumentFault:
    lines = [
        f"  No command with matching syntax recognised.  Run '{command.name} --help' for more information."
    ]
    if len(command.variants) == 1:
        lines += ["  Correct command syntax is:"]
        close = command.variants[0]
    elif close is not None:
        lines += ["  Nearest similar command has syntax:"]
    from lamella.cli.lvm.syntax.usage import short_usage

    return ArgumentFault(lines, short_usage(command, close) if close is not None else ())


def _not_accepted(args: Arguments, name: str) -> str:
    value = args.text(name)
    return f"  Command does not accept option: --{name}{' ' if value else ''}{value}."


def _refuse_extra_places(args: Arguments, variant: Variant) -> None:
    places = (*variant.positionals, *variant.more)
    if any(place.endswith("...") for place in (variant.positionals[-1:] + variant.more[-1:])):
        return
    if len(args.positionals) > len(places):
        extra = args.positionals[len(places)]
        raise ArgumentFault([f"  Command does not accept argument: {extra}."])
