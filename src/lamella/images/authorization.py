# SPDX-License-Identifier: Apache-2.0
"""How a registry wants to be asked: no authorization, Basic, or a Bearer token from a token service.

Protocols: RFC 9110 section 11 (challenges) and the distribution project's "Token Authentication
Specification" with its OAuth2 addition (identity tokens).
"""

from __future__ import annotations

import re
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.errors import BadInputError, NetworkError
from lamella.images.strict_json import Document
from lamella.images.transport import split_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.images.credentials import Credentials
    from lamella.images.transport import Reply, Transport

CLIENT = "lamella"
TOKEN_LIMIT = 1 << 20
DEFAULT_LIFETIME = 60
EARLY = 5
"""Seconds before its end at which a token is not used any more."""

_BLANK = re.compile(r"[\s,]*")
_TOKEN = re.compile(r"[^\s,=\"]+")
_EQUALS = re.compile(r"\s*=\s*")
_QUOTED = re.compile(r"[^\"\\]*")
_BARE = re.compile(r"[^\s,]*")
HEADER_LIMIT = 64 << 10
"""Most characters of a ``WWW-Authenticate`` header that are looked at; http.client takes lines of 64 KiB."""


@dataclass(frozen=True)
class Challenge:
    """One scheme of a ``WWW-Authenticate`` header with its parameters."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """The Basic and Bearer challenges of a header (several headers: joined by commas).

    RFC 9110, section 11: a scheme, then ``name=value`` pairs with commas between them. What is quoted may
    hold commas and the names of schemes. Takes time in proportion to the header.
    """
    header = header[:HEADER_LIMIT]
    found: list[Challenge] = []
    at, end = 0, len(header)
    while (at := _end(_BLANK, header, at)) < end:
        after = _end(_TOKEN, header, at)
        if after == at:  # a stray quote or equals sign
            at += 1
            continue
        word, equals = header[at:after].lower(), _end(_EQUALS, header, after)
        at = after
        if equals == after:
            found.append(Challenge(word, {}))
        else:
            value, at = _value(header, equals)
            if found:
                found[-1].parameters.setdefault(word, value)
    return [challenge for challenge in found if challenge.scheme in ("basic", "bearer")]


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where the match of *pattern* at *at* ends; *at* where there is none."""
    found = pattern.match(text, at)
    return found.end() if found else at


def _value(header: str, at: int) -> tuple[str, int]:
    """A parameter's value, quoted or bare, and where it ends."""
    if header[at : at + 1] != '"':
        after = _end(_BARE, header, at)
        return header[at:after], after
    pieces: list[str] = []
    at += 1
    while True:
        after = _end(_QUOTED, header, at)
        pieces.append(header[at:after])
        if header[after : after + 1] != "\\":
            return "".join(pieces), after + 1
        pieces.append(header[after + 1 : after + 2])
        at = after + 2


class Authorizer:
    """Gives the ``Authorization`` header for one registry, and learns from its challenges.

    *find* looks the credentials up, once, when they are first asked for.
    """

    def __init__(
        self, transport: Transport, find: Callable[[], Credentials], scope: str, *, insecure: bool
    ) -> None:
        self._transport = transport
        self._find = find
        self._scope = scope
        self._insecure = insecure
        self._credentials: Credentials | None = None
        self._challenge: Challenge | None = None
        self._token = ""
        self._until = 0.0
        self._lock = threading.Lock()

    @property
    def credentials(self) -> Credentials:
        if self._credentials is None:
            self._credentials = self._find()
        return self._credentials

    def learn(self, header: str | None) -> bool:
        """Take the challenge of a 401; False if there is none that we can meet. Forgets the token."""
        challenges = parse_challenges(header or "")
        with self._lock:
            self._token = ""
            for scheme in ("bearer", "basic"):
                for challenge in challenges:
                    if challenge.scheme == scheme and (scheme == "bearer" or self.credentials.username):
                        self._challenge = challenge
                        return True
        return False

    def header(self) -> dict[str, str]:
        """The header to send; none before a challenge."""
        with self._lock:
            if self._challenge is None:
                return {}
            if self._challenge.scheme == "basic":
                return {"Authorization": self.credentials.basic()}
            if not self._token or time.monotonic() > self._until:
                self._token, lifetime = self._fetch_token(self._challenge)
                self._until = time.monotonic() + max(lifetime, DEFAULT_LIFETIME) - EARLY
            return {"Authorization": f"Bearer {self._token}"}

    def _fetch_token(self, challenge: Challenge) -> tuple[str, int]:
        realm = challenge.parameters.get("realm", "")
        try:
            parts = split_url(realm)
        except BadInputError as error:
            raise BadInputError(f"the registry names a bad token service: {error.message}") from error
        if parts.scheme == "http" and not self._insecure:
            raise NetworkError(f"the registry's token service {realm[:200]!r} is not encrypted")
        scopes = [*dict.fromkeys([self._scope, *challenge.parameters.get("scope", "").split()])]
        query = [
            ("service", challenge.parameters.get("service", "")),
            *(("scope", scope) for scope in scopes if scope),
        ]
        query = [pair for pair in query if pair[1]]
        credentials = self.credentials
        if credentials.identity_token:
            response = self._ask(lambda: self._post_token(realm, query, credentials.identity_token), realm)
            if response.status not in (404, 405):  # else: a token service from before OAuth2
                return self._read_token(response, realm)
        headers = {}
        if credentials.username:
            query.append(("account", credentials.username))
            headers["Authorization"] = credentials.basic()
        separator = "&" if parts.query else "?"
        url = realm + separator + urllib.parse.urlencode(query)
        return self._read_token(
            self._ask(lambda: self._transport.fetch(url, headers, TOKEN_LIMIT), realm), realm
        )

    @staticmethod
    def _ask(request: Callable[[], Reply], realm: str) -> Reply:
        """The answer to *request*; where there is none, it is the token service that failed."""
        try:
            return request()
        except NetworkError as error:
            raise NetworkError(
                f"the registry's token service {realm[:200]} does not answer: {error.message}",
                hint="without a token the registry gives nothing; try again later",
            ) from error

    def _post_token(self, realm: str, query: list[tuple[str, str]], token: str) -> Reply:
        scope = " ".join(value for name, value in query if name == "scope")
        form = [pair for pair in query if pair[0] != "scope"] + [
            ("scope", scope),
            ("client_id", CLIENT),
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
        ]
        return self._transport.fetch(
            realm,
            {"Content-Type": "application/x-www-form-urlencoded"},
            TOKEN_LIMIT,
            method="POST",
            body=urllib.parse.urlencode(form).encode(),
            secret_redirects=True,
        )

    def _read_token(self, reply: Reply, realm: str) -> tuple[str, int]:
        if reply.status in (401, 403):
            user = self.credentials.username
            credentials = f"the credentials of {user!r}" if user else "a request without credentials"
            raise NetworkError(
                f"the token service {realm} rejected {credentials}: "
                "unauthorized: incorrect username or password",
                hint="run `docker login` for this registry again",
            )
        if reply.status != 200:
            raise NetworkError(
                f"the registry's token service {realm[:200]} failed with the status {reply.status}",
                hint="without a token the registry gives nothing; try again later",
            )
        what = f"the answer of the token service {realm}"
        document = Document.parse(reply.data, what)
        token = document.text("token") or document.text("access_token")
        if not token or not token.isascii() or not token.isprintable():
            raise BadInputError(f"{what} holds no token")
        return token, document.number("expires_in", DEFAULT_LIFETIME)
