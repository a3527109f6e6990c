# SPDX-License-Identifier: Apache-2.0
"""The words of containerd's filter language.

Authority: containerd v2.4.2, ``pkg/filters`` (``scanner.go``, ``quote.go``), whose positions are offsets in
bytes: that is why bytes are read here and not characters.
"""

from __future__ import annotations

import unicodedata
from enum import Enum, auto

_SPACES = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {
    chr(code) for code in range(0x2000, 0x200B)
}
"""Unicode's property White_Space; :meth:`str.isspace` has four control characters more."""
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}
_DIGITS = {"x": 2, "u": 4, "U": 8}
_OCTAL = "01234567"
_HEX = "0123456789abcdefABCDEF"
_LAST_CODE = 0x10FFFF
QUOTES = '/|"'


class Token(Enum):
    """What a word is."""

    END = auto()
    QUOTED = auto()
    VALUE = auto()
    FIELD = auto()
    SEPARATOR = auto()
    OPERATOR = auto()
    ILLEGAL = auto()
    OTHER = auto()
    """A character that begins none of these."""


class QuoteError(ValueError):
    """A quoted word has an escape that means nothing."""

    def __init__(self) -> None:
        super().__init__("quote syntax error")


class Scanner:
    """Reads *text*, which is UTF-8, word by word. *error* says what was wrong with the first illegal one."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._position = 0
        self.next_position = 0
        """Where what has not been read begins."""
        self._value = False
        self.error = ""

    def peek(self) -> str:
        """The next character; "" at the end, and "\\ufffd" for one that is not allowed anywhere."""
        position, following = self._position, self.next_position
        found = self._next()
        self._position, self.next_position = position, following
        return found

    def scan(self) -> tuple[int, Token, bytes]:
        """Read one word: where it begins, what it is, and its text."""
        found = self._next()
        while found and found in _SPACES:
            found = self._next()
        start = self._position
        if not found or found == "\ufffd":
            return start, Token.ILLEGAL if found else Token.END, b""
        if found in QUOTES:
            token = Token.QUOTED if self._quoted(found) else Token.ILLEGAL
        elif found in ",.":
            self._value = False
            token = Token.SEPARATOR
        elif found in "=!~":
            while self.peek() and self.peek() in "=!~":
                self._next()
            self._value = True
            token = Token.OPERATOR
        elif self._value:
            while _is_of_value(self.peek()):
                self._next()
            self._value = False
            token = Token.VALUE
        elif _is_of_field(found):
            while _is_of_field(self.peek()):
                self._next()
            token = Token.FIELD
        else:
            return start, Token.OTHER, b""
        return start, token, self._text[start : self.next_position]

    def _next(self) -> str:
        if self._position >= len(self._text):
            return ""
        self._position = self.next_position
        if self._position >= len(self._text):
            return ""
        first = self._text[self._position]
        length = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
        self.next_position += length
        found = self._text[self._position : self.next_position].decode()
        if found == "\ufffd":
            self._note("rune error")
        elif found == "\0":
            self._note("unexpected null")
            return "\ufffd"
        return found

    def _note(self, message: str) -> None:
        self.error = self.error or message

    def _quoted(self, quote: str) -> bool:
        legal = True
        found = self._next()
        while found != quote:
            if found in ("", "\n", "\ufffd"):
                self._note("quoted literal not terminated")
                return False
            if found == "\\":
                found, allowed = self._escape(quote)
                legal = legal and allowed
            else:
                found = self._next()
        return legal

    def _escape(self, quote: str) -> tuple[str, bool]:
        """What follows the escape after a backslash, and whether there was one."""
        found = self._next()
        if found and (found in _ESCAPES or found == quote):
            return self._next(), True
        if found and found in _OCTAL:
            return self._digits(found, _OCTAL, 3)
        if found in _DIGITS:
            return self._digits(self._next(), _HEX, _DIGITS[found])
        self._note("illegal escape sequence")
        return found, False

    def _digits(self, found: str, allowed: str, count: int) -> tuple[str, bool]:
        while count and found and found in allowed:
            found = self._next()
            count -= 1
        if count:
            self._note("illegal numeric escape sequence")
        return found, not count


def unquote(word: bytes) -> bytes:
    """What a quoted *word* says; not UTF-8 where its escapes say so. Raises :class:`QuoteError`."""
    quote = chr(word[0])
    text = word[1:-1].decode()
    said = bytearray()
    position = 0
    while position < len(text):
        if text[position] != "\\":
            said += text[position].encode()
            position += 1
            continue
        kind = text[position + 1 : position + 2]
        position += 2
        if kind in _DIGITS:
            digits = text[position : position + _DIGITS[kind]]
            position += len(digits)
            said += _character(kind, digits)
        elif kind and kind in _OCTAL:
            code = int(text[position - 1 : position + 2], 8)
            position += 2
            if code > 0xFF:
                raise QuoteError
            said.append(code)
        else:
            said.append(_ESCAPES.get(kind, ord(quote)))
    return bytes(said)


def _character(kind: str, digits: str) -> bytes:
    code = int(digits, 16)
    if kind == "x":
        return bytes([code])
    if code > _LAST_CODE:
        raise QuoteError
    # Go writes a half of a surrogate pair, which is no character, as the replacement character.
    return ("\ufffd" if 0xD800 <= code < 0xE000 else chr(code)).encode()


def _is_of_field(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def _is_of_value(character: str) -> bool:
    if not character or character in _SPACES or character in (",", "\ufffd"):
        return False
    return unicodedata.category(character)[0] in "LMNPS"
