# SPDX-License-Identifier: Apache-2.0
"""``-S``: which rows a report shows. The grammar is that of lvmreport(7).

    any     = all { ("||" | "#") all }
    all     = one { ("&&" | ",") one }
    one     = "!" "(" any ")" | "(" any ")" | field operator value

Values are bare or quoted words, numbers, sizes with a unit (capital units are powers of 1000),
percentages, times, reserved words such as ``unknown``, or lists: ``[a,b]`` must match whole,
``{a,b}`` in part.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lamella.errors import UsageError
from lamella.lvm.report import values
from lamella.lvm.report.fields import (
    ALL_OF,
    BINARY,
    LIST,
    NUMBER,
    PERCENT,
    SIGNED,
    SIZE,
    TIME,
    Field,
    fields,
    find_field,
)
from lamella.lvm.report.units import unit_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.report.view import Row

    Test = Callable[[Row], bool]

OPERATORS = ("=~", "!~", "!=", ">=", "<=", "=", ">", "<", "since", "after", "until", "before")
_TIME_WORDS = {"since": ">=", "after": ">", "until": "<=", "before": "<"}
_NAME = re.compile(r"[A-Za-z0-9_]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PAIRS = {"'": "'", '"': '"', "(": ")", "[": "]", "{": "}"}
RESERVED: dict[str, dict[str, Any]] = {
    "lv_read_ahead": {"auto": "auto"},
    "vg_mda_copies": {"unmanaged": "unmanaged"},
    "vg_permissions": {"rw": "writeable", "read-write": "writeable", "r": "read-only", "ro": "read-only"},
    "lv_permissions": {
        "rw": "writeable",
        "read-write": "writeable",
        "r": "read-only",
        "ro": "read-only",
        "ro-override": "read-only-override",
        "r-override": "read-only-override",
        "R": "read-only-override",
    },
    "lv_when_full": {
        "error when full": "error",
        "error if no space": "error",
        "queue when full": "queue",
        "queue if no space": "queue",
        "undefined": "",
    },
    "cache_policy": {"undefined": ""},
    "seg_monitor": {"undefined": ""},
    "lv_health_status": {"undefined": ""},
    "kernel_discards": {"undefined": ""},
    "vdo_write_policy": {"undefined": ""},
}
"""Other words for values of single fields."""
UNDEFINED = ("-1", "unknown", "undefined", "undef")


class SelectionError(UsageError):
    """The selection cannot be understood. LVM2 exits with 5 then."""

    exit_code = 5


@dataclass(slots=True)
class Selection:
    """A parsed selection: the fields that it needs, and whether it holds for a row."""

    fields: list[str]
    holds: Test

    @classmethod
    def parse(cls, text: str, kind: str) -> Selection:
        """From the text of ``-S`` in a report of *kind*. Raises :class:`SelectionError`."""
        if text.strip() in ("", "all"):
            return cls([], lambda row: True)
        parser = _Parser(text, kind)
        try:
            test = parser.any()
        except RecursionError as error:
            raise parser.error("Parentheses nested too deeply", 0) from error
        parser.space()
        if parser.at < len(text):
            raise parser.error("Expecting logical operator")
        return cls(parser.names, test)


class _Parser:
    def __init__(self, text: str, kind: str) -> None:
        self.text = text
        self.kind = kind
        self.at = 0
        self.names: list[str] = []

    def error(self, reason: str, at: int | None = None) -> SelectionError:
        rest = self.text[self.at if at is None else at :]
        return SelectionError(
            f"{reason}\nSelection syntax error at '{rest}'.\nUse 'help' for selection to get more help."
        )

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, *words: str) -> str:
        self.space()
        for word in words:
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return word
        return ""

    # -- logic -----------------------------------------------------------------------------------

    def any(self) -> Test:
        tests = [self.all()]
        while self.take("||", "#"):
            tests.append(self.all())
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def all(self) -> Test:
        tests = [self.one()]
        while self.take("&&", ","):
            tests.append(self.one())
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def one(self) -> Test:
        if self.take("!"):
            if not self.take("("):
                raise SelectionError(f"Syntax error: left parenthesis expected at '{self.text[self.at :]}'")
            inner = self._closed()
            return lambda row: not inner(row)
        if self.take("("):
            return self._closed()
        return self.comparison()

    def _closed(self) -> Test:
        test = self.any()
        if not self.take(")"):
            raise SelectionError(f"Syntax error: right parenthesis expected at '{self.text[self.at :]}'")
        return test

    # -- comparisons -----------------------------------------------------------------------------

    def comparison(self) -> Test:
        self.space()
        start = self.at
        found = _NAME.match(self.text, self.at)
        if not found:
            raise self.error("Expecting field name")
        name = find_field(found[0], self.kind)
        if name is None or name in ALL_OF:
            raise self.error(f"Unrecognised selection field: {found[0]}", start)
        field = fields()[name]
        self.at = found.end()
        operator = self.take(*OPERATORS)
        if not operator:
            raise self.error(f"Unrecognised comparison operator: {self.text[self.at :]}", start)
        if operator in _TIME_WORDS:
            if field.kind != TIME:
                raise self.error(f"Operator can be used only with time fields: {operator}", start)
            operator = _TIME_WORDS[operator]
        self.names.append(name)
        self.space()
        if operator in ("=~", "!~"):
            return self._regex(field, operator, start)
        if field.kind == LIST:
            return self._list(field, operator, start)
        if field.kind == TIME:
            return self._time(field, operator, start)
        if field.kind in (NUMBER, SIGNED, SIZE, PERCENT, BINARY):
            return self._number(field, operator, start)
        return self._string(field, operator, start)

    def word(self, ends: str = ",#()[]{}") -> str:
        """A quoted word, or a bare one up to white space, a mark of logic or one of *ends*."""
        text = self.text
        if self.at < len(text) and text[self.at] in "'\"":
            end = text.find(text[self.at], self.at + 1)
            if end < 0:
                raise self.error("Missing end quote.")
            found = text[self.at + 1 : end]
            self.at = end + 1
            return found
        start = self.at
        while self.at < len(text):
            if text[self.at].isspace() or text[self.at] in ends or text.startswith(("&&", "||"), self.at):
                break
            self.at += 1
        return text[start : self.at]

    def _regex(self, field: Field, operator: str, start: int) -> Test:
        if field.kind in (LIST, NUMBER, SIGNED, SIZE, PERCENT, TIME, BINARY):
            raise SelectionError(f"dm_report: incompatible comparison type for selection field {field.name}")
        text = self.text
        if self.at < len(text) and text[self.at] in _PAIRS:
            end = text.find(_PAIRS[text[self.at]], self.at + 1)
            if end < 0:
                raise self.error(
                    f"Missing end quote.\nFailed to parse regex value for selection field {field.name}.",
                    start,
                )
            pattern = text[self.at + 1 : end]
            self.at = end + 1
        else:
            found = re.match(r"\S*", text[self.at :])
            pattern = found[0] if found else ""
            self.at += len(pattern)
        try:
            with warnings.catch_warnings():  # of what a later Python may mean by "[["
                warnings.simplefilter("ignore", FutureWarning)
                search = re.compile(pattern).search
        except (re.error, OverflowError, RecursionError) as error:
            raise self.error(
                f"Failed to parse regex value for selection field {field.name}.", start
            ) from error
        get = _text_getter(field)
        wanted = operator == "=~"
        return lambda row: (search(get(row)) is not None) is wanted

    def _string(self, field: Field, operator: str, start: int) -> Test:
        if operator not in ("=", "!="):
            raise self.error(
                f"Operator can be used only with number, size, time or percent fields: {self.text[start:]}",
                start,
            )
        word = self.word()
        word = RESERVED.get(field.name, {}).get(word, word)
        get = _text_getter(field)
        wanted = operator == "="
        return lambda row: (get(row) == word) is wanted

    def _number(self, field: Field, operator: str, start: int) -> Test:
        value_at = self.at
        word = self.word()
        special = RESERVED.get(field.name, {})
        get = values.getter(field)
        if field.kind == BINARY:
            return self._binary(field, operator, word, start)
        target: float
        if word in special:
            target = values.ENDLESS
        elif field.kind in (NUMBER, SIGNED) and word in UNDEFINED:
            target = -1
        else:
            self.at = value_at
            target = self._quantity(field, start)
        compare = _COMPARE[operator]
        return lambda row: _compare(compare, operator, values.sort_key(field, get(row)), target, field)

    def _quantity(self, field: Field, start: int) -> float:
        quote = self.text[self.at : self.at + 1]
        quoted = quote in ("'", '"') and quote != ""
        if quoted:
            self.at += 1
        found = _NUMBER.match(self.text, self.at)
        if not found:
            raise self.error(f"Failed to parse numeric value for selection field {field.name}.", start)
        self.at = found.end()
        number = float(found[0])
        if field.kind == SIZE:
            letter = self.text[self.at : self.at + 1]
            if letter and letter in "bBsSkKmMgGtTpPeE":
                self.at += 1
                number *= unit_bytes(letter)
            else:
                number *= 1 << 20
        elif field.kind == PERCENT and self.text[self.at : self.at + 1] == "%":
            self.at += 1
        if quoted and self.take(quote) != quote:
            raise self.error("Missing end quote.", start)
        return number

    def _binary(self, field: Field, operator: str, word: str, start: int) -> Test:
        if word in UNDEFINED:
            target = -1
        elif word in ("1", "yes", "y") or word in field.words:
            target = 1
        elif word in ("0", "no", "n"):
            target = 0
        else:
            raise self.error(f"Failed to parse numeric value for selection field {field.name}.", start)
        compare = _COMPARE[operator]
        get = values.getter(field)

        def test(row: Row) -> bool:
            value = get(row)
            number = -1 if value is None else 0 if value == "" else int(bool(value))
            return compare(number, target)

        return test

    def _time(self, field: Field, operator: str, start: int) -> Test:
        text = self.text
        if self.at < len(text) and text[self.at] in "'\"":
            word = self.word()
        else:
            found = re.match(r"[^,#()&|]*", text[self.at :])
            word = found[0].strip() if found else ""
            self.at += len(found[0]) if found else 0
        from lamella.lvm.report.times import parse_period

        period = parse_period(word)
        if period is None:
            raise self.error(f"Failed to parse time value for selection field {field.name}.", start)
        first, last = period
        get = values.getter(field)

        def test(row: Row) -> bool:
            at = get(row)
            if not isinstance(at, int):
                return False
            match operator:
                case "=":
                    return first <= at <= last
                case "!=":
                    return not first <= at <= last
                case ">=":
                    return at >= first
                case ">":
                    return at > last
                case "<=":
                    return at <= last
            return at < first

        return test

    def _list(self, field: Field, operator: str, start: int) -> Test:
        if operator not in ("=", "!="):
            raise self.error(
                f"Operator can be used only with number, size, time or percent fields: {self.text[start:]}",
                start,
            )
        opening = self.take("[", "{")
        every = True
        items: list[str] = []
        if opening:
            closing = _PAIRS[opening]
            failed = f"Failed to parse string list value for selection field {field.name}."
            joined: set[bool] = set()
            while True:
                if self.at >= len(self.text):
                    raise self.error(f"Missing list end for selection field {field.name}\n{failed}", start)
                if self.take(closing):
                    break
                items.append(self.word(ends=f",#{closing}"))
                mark = self.take("&&", ",", "||", "#")
                if mark:
                    joined.add(mark in ("&&", ","))
                elif not self.text.startswith(closing, self.at):
                    raise self.error(f"Invalid operator in selection list.\n{failed}", start)
                if len(joined) > 1:
                    why = "Only one type of logical operator allowed in selection list at a time."
                    raise self.error(f"{why}\n{failed}", start)
            every = False not in joined
        else:
            items.append(self.word())
        items = [item for item in items if item]
        whole = opening == "["
        get = values.getter(field)

        def holds(row: Row) -> bool:
            value = get(row)
            have = set(value.split() if isinstance(value, str) else value)
            if not items:
                return not have
            if not every:
                return any(item in have for item in items)
            return have == set(items) if whole else all(item in have for item in items)

        wanted = operator == "="
        return lambda row: holds(row) is wanted


def _text_getter(field: Field) -> Callable[[Row], str]:
    get = values.getter(field)
    if field.name == "lv_name":
        return lambda row: str(get(row)).strip("[]").removeprefix("-")
    return lambda row: str(get(row))


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    ">=": lambda one, other: one >= other,
    ">": lambda one, other: one > other,
    "<=": lambda one, other: one <= other,
    "<": lambda one, other: one < other,
}


def _compare(
    compare: Callable[[float, float], bool], operator: str, value: float, target: float, field: Field
) -> bool:
    """Values that are not there, and ``auto``, are neither greater nor less than anything."""
    if operator in ("=", "!="):
        return compare(value, target)
    if value in (-1, values.ENDLESS) and field.kind != SIGNED:
        return False
    return compare(value, target)


HELP = """\
  Selection operands
  ------------------
    field               - A field of the report, see -o help.
    number              - A whole number.
    size                - A number with a unit, 'm' without one.
    percent             - A number with or without %.
    string              - Bare, or in ' or ".
    string list         - Strings in [ ] (all of the value) or { } (a part of it), between them
                          , or && (each must be there) or || or # (one must be there).
    regular expression  - Bare, or in ' or ".
    time                - A date, a time, or words such as 'yesterday' and '2 weeks ago'.

  Selection operators
  -------------------
    =~ !~               - Matches, or does not match, a regular expression.
    = !=                - Equal, not equal.
    >= > <= <           - For numbers, sizes, percentages and times.
    since after until before
                        - The same for times.
    && ,                - Both sides must hold.
    || #                - One side must hold.
    ! ( )               - Not; grouping.
"""
