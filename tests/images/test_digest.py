# SPDX-License-Identifier: Apache-2.0
"""Digests: the form is the OCI image specification's (descriptor.md, "Digests"), and every digit counts."""

from __future__ import annotations

import hashlib

import pytest

from lamella.errors import BadInputError
from lamella.images.digest import check_digest, digest_of, digest_problem, file_name, new_hasher, verify_bytes

DATA = b"what is hashed"
ALGORITHMS = ["sha256", "sha384", "sha512"]


def _digest(algorithm: str) -> str:
    return f"{algorithm}:{getattr(hashlib, algorithm)(DATA).hexdigest()}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_gives_its_own_digest(algorithm: str) -> None:
    digest = _digest(algorithm)
    assert digest_of(DATA, algorithm) == digest
    assert digest_problem(digest) is None
    assert check_digest(digest, "it") == digest
    hasher = new_hasher(digest)
    hasher.update(DATA)
    assert f"{algorithm}:{hasher.hexdigest()}" == digest
    verify_bytes(DATA, digest, "it")


def test_sha256_where_none_is_named() -> None:
    """The algorithm that an image is named by (the specification: implementations MUST implement it)."""
    assert digest_of(DATA) == _digest("sha256")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_digit_is_compared(algorithm: str) -> None:
    digest = _digest(algorithm)
    for place in range(digest.index(":") + 1, len(digest)):
        other = digest[:place] + ("0" if digest[place] != "0" else "1") + digest[place + 1 :]
        with pytest.raises(BadInputError) as caught:
            verify_bytes(DATA, other, "layer 3")
        assert caught.value.message == (
            f"layer 3 does not have the digest it should have: {other} expected, {digest} found"
        )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "invalid digest format"),
        ("sha256", "invalid digest format"),
        ("sha256:", "invalid digest format"),
        (":" + "0" * 64, "invalid digest format"),
        ("sha256:" + "0" * 63 + "/", "invalid digest format"),
        ("sha256:" + "0" * 64 + "\n", "invalid digest format"),
        ("md5:" + "0" * 32, "unsupported digest algorithm"),
        ("sha512_256:" + "0" * 64, "invalid digest format"),
        ("sha256+b64:" + "0" * 64, "unsupported digest algorithm"),
        ("SHA256:" + "0" * 64, "unsupported digest algorithm"),
        ("sha256:" + "0" * 63, "invalid digest: sha256 needs 64 lower-case hexadecimal digits"),
        ("sha256:" + "0" * 65, "invalid digest: sha256 needs 64 lower-case hexadecimal digits"),
        ("sha256:" + "A" * 64, "invalid digest: sha256 needs 64 lower-case hexadecimal digits"),
        ("sha256:" + "g" + "0" * 63, "invalid digest: sha256 needs 64 lower-case hexadecimal digits"),
        ("sha384:" + "0" * 64, "invalid digest: sha384 needs 96 lower-case hexadecimal digits"),
        ("sha512:" + "0" * 64, "invalid digest: sha512 needs 128 lower-case hexadecimal digits"),
    ],
)
def test_what_is_no_digest_is_refused(text: str, problem: str) -> None:
    assert digest_problem(text) == problem
    with pytest.raises(BadInputError) as caught:
        check_digest(text, "the manifest")
    assert caught.value.message == f"the manifest has the digest {text!r}: {problem}"


def test_a_long_wrong_digest_is_shown_in_part() -> None:
    with pytest.raises(BadInputError) as caught:
        check_digest("x" * 141, "the manifest")
    assert caught.value.message == f"the manifest has the digest {'x' * 140!r}: invalid digest format"


def test_as_the_name_of_a_file() -> None:
    assert file_name("sha256:00ff") == "sha256-00ff"
