# SPDX-License-Identifier: Apache-2.0
"""containerd's filter language, as the List method has it.

A filter is a list of conditions with commas between them, all of which a snapshot must meet::

    kind==active,labels."containerd.io/gc.root",name~=|^default/.*/extract|

Fields are ``kind``, ``name``, ``parent`` and ``labels.KEY``; operators ``==``, ``!=`` and ``~=`` (a regular
expression that the value contains); without one, the field must be there. Of several filters, one must match.

Regular expressions are RE2's, as Go's are: no expression takes more time than one that is proportional to the
value. As in containerd, one that cannot be compiled matches nothing.

Authority: containerd v2.4.2, ``pkg/filters`` and ``adaptSnapshot`` in ``core/snapshots/storage/bolt.go``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lamella import logs
from lamella.errors import UnsupportedError, UsageError
from lamella.services.containerd.tokens import QuoteError, Scanner, Token, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lamella.store.snapshot_model import Snapshot

log = logs.logger(__name__)

MOST_BYTES = 1 << 16
"""How long the filters of one request may be together. containerd has no such limit but that of a message."""
_SHOWN = 500
"""Bytes of a filter that an error shows before and after the place; containerd shows all of it."""
_HINT = "a filter is FIELD==VALUE, FIELD!=VALUE, FIELD~=EXPRESSION or FIELD, several with commas between"


class _Expression(Protocol):
    def search(self, text: bytes) -> object: ...


def parse(filters: Iterable[str]) -> Callable[[Snapshot], bool]:
    """Whether a snapshot matches any of *filters*; all do if there are none.

    Raises :class:`UsageError` with containerd's message for what is not a filter.
    """
    texts = [text.encode() for text in filters]
    if sum(map(len, texts)) > MOST_BYTES:
        raise UsageError(f"the filters are longer than {MOST_BYTES} bytes", hint="ask for less at once")
    choices = [_Parser(text).filter() if text else [] for text in texts]
    if not choices:
        return lambda _: True
    return lambda snapshot: any(
        all(condition.met(snapshot) for condition in conditions) for conditions in choices
    )


@dataclass(frozen=True)
class _Condition:
    """One condition. *operator*: "" asks whether the field is there."""

    path: tuple[bytes, ...]
    operator: str = ""
    value: bytes = b""
    expression: _Expression | None = None

    def met(self, snapshot: Snapshot) -> bool:
        found = _field(snapshot, self.path)
        if self.operator == "":
            return found is not None
        if self.operator == "==":
            return found == self.value
        if self.operator == "!=":
            return (found or b"") != self.value
        return self.expression is not None and self.expression.search(found or b"") is not None


def _field(snapshot: Snapshot, path: tuple[bytes, ...]) -> bytes | None:
    """The value of the field at *path*, or None. What follows a name that is no map does not count."""
    if path[0] == b"kind":
        return snapshot.kind.name.lower().encode()
    if path[0] == b"name":
        return snapshot.key.encode()
    if path[0] == b"parent":
        return snapshot.parent.encode()
    if path[0] == b"labels":
        try:
            value = snapshot.labels.get(b".".join(path[1:]).decode())
        except UnicodeDecodeError:
            return None
        return None if value is None else value.encode()
    return None


def _compiled(expression: bytes) -> _Expression | None:
    try:
        import re2
    except ImportError as error:
        raise UnsupportedError(
            "filters with ~= need the package google-re2, which is not installed",
            hint="pip install google-re2, or filter the list that comes without",
        ) from error
    options = re2.Options()
    options.log_errors = False
    try:
        compiled: _Expression = re2.compile(expression, options)
    except re2.error as error:
        log.info("filter: %r is not a regular expression, and matches nothing: %s", expression, error)
        return None
    return compiled


def _shown_start(text: bytes, most: int) -> bytes:
    return text if len(text) <= most else text[:most] + b"..."


class _Parser:
    def __init__(self, text: bytes) -> None:
        self._text = text
        self._scanner = Scanner(text)

    def filter(self) -> list[_Condition]:
        conditions = [self._condition()]
        while following := self._scanner.peek():
            if following != ",":
                raise self._error(self._scanner.next_position, f"unexpected input: {following}")
            self._scanner.scan()
            conditions.append(self._condition())
        return conditions

    def _condition(self) -> _Condition:
        path = [self._name()]
        while self._scanner.peek() == ".":
            self._scanner.scan()
            path.append(self._name())
        if self._scanner.peek() in ("", ","):
            return _Condition(tuple(path))
        operator = self._operator()
        value = self._value(any_quotes=operator == "~=")
        return _Condition(tuple(path), operator, value, _compiled(value) if operator == "~=" else None)

    def _name(self) -> bytes:
        position, token, word = self._scanner.scan()
        if token is Token.FIELD:
            return word
        if token is Token.QUOTED:
            return self._unquoted(position, word, any_quotes=False)
        raise self._unexpected(position, token, "expected field or quoted")

    def _operator(self) -> str:
        position, token, word = self._scanner.scan()
        if token is not Token.OPERATOR:
            raise self._unexpected(position, token, 'expected an operator ("=="|"!="|"~=")')
        if word not in (b"==", b"!=", b"~="):
            raise self._error(position, f'unsupported operator "{word.decode()}"')
        return word.decode()

    def _value(self, *, any_quotes: bool) -> bytes:
        position, token, word = self._scanner.scan()
        if token in (Token.VALUE, Token.FIELD):
            return word
        if token is Token.QUOTED:
            return self._unquoted(position, word, any_quotes=any_quotes)
        raise self._unexpected(position, token, "expected value or quoted")

    def _unquoted(self, position: int, word: bytes, *, any_quotes: bool) -> bytes:
        if not any_quotes and not word.startswith(b'"'):
            raise self._error(position, "invalid quote encountered")
        try:
            return unquote(word)
        except QuoteError as error:
            raise self._error(position, f"unquoting failed: {error}") from error

    def _unexpected(self, position: int, token: Token, expected: str) -> UsageError:
        return self._error(position, self._scanner.error if token is Token.ILLEGAL else expected)

    def _error(self, position: int, message: str) -> UsageError:
        where = _shown_start(self._text, 2 * _SHOWN)
        if position < len(self._text):
            before, after = self._text[:position], self._text[position + 1 :]
            if len(before) > _SHOWN:
                before = b"..." + before[-_SHOWN:]
            at = self._text[position : position + 1]
            where = b"%b >|%b|< %b" % (before, at, _shown_start(after, _SHOWN))
        shown = where.decode(errors="replace")
        return UsageError(f"filters: parse error: [{shown}]: {message}", hint=_HINT)
