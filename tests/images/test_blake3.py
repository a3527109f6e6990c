# SPDX-License-Identifier: Apache-2.0
"""blake3 digests, by the package of that name: hashlib has none."""

from __future__ import annotations

import sys

import pytest

from lamella.errors import BadInputError, MissingError
from lamella.images.digest import digest_of, digest_problem, new_hasher, verify_bytes

BLAKE3_EMPTY = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
"""BLAKE3-team/BLAKE3, test_vectors.json: the first 32 bytes for an empty input."""


def test_blake3() -> None:
    """OCI image specification, descriptor.md: `blake3` is BLAKE3-256, 64 lower-case hexadecimal digits."""
    pytest.importorskip("blake3", reason="blake3 digests need the package blake3")
    assert digest_of(b"", "blake3") == BLAKE3_EMPTY
    assert new_hasher(BLAKE3_EMPTY).hexdigest() == BLAKE3_EMPTY.partition(":")[2]
    verify_bytes(b"", BLAKE3_EMPTY, "it")
    with pytest.raises(BadInputError, match="it does not have the digest"):
        verify_bytes(b"x", BLAKE3_EMPTY, "it")


def test_blake3_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(MissingError, match="the Python package blake3"):
        new_hasher(BLAKE3_EMPTY)
    assert digest_of(b"", "sha256").startswith("sha256:e3b0c442")


@pytest.mark.parametrize("text", [BLAKE3_EMPTY[:-1], BLAKE3_EMPTY.upper(), BLAKE3_EMPTY + "00"])
def test_what_is_no_blake3_digest(text: str) -> None:
    assert digest_problem(text) is not None
    assert digest_problem(BLAKE3_EMPTY) is None
