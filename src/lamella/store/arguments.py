# SPDX-License-Identifier: Apache-2.0
"""What programs pass to the store, checked: a wrong type is one clear error, before anything is done."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lamella.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def text(value: Any, what: str) -> str:
    """*value* if it is a text. Raises :class:`UsageError`."""
    if not isinstance(value, str):
        raise _wrong(value, what, "a text")
    return value


def texts(values: Any, what: str) -> Sequence[str]:
    """*values* if they are several texts; one text alone is hardly meant as a list of its letters."""
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise _wrong(values, what, "a list of texts")
    return [text(value, what) for value in values]


def whole(value: Any, what: str) -> int:
    """*value* if it is a whole number, such as a size in bytes."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(value, what, "a whole number of bytes")
    return value


def inside(path: Any, what: str = "path") -> bytes:
    """A path in an image or container, as bytes; a text is encoded as file names are."""
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if isinstance(path, str):
        return os.fsencode(path)
    if not isinstance(path, bytes):
        raise _wrong(path, what, "bytes or a text")
    return path


def place(path: Any, what: str) -> Any:
    """A path on this machine."""
    if not isinstance(path, str | os.PathLike):
        raise _wrong(path, what, "a path")
    return path


def place_or_stream(value: Any, what: str, method: str) -> Any:
    """A path on this machine, or an open binary file with *method*: "read" or "write"."""
    if isinstance(value, str | os.PathLike) or hasattr(value, method):
        return value
    raise _wrong(value, what, "a path or an open file")


def _wrong(value: Any, what: str, wanted: str) -> UsageError:
    return UsageError(
        f"{what} has to be {wanted}, not {type(value).__name__}: {value!r}",
        hint="see docs/reference/library.md",
    )
