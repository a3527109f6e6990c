# SPDX-License-Identifier: Apache-2.0
"""Content digests (``sha256:<hex>``): checking their form, and computing them.

The form is the OCI image specification's (descriptor.md, "Digests"); the algorithms are the ones that it
registers, sha256, sha512 and blake3, and Docker's go-digest besides, sha384.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Protocol

from lamella.errors import BadInputError, MissingError

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128, "blake3": 64}
_FORM = re.compile(r"([A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*):([0-9a-zA-Z=_-]+)")
_HEX = re.compile(r"[0-9a-f]+")


class Hasher(Protocol):
    """What :mod:`hashlib` gives."""

    def update(self, data: Buffer, /) -> object: ...

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
    return _new(digest.partition(":")[0])


def digest_of(data: Buffer, algorithm: str = "sha256") -> str:
    """The digest of *data*."""
    hasher = _new(algorithm)
    hasher.update(data)
    return f"{algorithm}:{hasher.hexdigest()}"


def _new(algorithm: str) -> Hasher:
    if algorithm != "blake3":
        return hashlib.new(algorithm, usedforsecurity=True)
    try:
        from blake3 import blake3  # only for who meets one: hashlib has none
    except ImportError as error:
        raise MissingError(
            "blake3 digests need the Python package blake3, which is not installed", hint="pip install blake3"
        ) from error
    hasher: Hasher = blake3()
    return hasher


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
