# SPDX-License-Identifier: Apache-2.0
"""Credentials: basic authentication, tokens, challenges, and redirects that must not carry them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lamella.errors import BadInputError, LamellaError, NetworkError
from lamella.images.authorization import parse_challenges
from lamella.images.credentials import ANONYMOUS, Credentials
from tests.images.fake_registry import PASSWORD, REFRESH, USER, Server, body, fake_registry, status
from tests.images.pulling import pull

if TYPE_CHECKING:
    from pathlib import Path


def test_bearer_tokens(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth = "bearer"
    pull(server, tmp_path / "dl")
    (asked,) = server.behaviour.paths("/token")
    assert asked == "/token?service=the+registry&scope=repository%3Alib%2Fit%3Apull"


def test_bearer_tokens_with_a_password(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth, server.behaviour.anonymous_ok = "bearer", False
    pull(server, tmp_path / "dl", credentials=Credentials(USER, PASSWORD))
    (asked,) = server.behaviour.paths("/token")
    assert asked.endswith("&account=user")
    for wrong in (ANONYMOUS, Credentials(USER, "wrong")):
        with pytest.raises(NetworkError, match="unauthorized"):
            pull(server, tmp_path / "dl", credentials=wrong)


def test_identity_tokens(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth, server.behaviour.anonymous_ok = "bearer", False
    pull(server, tmp_path / "dl", credentials=Credentials(identity_token=REFRESH))
    (asked,) = [asked for asked in server.behaviour.asked if asked.method == "POST"]
    assert "grant_type=refresh_token" in asked.body
    assert "scope=repository%3Alib%2Fit%3Apull" in asked.body
    with pytest.raises(NetworkError, match="unauthorized"):
        pull(server, tmp_path / "dl", credentials=Credentials(identity_token="old"))


def test_a_token_that_ends_early_is_fetched_again(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth = "bearer"

    def expire(handler: object) -> bool:
        server.behaviour.tokens += 1
        return False

    server.behaviour.faults = [("/blobs/", expire)]
    pull(server, tmp_path / "dl")
    assert len(server.behaviour.paths("/token")) == 2


def test_basic_with_a_comma_in_its_realm(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth = "basic"
    pull(server, tmp_path / "dl", credentials=Credentials(USER, PASSWORD))
    with pytest.raises(NetworkError, match="pull access denied"):
        pull(server, tmp_path / "dl")


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Bearer",
        'Bearer realm="file:///etc/passwd"',
        'Bearer realm="http://[::1"',
        "Negotiate x",
        "Basic",
        "\xff==",
    ],
)
def test_strange_challenges(tmp_path: Path, server: Server, challenge: str) -> None:
    server.behaviour.faults = [(".*", status(401, WWW_Authenticate=challenge)) for _ in range(20)]
    with pytest.raises(LamellaError):
        pull(server, tmp_path / "dl")


@pytest.mark.parametrize(
    "answer", [b"", b"{}", b"[]", b'{"token":5}', b'{"token":"a\\nb"}', b'{"token":"a","expires_in":"x"}']
)
def test_strange_tokens(tmp_path: Path, server: Server, answer: bytes) -> None:
    server.behaviour.auth = "bearer"
    server.behaviour.faults = [("/token", body(answer))]
    with pytest.raises(BadInputError):
        pull(server, tmp_path / "dl")


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_redirects_to_a_storage_carry_no_secret(tmp_path: Path, server: Server, auth: str) -> None:
    with fake_registry() as storage:
        storage.behaviour.blobs = server.behaviour.blobs
        server.behaviour.auth, server.behaviour.redirect_blobs = auth, True
        server.behaviour.storage = storage.url
        pull(server, tmp_path / "dl", credentials=Credentials(USER, PASSWORD))
        assert storage.behaviour.asked
        assert all("Authorization" not in asked.headers for asked in storage.behaviour.asked)
        assert all(
            "Authorization" in asked.headers for asked in server.behaviour.asked if "/blobs/" in asked.path
        )


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        (
            'Bearer realm="h://a?x=1,y=2",service="s"',
            [("bearer", {"realm": "h://a?x=1,y=2", "service": "s"})],
        ),
        (
            'Bearer realm="h://a/, Basic b",service=s',
            [("bearer", {"realm": "h://a/, Basic b", "service": "s"})],
        ),
        (
            'Basic realm="here, there", Bearer realm=x',
            [("basic", {"realm": "here, there"}), ("bearer", {"realm": "x"})],
        ),
        ('Negotiate, BEARER REALM = "a\\"b" , scope = c', [("bearer", {"realm": 'a"b', "scope": "c"})]),
        ("Negotiate YWJjZA==, Basic", [("basic", {})]),
        ('Bearer realm="open', [("bearer", {"realm": "open"})]),
        ('Bearer realm="one",realm="two"', [("bearer", {"realm": "one"})]),
        ("", []),
        ('=",=", realm="x"', []),
    ],
)
def test_challenges_are_read_as_rfc_9110_writes_them(header: str, challenges: list[Any]) -> None:
    """Section 11.6.1: what is quoted may hold commas and the names of schemes."""
    assert [(found.scheme, found.parameters) for found in parse_challenges(header)] == challenges


def test_a_token_service_whose_address_holds_a_comma(tmp_path: Path, server: Server) -> None:
    challenge = f'Bearer realm="{server.url}/token?a=1,Basic 2",service="x"'
    server.behaviour.auth = "bearer"
    server.behaviour.faults = [("/v2/$", status(401, WWW_Authenticate=challenge))]
    pull(server, tmp_path / "dl")
    assert server.behaviour.paths("/token")[0].startswith("/token?a=1,Basic%202&service=x")
