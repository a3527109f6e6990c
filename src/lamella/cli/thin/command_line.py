# SPDX-License-Identifier: Apache-2.0
"""The thin tools' command lines: read, refused and explained in the words of thin-provisioning-tools 1.x.

The options are declared to argparse, from which the reference and the completion are made; reading them and
the help are of this module, because argparse reports a missing argument before an option that it does not
know, takes an option twice, and lays out its help in another way.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

WRONG_USAGE = 2


class ToolParser(argparse.ArgumentParser):
    """Reads one tool's arguments; wrong usage is told on standard error and leaves by ``SystemExit(2)``."""

    def __init__(self, name: str, about: str) -> None:
        super().__init__(prog=name, description=about, allow_abbrev=False, add_help=False)
        self.excludes: dict[str, tuple[str, ...]] = {}
        """Attribute names of options, and of those that each cannot be given with."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: object = None) -> argparse.Namespace:  # type: ignore[override]  # no tool passes a namespace
        """The values of *args*, without the program's name."""
        del namespace
        return _Reading(self, list(sys.argv[1:] if args is None else args)).run()

    # -- help ------------------------------------------------------------------------------------

    def format_help(self) -> str:
        shown = [action for action in self._actions if action.help is not argparse.SUPPRESS]
        shown.sort(key=lambda one: list(one.option_strings[-1:]))
        parts = [self.description or "", self.format_usage().rstrip()]
        for title, rows in (
            ("Arguments", [(term(one), one.help) for one in shown if not one.option_strings]),
            ("Options", [(_option_row(one), one.help) for one in shown if one.option_strings]),
        ):
            if rows:
                width = max(len(left) for left, _ in rows)
                lines = [f"  {left:{width}}  {text}" for left, text in rows]
                parts.append("\n".join([f"{title}:", *lines]))
        return "\n\n".join(parts) + "\n"

    def format_usage(self) -> str:
        return f"{self._usage('[OPTIONS]')}\n"

    def _usage(self, *before: str) -> str:
        needed = [term(one) for one in self.required()]
        return " ".join(["Usage:", self.prog, *before, *needed])

    def required(self) -> list[argparse.Action]:
        """What must be given, options before arguments."""
        found = [one for one in self._actions if one.required and one.nargs != "?"]
        return sorted(found, key=lambda one: not one.option_strings)

    # -- refusing --------------------------------------------------------------------------------

    def refuse(self, message: str, *, tip: str = "", usage: Sequence[str] | None = None) -> NoReturn:
        """Tell *message*; *usage* are the words after the program's name in the line that is shown."""
        parts = [f"error: {message}"]
        if tip:
            parts.append(f"  tip: {tip}")
        if usage is not None:
            parts.append(self._usage(*usage))
        parts.append("For more information, try '--help'.")
        print("\n\n".join(parts), file=sys.stderr)
        raise SystemExit(WRONG_USAGE)


def term(action: argparse.Action) -> str:
    """An option or argument as messages name it: ``--input <FILE>``, ``<INPUT>``, ``--quiet``."""
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return f"<{value}>"
    name = action.option_strings[-1]
    if action.nargs == 0:
        return name
    return f"{name}[=<{value}>]" if action.nargs == "?" else f"{name} <{value}>"


def _option_row(action: argparse.Action) -> str:
    short = f"{action.option_strings[0]}, " if len(action.option_strings) > 1 else "    "
    return short + term(action)


class _Reading:
    """One reading of *args* for *parser*."""

    def __init__(self, parser: ToolParser, args: list[str]) -> None:
        self.parser = parser
        self.args = args
        self.options = parser._option_string_actions
        self.places = [action for action in parser._actions if not action.option_strings]
        self.values = argparse.Namespace()
        self.given: list[argparse.Action] = []
        for action in parser._actions:
            if action.dest != argparse.SUPPRESS:
                setattr(self.values, action.dest, action.default)

    def run(self) -> argparse.Namespace:
        only_places = False
        while self.args:
            word = self.args.pop(0)
            if word == "--" and not only_places:
                only_places = True
            elif only_places or word == "-" or not word.startswith("-"):
                self._place(word)
            elif word.startswith("--"):
                name, equals, value = word.partition("=")
                self._option(name, value if equals else None)
            else:
                self._letters(word)
        self._exclusions()
        absent = [term(one) for one in self.parser.required() if one not in self.given]
        if absent:
            lines = "".join(f"\n  {one}" for one in absent)
            self.parser.refuse(f"the following required arguments were not provided:{lines}", usage=())
        return self.values

    def _place(self, word: str) -> None:
        free = [action for action in self.places if action not in self.given]
        if not free:
            self._unexpected(word)
        self._store(free[0], word)

    def _letters(self, word: str) -> None:
        """``-qm``, ``-oFILE``, ``-o=FILE``."""
        at = 1
        while at < len(word):
            name = f"-{word[at]}"
            action = self.options.get(name)
            rest = word[at + 1 :]
            if action is None:
                self._unexpected(name)
            if action.nargs == 0 and not rest.startswith("="):
                self._option(name, None)
                at += 1
            else:
                self._option(name, rest.removeprefix("=") if rest else None)
                return

    def _option(self, name: str, value: str | None) -> None:
        action = self.options.get(name)
        if action is None:
            self._unexpected(name)
        if action.nargs == 0:
            if value is not None:
                self.parser.refuse(
                    f"unexpected value '{value}' for '{name}' found; no more were expected",
                    usage=(term(action),),
                )
            self._note(action)
            action(self.parser, self.values, [], name)
            return
        if value is None and action.nargs == "?":
            self._note(action)
            setattr(self.values, action.dest, action.const)
            return
        if value is None:
            value = self._next_value(action)
        self._store(action, value)

    def _next_value(self, action: argparse.Action) -> str:
        word = self.args[0] if self.args else "--"
        if word != "-" and word.startswith("-"):
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            if name != "--" and name not in self.options:
                self._unexpected(name)
            self.parser.refuse(
                f"a value is required for '{term(action)}' but none was supplied{_possible(action)}"
            )
        return self.args.pop(0)

    def _store(self, action: argparse.Action, text: str) -> None:
        self._note(action)
        value: Any = text
        try:
            if action.choices is not None and text not in action.choices:
                self.parser.refuse(f"invalid value '{text}' for '{term(action)}'{_possible(action)}")
            if callable(action.type):
                value = action.type(text)
        except argparse.ArgumentTypeError as error:
            self.parser.refuse(f"invalid value '{text}' for '{term(action)}': {error}")
        if isinstance(action, argparse._AppendAction):
            value = [*(getattr(self.values, action.dest) or []), value]
        setattr(self.values, action.dest, value)

    def _note(self, action: argparse.Action) -> None:
        repeatable = isinstance(action, argparse._AppendAction) or action.help is argparse.SUPPRESS
        if action in self.given and not repeatable:
            self.parser.refuse(
                f"the argument '{term(action)}' cannot be used multiple times", usage=("[OPTIONS]",)
            )
        self.given.append(action)

    def _unexpected(self, word: str) -> NoReturn:
        tip, usage = "", "[OPTIONS]"
        if word.startswith("-"):
            known = [name for name in self.options if name.startswith("--")]
            near = difflib.get_close_matches(word, known, n=1, cutoff=0.7) if word.startswith("--") else []
            if near:
                tip, usage = f"a similar argument exists: '{near[0]}'", term(self.options[near[0]])
            elif self.places:
                tip = f"to pass '{word}' as a value, use '-- {word}'"
        self.parser.refuse(f"unexpected argument '{word}' found", tip=tip, usage=(usage,))

    def _exclusions(self) -> None:
        by_name = {action.dest: action for action in self.given}
        for name, others in self.parser.excludes.items():
            met = [term(by_name[other]) for other in others if other in by_name]
            if name not in by_name or not met:
                continue
            first = term(by_name[name])
            rest = f" '{met[0]}'" if len(met) == 1 else ":" + "".join(f"\n  {one}" for one in met)
            self.parser.refuse(f"the argument '{first}' cannot be used with{rest}", usage=(first,))


def _possible(action: argparse.Action) -> str:
    return f"\n  [possible values: {', '.join(action.choices)}]" if action.choices else ""


def number(bits: int) -> Any:
    """A converter for unsigned numbers of *bits* bits."""

    def convert(text: str) -> int:
        digits = text.removeprefix("+")
        if not text:
            raise argparse.ArgumentTypeError("cannot parse integer from empty string")
        if not (digits.isascii() and digits.isdigit()):
            raise argparse.ArgumentTypeError("invalid digit found in string")
        digits = digits.lstrip("0") or "0"
        if len(digits) > 20 or int(digits) >= 1 << 64:
            raise argparse.ArgumentTypeError("number too large to fit in target type")
        if int(digits) >= 1 << bits:
            raise argparse.ArgumentTypeError(f"{digits} is not in 0..={(1 << bits) - 1}")
        return int(digits)

    return convert
