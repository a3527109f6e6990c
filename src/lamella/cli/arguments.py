# SPDX-License-Identifier: Apache-2.0
"""Reading of a command line: options anywhere among the arguments, as Docker and getopt take them.

The tables are argparse's, which the help, the man pages and the completion are made from. The reading is not:
argparse refuses options between arguments, or not, depending on Python's version, and words its errors
differently in each.
"""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any, NoReturn

from lamella.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Parser(argparse.ArgumentParser):
    """A command's table of options and arguments; :meth:`read` reads a command line by it."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}", hint=f"see '{self.prog} --help'")

    def read(self, words: Sequence[str], before: Sequence[str] = ()) -> argparse.Namespace:
        """The values in *words*. Raises :class:`UsageError`.

        After ``--`` every word is an argument; a word that begins with a hyphen, and is not one alone, is
        else an option, or several letters. An option takes the next word as its value, whatever that is.
        *before* are options that stood before the command's name.
        """
        values = argparse.Namespace()
        for action in self._actions:
            if action.dest != argparse.SUPPRESS and action.default != argparse.SUPPRESS:
                setattr(values, action.dest, action.default)
        for name, value in self._defaults.items():
            setattr(values, name, value)
        arguments = [*self._take_options(before, values), *self._take_options(words, values)]
        self._take_arguments(arguments, values)
        return values

    # -- options ---------------------------------------------------------------------------------

    def _take_options(self, words: Sequence[str], values: argparse.Namespace) -> list[str]:
        """Put the options' values into *values*; returns the other words."""
        arguments: list[str] = []
        waiting = list(words)[::-1]
        while waiting:
            word = waiting.pop()
            if word == "--":
                return arguments + waiting[::-1]
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                self._take_option(self._option(name), name, value if equals else None, waiting, values)
            elif word.startswith("-") and word != "-":
                self._take_letters(word, waiting, values)
            else:
                arguments.append(word)
        return arguments

    def _take_letters(self, word: str, waiting: list[str], values: argparse.Namespace) -> None:
        """``-lR``, ``-oFILE`` or ``-o=FILE`` as well as one letter."""
        letters = word[1:]
        while letters:
            name, letters = f"-{letters[0]}", letters[1:]
            action = self._option(name, word)
            if action.nargs == 0:
                self._take_option(action, name, None, waiting, values)
                continue
            value = letters.removeprefix("=") if letters else None
            self._take_option(action, name, value, waiting, values)
            return

    def _option(self, name: str, word: str = "") -> argparse.Action:
        action = self._option_string_actions.get(name)
        if action is None:
            near = closest(word or name, self._option_string_actions)
            meant = f"did you mean {near}? " if near else ""
            where = "" if word in ("", name) else f" (in {word})"
            raise UsageError(
                f"{self.prog}: there is no option {name}{where}",
                hint=f"{meant}'{self.prog} --help' lists them; after -- come arguments that begin so",
            )
        return action

    def _take_option(
        self,
        action: argparse.Action,
        name: str,
        value: str | None,
        waiting: list[str],
        values: argparse.Namespace,
    ) -> None:
        if action.nargs == 0:
            if value is not None:
                self.error(f"option {name} takes no value, and {value!r} was given")
            action(self, values, [], name)
            return
        if value is None and action.nargs == "?":
            setattr(values, action.dest, action.const)  # it has a value only behind an equals sign
            return
        if value is None:
            if not waiting:
                self.error(f"option {name} needs a value: {name} {_value_name(action)}")
            value = waiting.pop()
        action(self, values, self._converted(action, value, f"option {name}"), name)

    def _converted(self, action: argparse.Action, text: str, what: str) -> Any:
        convert: Callable[[str], Any] = action.type if callable(action.type) else str
        try:
            value = convert(text)
        except argparse.ArgumentTypeError as error:
            self.error(f"{what}: {error}")
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            near = closest(text, known)
            meant = f"; did you mean {near}?" if near else ""
            self.error(f"{what}: {text!r} is not one of: {', '.join(known)}{meant}")
        return value

    # -- arguments -------------------------------------------------------------------------------

    def _take_arguments(self, words: list[str], values: argparse.Namespace) -> None:
        """Each argument gets as many words as it can, if those behind it still get the ones they need."""
        actions = [action for action in self._actions if not action.option_strings]
        needed = [action.nargs in (None, "+") for action in actions]
        if len(words) < sum(needed):
            missing = [action for action, must in zip(actions, needed, strict=True) if must][len(words) :]
            self.error(f"an argument is missing: {' '.join(map(_value_name, missing))}")
        at = 0
        for index, action in enumerate(actions):
            most = len(words) - at - sum(needed[index + 1 :])
            count = most if action.nargs in ("*", "+") else min(most, 1)
            mine = words[at : at + count]
            at += count
            if action.nargs in ("*", "+"):
                found = [self._converted(action, word, _value_name(action)) for word in mine]
                setattr(values, action.dest, found)
            elif mine:
                setattr(values, action.dest, self._converted(action, mine[0], _value_name(action)))
        if at < len(words):
            extra = " ".join(words[at:])
            self.error(
                f"more arguments than it takes: {extra}" if actions else f"it takes no argument: {extra}"
            )


def _value_name(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(str(choice) for choice in action.choices)
    return action.dest.upper().replace("_", "-")


def closest(typed: str, known: Iterable[str]) -> str | None:
    """The one of *known* that *typed* is hardly more than a slip of the fingers away from, or None."""
    near = difflib.get_close_matches(typed, list(known), n=1, cutoff=0.75)
    return near[0] if near else None
