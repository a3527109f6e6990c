# SPDX-License-Identifier: Apache-2.0
"""A client of one repository of one registry, by the OCI distribution (Docker Registry HTTP V2) protocol.

Messages for what does not exist or is not allowed are Docker's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import urllib3

from lamella.errors import BadInputError, LamellaError, NetworkError, NotFoundError
from lamella.images.authorization import Authorizer
from lamella.images.digest import digest_of, digest_problem, verify_bytes
from lamella.images.manifest import ACCEPT, Descriptor
from lamella.images.reference import DEFAULT_REGISTRY
from lamella.images.strict_json import MANIFEST_LIMIT, Document
from lamella.images.transport import CannotReachError, Reply, Transport, discard, is_loopback, split_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lamella.images.credentials import Credentials
    from lamella.images.patience import Patience
    from lamella.images.reference import Reference

DOCKER_HUB = "registry-1.docker.io"
ERROR_LIMIT = 64 << 10


class RegistryClient:
    """Reads manifests and blobs of *reference*'s repository.

    *insecure* also allows TLS with any certificate, and plain HTTP, in this order; as with Docker,
    registries on this very machine are always taken so. *find_credentials* is called once, when
    the registry first asks who we are.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        insecure: bool,
        find_credentials: Callable[[], Credentials],
        transport: Transport | None = None,
    ) -> None:
        self.reference = reference
        host = DOCKER_HUB if reference.registry == DEFAULT_REGISTRY else reference.registry
        self._host = host
        self._insecure = insecure or is_loopback(host)
        self._transport = transport or Transport(verify=not self._insecure)
        self._authorizer = Authorizer(
            self._transport,
            find_credentials,
            f"repository:{reference.repository}:pull",
            insecure=self._insecure,
        )
        self._base = ""

    def close(self) -> None:
        self._transport.close()

    def tell(self, say: Callable[[str], object]) -> None:
        """From now on *say* is told what is waited for."""
        self._transport.say = say

    def connect(self) -> None:
        """Find out how to reach the registry, and which authorization it requires."""
        if self._base:
            return
        schemes = ("https", "http") if self._insecure else ("https",)
        failure: NetworkError | None = None
        for scheme in schemes:
            url = f"{scheme}://{self._host}/v2/"
            try:
                with self._transport.patience():
                    response = self._transport.get(url, {}, attempts=1 if scheme != schemes[-1] else 2)
                    challenge = response.headers.get("WWW-Authenticate")
                    status = response.status
                    discard(response)
            except NetworkError as error:
                # The first failure, but rather one of a server that answers than one of none.
                if failure is None or not isinstance(error, CannotReachError):
                    failure = error
                continue
            if status == 401:
                self._authorizer.learn(challenge)
            self._base = f"{scheme}://{self._host}"
            return
        assert failure is not None
        raise failure

    def _get(self, path: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        url = self._url(path)
        response = self._transport.get(url, {**headers, **self._authorizer.header()})
        if response.status == 401 and self._authorizer.learn(response.headers.get("WWW-Authenticate")):
            discard(response)
            response = self._transport.get(url, {**headers, **self._authorizer.header()})
        return response

    def _fetch(self, path: str, headers: Mapping[str, str], limit: int) -> Reply:
        url = self._url(path)
        reply = self._transport.fetch(url, {**headers, **self._authorizer.header()}, limit)
        if reply.status == 401 and self._authorizer.learn(reply.headers.get("WWW-Authenticate")):
            reply = self._transport.fetch(url, {**headers, **self._authorizer.header()}, limit)
        return reply

    def _url(self, path: str) -> str:
        self.connect()
        return f"{self._base}/v2/{self.reference.repository}/{path}"

    def manifest(self, name: str) -> tuple[Descriptor, bytes]:
        """The manifest or index called *name* (a tag or digest): a descriptor made from it, and its bytes."""
        reply = self._fetch(f"manifests/{name}", {"Accept": ", ".join(ACCEPT)}, MANIFEST_LIMIT)
        what = f"the manifest of {self.reference}"
        if reply.status != 200:
            raise self._failure(reply.status, reply.data, f"manifest for {self.reference} not found")
        data = _limited(reply.data, MANIFEST_LIMIT, what)
        media_type = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        named = reply.headers.get("Docker-Content-Digest", "")
        digest = name if ":" in name else digest_of(data)
        for expected in {name, named} if ":" in name else {named}:
            if expected and digest_problem(expected) is None:
                verify_bytes(data, expected, what)
        return Descriptor(media_type if media_type in ACCEPT else "", digest, len(data)), data

    def document(self, descriptor: Descriptor, limit: int) -> bytes | None:
        """A manifest, index or configuration by its descriptor; unverified. None if the registry lacks it."""
        if descriptor.media_type in ACCEPT:
            accept = {"Accept": descriptor.media_type}
            reply = self._fetch(f"manifests/{descriptor.digest}", accept, limit)
        else:
            reply = self._fetch(f"blobs/{descriptor.digest}", {}, limit)
        if reply.status == 404:
            return None
        if reply.status != 200:
            missing = f"{descriptor.digest} of {self.reference} not found"
            raise self._failure(reply.status, reply.data, missing)
        return _limited(reply.data, limit, f"the blob {descriptor.digest}")

    def patience(self, say: Callable[[str], object]) -> Patience:
        """The deadline of one download, see :meth:`Transport.patience`."""
        return self._transport.patience(say)

    def blob(self, digest: str, offset: int) -> urllib3.BaseHTTPResponse:
        """A response with the blob's bytes, from *offset* on if the server can (status 206), unread.

        Status 404 is returned, and with an *offset* every status, as some servers fail on ranges; other
        failures raise.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._get(f"blobs/{digest}", headers)
        if not offset and response.status not in (200, 206, 404):
            try:
                data = response.read(ERROR_LIMIT)
            except urllib3.exceptions.HTTPError:
                data = b""
            finally:
                response.close()
            raise self._failure(response.status, data, f"blob {digest} of {self.reference} not found")
        return response

    def elsewhere(self, url: str, offset: int) -> urllib3.BaseHTTPResponse:
        """A foreign layer's bytes from its own address; no credentials go there."""
        if split_url(url).scheme != "https" and not self._insecure:
            raise NetworkError(f"the layer's address {url[:200]!r} is not encrypted")
        return self._transport.get(url, {"Range": f"bytes={offset}-"} if offset else {})

    def _failure(self, status: int, body: bytes, missing: str) -> LamellaError:
        """Docker's words for what a registry's error means."""
        codes, text = _errors(body)
        name = self.reference.familiar_name
        denied = f"pull access denied for {name}, repository does not exist or may require 'docker login'"
        hint = f"check the name; for a private repository run `docker login {self.reference.registry}` first"
        if status == 404 and "NAME_UNKNOWN" in codes:
            return NotFoundError(f"{denied}: {text}", hint=hint)
        if status == 404:
            return NotFoundError(
                f"{missing}: {text or 'manifest unknown'}", hint="check the name and the tag"
            )
        if status in (401, 403):
            if self._authorizer.credentials.is_anonymous:
                return NetworkError(f"{denied}: {text or 'access is denied'}", hint=hint)
            return NetworkError(
                f"pull access denied for {name}: {text or 'access is denied'}",
                hint=f"these credentials do not suffice; run `docker login {self.reference.registry}` again",
            )
        if status == 429:
            return NetworkError(
                f"the registry {self._host} rate-limits us (429): {text or 'toomanyrequests'}",
                hint="wait, or log in: registries allow more to users they know",
            )
        return NetworkError(
            f"the registry {self._host} failed with the status {status}" + (f": {text}" if text else "")
        )


def _errors(body: bytes) -> tuple[set[str], str]:
    """The codes of a registry's error body, and the first one in Docker's form ``code: message``."""
    try:
        errors = Document.parse(body, "the error").children("errors")
        pairs = [(error.text("code"), error.text("message")) for error in errors]
    except BadInputError:  # a proxy's page, say: the status must do
        return set(), ""
    words = [_printable(f"{code.lower().replace('_', ' ')}: {message}") for code, message in pairs]
    return {code for code, _ in pairs}, words[0] if words else ""


def _printable(text: str) -> str:
    """*text* fit for a terminal, which a registry must not be able to steer."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:300])


def _limited(data: bytes, limit: int, what: str) -> bytes:
    if len(data) > limit:
        raise BadInputError(f"{what} has more than the {limit} bytes that are accepted")
    return data
