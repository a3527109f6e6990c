# SPDX-License-Identifier: Apache-2.0
"""JSON from outside, read strictly: a value of the wrong type is an error that names its place."""

from __future__ import annotations

import json
from typing import NoReturn

from lamella.errors import BadInputError

MANIFEST_LIMIT = 4 << 20
"""Most bytes of a manifest or index; registries refuse more (distribution's ``maxManifestBodySize``)."""
CONFIG_LIMIT = 8 << 20
"""Most bytes of an image configuration."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Document:
    """A JSON object, with the name (*what*) by which errors call it.

    Each getter takes a missing member and ``null`` alike, as Go's decoder does; its default is what
    it then gives. A member of another type is a :class:`BadInputError`.
    """

    __slots__ = ("members", "what")

    def __init__(self, members: dict[str, Json], what: str) -> None:
        self.members = members
        self.what = what

    @classmethod
    def parse(cls, data: bytes, what: str) -> Document:
        """*data* as one JSON object."""
        value = parse_json(data, what)
        if not isinstance(value, dict):
            raise BadInputError(f"{what} is not a JSON object but {_kind(value)}")
        return cls(value, what)

    def __contains__(self, name: str) -> bool:
        return self.members.get(name) is not None

    def _wrong(self, name: str, wanted: str, value: Json) -> NoReturn:
        raise BadInputError(f"{self.what}: {name[:100]!r} should be {wanted} but is {_kind(value)}")

    def text(self, name: str, default: str = "") -> str:
        value = self.members.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self._wrong(name, "a string", value)
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:  # half a surrogate pair: not valid text
                raise BadInputError(f"{self.what}: {name[:100]!r} is not valid text") from error
        return value

    def number(self, name: str, default: int = 0) -> int:
        value = self.members.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
            self._wrong(name, "a whole number of 64 bits", value)
        return value

    def flag(self, name: str) -> bool:
        value = self.members.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            self._wrong(name, "true or false", value)
        return value

    def child(self, name: str) -> Document:
        """An object within; an empty one where there is none."""
        value = self.members.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            self._wrong(name, "an object", value)
        return Document(value, f"{self.what}, {name[:100]!r}")

    def children(self, name: str) -> list[Document]:
        """A list of objects."""
        found: list[Document] = []
        for number, value in enumerate(self._list(name)):
            if not isinstance(value, dict):
                self._wrong(f"{name}[{number}]", "an object", value)
            found.append(Document(value, f"{self.what}, {name!r} {number}"))
        return found

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        found: list[str] = []
        for number, value in enumerate(self._list(name)):
            if not isinstance(value, str):
                self._wrong(f"{name}[{number}]", "a string", value)
            found.append(value)
        return found

    def text_map(self, name: str) -> dict[str, str]:
        """An object whose members are all strings."""
        inner = self.child(name)
        return {key: inner.text(key) for key in inner.members}

    def _list(self, name: str) -> list[Json]:
        value = self.members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self._wrong(name, "a list", value)
        return value


def parse_json(data: bytes, what: str) -> Json:
    """One JSON value in UTF-8; anything else is a :class:`BadInputError`."""
    try:
        value: Json = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except RecursionError as error:
        raise BadInputError(f"{what} is nested too deeply to be read") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are kinds of it
        raise BadInputError(f"{what} is not valid JSON: {error}") from error
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number" if abs(value) < 1e15 else "an absurd number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"
