# SPDX-License-Identifier: Apache-2.0
"""References, with the cases of Docker's own tests for its grammar."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import UsageError
from lamella.images.reference import Reference

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "familiar"),
    [
        ("debian", "docker.io", "library/debian", "latest", "debian:latest"),
        ("debian:12", "docker.io", "library/debian", "12", "debian:12"),
        ("library/debian", "docker.io", "library/debian", "latest", "debian:latest"),
        ("docker.io/debian", "docker.io", "library/debian", "latest", "debian:latest"),
        ("index.docker.io/debian", "docker.io", "library/debian", "latest", "debian:latest"),
        ("docker.io/owner/name:x", "docker.io", "owner/name", "x", "owner/name:x"),
        ("owner/name", "docker.io", "owner/name", "latest", "owner/name:latest"),
        ("a/b/c", "docker.io", "a/b/c", "latest", "a/b/c:latest"),
        ("library/a/b", "docker.io", "library/a/b", "latest", "library/a/b:latest"),
        ("localhost/name", "localhost", "name", "latest", "localhost/name:latest"),
        ("localhost:5000/name:1", "localhost:5000", "name", "1", "localhost:5000/name:1"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000", "a/b", "latest", "127.0.0.1:5000/a/b:latest"),
        ("[::1]:5000/a", "[::1]:5000", "a", "latest", "[::1]:5000/a:latest"),
        ("ghcr.io/Owner".lower(), "ghcr.io", "owner", "latest", "ghcr.io/owner:latest"),
        ("HOST/name", "HOST", "name", "latest", "HOST/name:latest"),
        ("test.example.com/my-app__x.y:v1.0-rc_1", "test.example.com", "my-app__x.y", "v1.0-rc_1", None),
        ("a--b/c", "docker.io", "a--b/c", "latest", None),
        ("docker.io/a.io/b", "docker.io", "a.io/b", "latest", "docker.io/a.io/b:latest"),
        ("docker.io/localhost/b", "docker.io", "localhost/b", "latest", "docker.io/localhost/b:latest"),
    ],
)
def test_references_are_split_as_docker_splits_them(
    text: str, registry: str, repository: str, tag: str, familiar: str | None
) -> None:
    found = Reference.parse(text)
    assert (found.registry, found.repository, found.tag, found.digest) == (registry, repository, tag, "")
    assert familiar is None or str(found) == familiar
    assert found.canonical() == f"{registry}/{repository}:{tag}"
    assert Reference.parse(found.canonical()) == found == Reference.parse(str(found))


def test_a_digest_takes_no_default_tag() -> None:
    found = Reference.parse(f"debian@{DIGEST}")
    assert (found.tag, found.digest) == ("", DIGEST)
    assert str(found) == f"debian@{DIGEST}"
    both = Reference.parse(f"quay.io/a/b:1@{DIGEST}")
    assert (both.tag, both.digest, both.familiar_name) == ("1", DIGEST, "quay.io/a/b")
    assert str(Reference.parse("debian", default_tag=False)) == "debian"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "at least one component"),
        (":x", "invalid reference format"),
        ("Debian", "must be lowercase"),
        ("owner/Debian:1", "must be lowercase"),
        (HEX, "64-byte hexadecimal"),
        ("-name", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/../b", "invalid reference format"),
        ("docker.io/", "invalid reference format"),
        ("name:", "invalid reference format"),
        ("name:" + "t" * 129, "invalid reference format"),
        ("name:tag\n", "invalid reference format"),
        ("näme", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("https://host/name", "invalid reference format"),
        ("host:port/name", "invalid reference format"),
        ("n" * 256, "more than 255"),
        ("a-" * 2_000_000, "more than 255"),
        ("name@sha256:1234", "invalid reference format"),
        (f"name@sha256:{HEX[:40]}", "needs 64"),
        (f"name@sha256:{HEX.upper()}", "lower-case"),
        (f"name@md5:{HEX[:32]}", "unsupported digest algorithm"),
    ],
)
def test_bad_references_are_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        Reference.parse(text)
    assert caught.value.hint


def test_the_longest_name_is_taken() -> None:
    assert Reference.parse("n" * 247).repository == "library/" + "n" * 247
    assert Reference.parse("h.x/" + "n" * 255).repository == "n" * 255


@given(st.text(alphabet=string.ascii_letters + string.digits + "/:@._-[]ä\n\0 ", max_size=80))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        found = Reference.parse(text)
    except UsageError:
        return
    assert Reference.parse(str(found)) == found == Reference.parse(found.canonical())
