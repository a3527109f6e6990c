# SPDX-License-Identifier: Apache-2.0
"""Content digests (``sha256:<hex>``): checking their form, and computing them.

The form is the OCI image specification's (descriptor.md, "Digests"); the three algorithms are the
ones that Docker's go-digest registers.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Protocol

from lamella.errors import BadInputError

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_FORM = re.compile(r"([A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*):([0-9a-zA-Z=_-]+)")
_HEX = re.compile(r"[0-9a-f]+")


class Hasher(Protocol):
    """What :mod:`hashlib` gives."""

    def update(self, data: Buffer, /) -> None: ...

    def hexdigest(self) -> str: ...


def digest_problem(text: str) -> str | None:
    """Why *text* is not a digest that can be checked here, or None."""
    found = _FORM.fullmatch(text)
    if not found:
        return "invalid digest format"
    length = HEX_LENGTH.get(found[1])
    if length is None:
        return "unsupported digest algorithm"
    if len(found[2]) != length or not _HEX.fullmatch(found[2]):
        return f"invalid digest: {found[1]} needs {length} lower-case hexadecimal digits"
    return None


def check_digest(text: str, what: str) -> str:
    """*text* if it is a digest; else :class:`BadInputError` that says where (*what*) it stood."""
    problem = digest_problem(text)
    if problem:
        raise BadInputError(f"{what} has the digest {text[:140]!r}: {problem}")
    return text


def new_hasher(digest: str) -> Hasher:
    """An empty hash of the algorithm that *digest* (already checked) is in."""
    return hashlib.new(digest.partition(":")[0], usedforsecurity=True)


def digest_of(data: Buffer, algorithm: str = "sha256") -> str:
    """The digest of *data*."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def verify_bytes(data: Buffer, digest: str, what: str) -> None:
    """Raise :class:`BadInputError` unless *data* has *digest* (already checked for its form)."""
    found = digest_of(data, digest.partition(":")[0])
    if found != digest:
        raise BadInputError(
            f"{what} does not have the digest it should have: {digest} expected, {found} found"
        )


def file_name(digest: str) -> str:
    """*digest* as the name of a file."""
    return digest.replace(":", "-")
