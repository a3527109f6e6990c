# SPDX-License-Identifier: Apache-2.0
"""What `docker login` left behind."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.errors import BadInputError, LamellaError, MissingError
from lamella.images.credentials import ANONYMOUS, Credentials, config_path, find_credentials

if TYPE_CHECKING:
    from pathlib import Path

HELPER = """#!/bin/sh
read name
echo "$name" >> "$0.asked"
case "$name" in
    https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"s"}';;
    ghcr.io) echo '{"Username":"<token>","Secret":"identity"}';;
    broken.example) echo 'not json';;
    fails.example) echo 'the keyring is locked'; exit 1;;
    *) echo 'credentials not found in native keychain'; exit 1;;
esac
"""


def _auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    helper = tmp_path / "docker-credential-test"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    return tmp_path / "config.json"


def _write(path: Path, **content: Any) -> None:
    path.write_text(json.dumps(content))


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    assert config_path() == config
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", "/nowhere")
    assert str(config_path()) == "/nowhere/.docker/config.json"
    assert find_credentials("docker.io") == ANONYMOUS


def test_stored_passwords(config: Path) -> None:
    _write(
        config,
        auths={
            "https://index.docker.io/v1/": {"auth": _auth("hub:a:b")},
            "localhost:5000": {"auth": _auth("me:secret")},
            "https://old.example/v1/": {"username": "u", "password": "p"},
            "token.example": {"auth": _auth("u:"), "identitytoken": "t"},
            "empty.example": {},
        },
    )
    assert find_credentials("docker.io") == Credentials("hub", "a:b")
    assert find_credentials("localhost:5000") == Credentials("me", "secret")
    assert find_credentials("old.example") == Credentials("u", "p")
    assert find_credentials("token.example").identity_token == "t"
    assert find_credentials("empty.example").is_anonymous
    assert find_credentials("other.example") is ANONYMOUS
    assert "secret" not in repr(find_credentials("localhost:5000"))


def test_helpers(config: Path) -> None:
    _write(
        config,
        credsStore="test",
        credHelpers={"own.example": "none"},
        auths={"x.example": {"auth": _auth("a:b")}},
    )
    assert find_credentials("docker.io") == Credentials("hub", "s")
    assert find_credentials("ghcr.io") == Credentials(identity_token="identity")
    assert find_credentials("x.example") is ANONYMOUS
    with pytest.raises(MissingError, match="docker-credential-none"):
        find_credentials("own.example")
    with pytest.raises(MissingError, match="keyring is locked"):
        find_credentials("fails.example")
    with pytest.raises(BadInputError, match="not valid JSON"):
        find_credentials("broken.example")


@pytest.mark.parametrize(
    "body", ["", "[]", "{", '{"auths":[]}', '{"auths":{"a.b":5}}', '{"auths":{"a.b":{"auth":"%%%"}}}',
             '{"auths":{"a.b":{"auth":"YWFh"}}}', '{"credsStore":5}',
             '{"auths":{"a.b":{"auth":"\\u202e"}}}', '{"auths":{"a.b":{"auth":"/w=="}}}',
             '{"credsStore":"x\\u0000"}', '{"credHelpers":{"a.b":1}}']
)  # fmt: skip
def test_a_file_that_is_wrong(config: Path, body: str) -> None:
    config.write_text(body)
    with pytest.raises((BadInputError, MissingError)):
        find_credentials("a.b")


def test_a_file_that_cannot_be_read(config: Path) -> None:
    config.mkdir()
    with pytest.raises(LamellaError, match="cannot read"):
        find_credentials("a.b")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["auths", "credHelpers"]),
        st.dictionaries(
            st.sampled_from(["a.b", "https://a.b/v1", ""]),
            st.text(max_size=5) | st.none() | st.just({"auth": "x"}),
        ),
    )
)
def test_any_file(config: Path, content: dict[str, Any]) -> None:
    _write(config, **content)
    with contextlib.suppress(LamellaError):
        find_credentials("a.b")
