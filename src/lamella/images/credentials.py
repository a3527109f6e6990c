# SPDX-License-Identifier: Apache-2.0
"""Who we are to a registry: what ``docker login`` stored.

Format: ``config.json`` as docker/cli writes it (``auths``, ``credsStore``, ``credHelpers``) and the
protocol of docker-credential-helpers: the registry's name on standard input of
``docker-credential-NAME get``, JSON with Username and Secret on its standard output.
"""

from __future__ import annotations

import base64
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from lamella.block import programs
from lamella.block.system import explain
from lamella.errors import BadInputError, MissingError
from lamella.images.reference import DEFAULT_REGISTRY
from lamella.images.strict_json import Document

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
IDENTITY_USER = "<token>"
"""A helper that answers with this user name gives an identity token instead of a password."""
HELPER_SECONDS = 60


@dataclass(frozen=True)
class Credentials:
    """A user with a password, or an identity (refresh) token; neither of them: anonymous."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def is_anonymous(self) -> bool:
        return not (self.username or self.identity_token)

    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


ANONYMOUS = Credentials()


def config_path() -> Path:
    """Docker's client configuration: in ``DOCKER_CONFIG``, else ``~/.docker``."""
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path(os.path.expanduser("~/.docker"))) / "config.json"


def find_credentials(registry: str, path: Path | None = None) -> Credentials:
    """The credentials stored for *registry* (a host with an optional port); anonymous where there are none.

    Raises :class:`BadInputError` for a file that is not as it should be, and :class:`MissingError`
    for a credential helper that is not installed or fails.
    """
    path = path or config_path()
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return ANONYMOUS
    except OSError as error:
        raise explain(error, "read", str(path)) from error
    document = Document.parse(data, str(path))
    key = DOCKER_HUB_KEY if registry == DEFAULT_REGISTRY else registry
    helper = document.child("credHelpers").text(registry) or document.child("credHelpers").text(key)
    helper = helper or document.text("credsStore")
    if helper:
        return _ask_helper(helper, key)
    auths = document.child("auths")
    for name in auths.members:
        if name == key or _host(name) == (registry if key == registry else "index.docker.io"):
            return _stored(auths.child(name))
    return ANONYMOUS


def _host(name: str) -> str:
    """The host in a key of ``auths``, which may be a URL (docker/cli's ``ConvertToHostname``)."""
    return name.partition("://")[2].partition("/")[0] if "://" in name else name.partition("/")[0]


def _stored(entry: Document) -> Credentials:
    username, password = entry.text("username"), entry.text("password")
    if entry.text("auth"):
        try:
            decoded = base64.b64decode(entry.text("auth"), validate=True).decode()
        except ValueError as error:  # also of what is not ASCII, not base64 or not UTF-8
            raise BadInputError(f"{entry.what}: 'auth' is not base64 of a user and a password") from error
        username, colon, password = decoded.partition(":")
        if not colon:
            raise BadInputError(f"{entry.what}: 'auth' is not base64 of a user and a password")
        password = password.rstrip("\0")
    return Credentials(username, password, entry.text("identitytoken"))


def _ask_helper(helper: str, key: str) -> Credentials:
    program = f"docker-credential-{helper}"
    try:
        done = programs.run([program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_SECONDS)
    except (OSError, ValueError) as error:
        raise MissingError(
            f"cannot run the credential helper {program!r}: {error}",
            hint=f"install it, or remove it from {config_path()}",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"the credential helper {program} did not answer in {HELPER_SECONDS} s") from error
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode:
        if "credentials not found" in said:
            return ANONYMOUS
        reason = said or done.stderr.decode(errors="replace").strip()
        raise MissingError(f"the credential helper {program} failed for {key}: {reason[:500]}")
    answer = Document.parse(done.stdout, f"the answer of {program}")
    username, secret = answer.text("Username"), answer.text("Secret")
    if username == IDENTITY_USER:
        return Credentials(identity_token=secret)
    return Credentials(username, secret)
