# SPDX-License-Identifier: Apache-2.0
"""LVM2's configuration text: lexer and parser, from a string to nested dictionaries in order.

Grammar (libdm/libdm-config.c)::

    file    = { section | assignment }
    section = key "{" { section | assignment } "}"
    key     = bare | "quoted" | 'raw' ; a "/" in it opens sections ("global/units" = "global { units")
    value   = integer | float | "escaped" | 'raw' | bare word | "[" value [","] value ... "]"
    "#" starts a comment that ends with the line; a NUL ends the text

The same grammar holds for volume group metadata and for ``lvm.conf`` and its profiles.
"""

from __future__ import annotations

import re

from lamella.errors import CorruptError

Scalar = int | float | str
Value = Scalar | list[Scalar]
Section = dict[str, "Value | Section"]

MAX_DEPTH = 64
"""Deepest nesting that is followed; LVM's own texts have six levels."""


class Bare(str):
    """A string that stood without quotes, and is written back so."""

    __slots__ = ()


_SPACE = re.compile(r"(?:[ \t\n\r\f\v]+|#[^\n]*)*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'', re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d*\.\d*|\d+)")
_WORD = re.compile(r"[^\s#={}]+")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

# The shape of every line that LVM2 itself writes; other shapes go to the full parser.
_KEY = re.compile(r"[A-Za-z0-9_.+-]+")
_SIMPLE = re.compile(r'(?:(-?[1-9]\d{0,17}|0)|"([^"\\]*)"|\[((?:"[^"\\]*"(?:, )?)*)\])\s*(?:#.*)?')
_ITEM = re.compile(r'"([^"\\]*)"|(\d+)')
_AREA_LINE = re.compile(r'(?:"[^"\\]*"|\d{1,18})(?:, (?:"[^"\\]*"|\d{1,18}))*,?')

INVALID_TIME = "WARNING: Invalid creation_time found in metadata (repaired with next metadata update)."
REPLACED_TIME = 1527120000
"""What LVM2 takes for a ``creation_time`` that does not fit into 64 bits, which LVM2 of 32 bits could write
before 2.02.169: 2018-05-24."""


def parse(text: str, *, merge: bool = False, warn: list[str] | None = None) -> Section:
    """Read *text*; ``merge`` joins sections that occur twice and lets a later value win (``lvm.conf``).

    Without it the first of two equal keys wins, as when LVM looks up volume group metadata. LVM's warnings
    about what was read are added to *warn*. Raises :class:`CorruptError` with LVM's message and the line
    number where the grammar is broken.
    """
    end = text.find("\0")
    if end >= 0:
        text = text[:end]
    if not merge:
        quick = _parse_lines(text)
        if quick is not None:
            return quick
    return _Parser(text, merge, [] if warn is None else warn).file()


def _parse_lines(text: str) -> Section | None:
    """The text if every line has the shape in which LVM writes it, else None. Five times as fast."""
    root: Section = {}
    current: Section = root
    above: list[Section] = []
    items: list[Scalar] | None = None
    simple: dict[str, Value | None] = {}
    keys: set[str] = set()
    for whole in text.split("\n"):
        line = whole.strip(" \t")
        if not line:
            continue
        if items is not None:
            if line == "]":
                items = None
            elif _AREA_LINE.fullmatch(line):
                for string, number in _ITEM.findall(line):
                    items.append(int(number) if number else string)
            else:
                return None
            continue
        key, equals, rest = line.partition(" = ")
        if equals:
            if key not in keys:
                if line[0] == "#":
                    continue
                if not _KEY.fullmatch(key):
                    return None
                keys.add(key)
            if key in current:
                return None
            if rest == "[":
                items = []
                current[key] = items
                continue
            if rest in simple:
                value = simple[rest]
            else:
                value = simple[rest] = _simple_value(rest)
            if value is None:
                return None
            current[key] = list(value) if isinstance(value, list) else value
        elif line[-1] == "{":
            key = line[:-1].rstrip()
            if not _KEY.fullmatch(key) or key in current or len(above) >= MAX_DEPTH:
                return None
            above.append(current)
            inner: Section = {}
            current[key] = inner
            current = inner
        elif line == "}":
            if not above:
                return None
            current = above.pop()
        elif line[0] != "#":
            return None
    return None if above or items is not None else root


def _simple_value(rest: str) -> Value | None:
    found = _SIMPLE.fullmatch(rest)
    if not found:
        return None
    number, string, listed = found.groups()
    if number is not None:
        return int(number)
    if string is not None:
        return str(string)
    return [item for item, _number in _ITEM.findall(listed)]


class _Parser:
    """Recursive descent without recursion: sections are kept on a stack."""

    def __init__(self, text: str, merge: bool, warn: list[str]) -> None:
        self.text = text
        self.merge = merge
        self.warn = warn
        self.at = 0

    def fail(self, expected: str) -> CorruptError:
        line = self.text.count("\n", 0, self.at) + 1
        return CorruptError(
            f"Parse error at byte {self.at + 1} (line {line}): {expected}",
            hint="the text is damaged or was edited by hand; restore it from a backup",
        )

    def skip(self) -> str:
        """Pass space and comments; return the next character, "" at the end."""
        found = _SPACE.match(self.text, self.at)
        if found:
            self.at = found.end()
        return self.text[self.at : self.at + 1]

    def file(self) -> Section:
        root: Section = {}
        stack: list[Section] = [root]
        while following := self.skip():
            if following == "}":
                if len(stack) == 1:
                    raise self.fail("unexpected token")
                self.at += 1
                stack.pop()
                continue
            path = self.key()
            following = self.skip()
            if following == "{":
                self.at += 1
                if len(stack) >= MAX_DEPTH:
                    raise self.fail("sections are nested too deeply")
                stack.append(self.open(stack[-1], path))
            elif following == "=":
                self.at += 1
                target = self.open(stack[-1], path[:-1]) if len(path) > 1 else stack[-1]
                value = self.value(path[-1])
                if self.merge or path[-1] not in target:
                    target[path[-1]] = value
            else:
                raise self.fail("unexpected token")
        if len(stack) > 1:
            raise self.fail("unexpected token")
        return root

    def key(self) -> list[str]:
        following = self.text[self.at]
        if following in "\"'":
            name = self.string()
        else:
            found = _WORD.match(self.text, self.at)
            if not found:
                raise self.fail("unexpected token")
            self.at = found.end()
            name = found[0]
        path = [part for part in name.split("/") if part]
        if not path or len(path) > MAX_DEPTH:
            raise self.fail("empty section identifier")
        return path

    def open(self, section: Section, path: list[str]) -> Section:
        """The section at *path*, made where it is not there; a second one of a name joins or is dropped."""
        for name in path:
            inner = section.get(name)
            if not isinstance(inner, dict):
                inner = {}
                if self.merge or name not in section:
                    section[name] = inner
            elif not self.merge and name == path[-1]:
                inner = {}
            section = inner
        return section

    def string(self) -> str:
        found = _STRING.match(self.text, self.at)
        if not found:
            raise self.fail("expected a string token.")
        self.at = found.end()
        inner = found[0][1:-1]
        return _ESCAPE.sub(r"\1", inner) if found[0][0] == '"' and "\\" in inner else inner

    def value(self, key: str) -> Value:
        if self.skip() != "[":
            return self.scalar(key, words=True)
        self.at += 1
        items: list[Scalar] = []
        words = True
        while (following := self.skip()) != "]":
            if not following:
                raise self.fail("expected a value")
            items.append(self.scalar(key, words=words))
            words = self.skip() == ","
            if words:
                self.at += 1
        self.at += 1
        return items

    def scalar(self, key: str, *, words: bool) -> Scalar:
        """One value of *key*; numbers and bare words stand only after "=", "[" or "," (*words*)."""
        following = self.skip()
        if following and following in "\"'":
            return self.string()
        if not words or not following or following in "{}[],=":
            raise self.fail("expected a value")
        if following in "+-.0123456789":
            found = _NUMBER.match(self.text, self.at)
            if not found:
                raise self.fail("expected a value")
            self.at = found.end()
            return self.number(key, found[0])
        found = _WORD.match(self.text, self.at)
        if not found:
            raise self.fail("expected a value")
        self.at = found.end()
        return Bare(found[0])

    def real(self, digits: str) -> float:
        value = float(digits)
        if value in (float("inf"), float("-inf")):
            raise self.fail("Failed to read float token.")
        return value

    def number(self, key: str, digits: str) -> Scalar:
        try:
            if "." in digits:
                return self.real(digits)
            plain = digits.lstrip("+-")
            # As C's strtoll reads it with base 0: a leading 0 means octal.
            value = int(plain, 8) if len(plain) > 1 and plain[0] == "0" else int(plain)
        except ValueError:
            raise self.fail("expected a value") from None
        value = -value if digits[0] == "-" else value
        if not -(1 << 63) <= value < 1 << 63:
            if key == "creation_time":
                self.warn.append(INVALID_TIME)
                return REPLACED_TIME
            raise self.fail("Failed to read int token.")
        return value


def quote(text: str) -> str:
    """*text* in double quotes, with ``"`` and backslash escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_key(key: str) -> str:
    """*key* as it may stand before a value or a section: in quotes where it is not one plain word."""
    return key if _KEY.fullmatch(key) else quote(key)


def write_value(value: Value, *, separator: str = ", ") -> str:
    """One value as LVM writes it."""
    if isinstance(value, list):
        return "[" + separator.join(write_value(item) for item in value) + "]"
    if isinstance(value, Bare):
        return str(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, float):
        return f"{value:f}"
    return str(int(value))


def write_nodes(section: Section, indent: int = 0) -> list[str]:
    """*section* as libdm writes a tree of nodes: ``key=value`` without spaces, tabs for depth."""
    lines = []
    space = "\t" * min(indent, 5)
    for key, value in section.items():
        name = quote(key) if any(mark in key for mark in '#"!') else write_key(key)
        if isinstance(value, dict):
            lines.append(f"{space}{name} {{")
            lines += write_nodes(value, indent + 1)
            lines.append(f"{space}}}")
        else:
            lines.append(f"{space}{name}={write_value(value, separator=',')}")
    return lines
