# SPDX-License-Identifier: Apache-2.0
"""HTTP as registries need it: proxies, certificates, redirects that keep secrets, and retries."""

from __future__ import annotations

import email.utils
import ipaddress
import random
import ssl
import threading
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3

from lamella import clock, logs
from lamella._version import __version__
from lamella.errors import BadInputError, MissingError, NetworkError
from lamella.images.patience import PATIENCE, POOL_CLASSES, Patience, current

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logs.logger(__name__)

ATTEMPTS = 5
MAX_WAIT = 60.0
"""Seconds. A server that asks to wait longer (Retry-After) is reported as an error instead."""
REDIRECTS = 10
READ_SIZE = 64 << 10
RETRY_STATUS = (408, 429, 500, 502, 503, 504)
TIMEOUT = urllib3.Timeout(connect=20.0, read=60.0)
CERTIFICATE_FOLDER = Path("/etc/docker/certs.d")
"""Per registry (``HOST:PORT/*.crt``): further authorities, as Docker has it."""


@dataclass(frozen=True)
class Reply:
    """An answer with its body; its headers' names match in any case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


def split_url(url: str) -> urllib.parse.SplitResult:
    """The parts of a web address from outside; :class:`BadInputError` for anything else."""
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable():
        raise BadInputError(f"{url[:200]!r} is not a URL")
    return parts


def is_loopback(host: str) -> bool:
    """Whether *host* (with an optional port) is this machine: ``localhost``, 127.0.0.0/8 or ::1."""
    name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Transport:
    """Connections to any host. *verify* False accepts any certificate (insecure registries).

    A request that makes no progress for *patience* seconds, over all its attempts and waits, is given up.
    *say* is told what is being waited for; *sleep* and *clock* are for tests. Errors: :class:`NetworkError`
    where nothing helps; responses of 4xx and final 5xx are returned, for the caller knows what they mean.
    """

    def __init__(
        self,
        *,
        verify: bool = True,
        patience: float = PATIENCE,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verify = verify
        self._sleep = sleep
        self._patience = patience
        self._clock = clock
        self.say: Callable[[str], object] = lambda text: None
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def patience(self, say: Callable[[str], object] | None = None) -> Patience:
        """A new deadline, for all requests that are made in its ``with`` block; *say* in place of the own."""
        outer = current()
        said = say or (outer.say if outer is not None else self.say)
        return Patience(self._patience, say=said, clock=self._clock)

    def close(self) -> None:
        """Drop all connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    def get(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        body: bytes | None = None,
        attempts: int = ATTEMPTS,
        secret_redirects: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """One request, repeated while it makes sense; the body is not read yet.

        Whoever reads it may do so under a :meth:`patience` that goes on; here it ends with the headers.
        Redirects are followed; ``Authorization`` goes along only to the very same scheme, host and
        port (*secret_redirects* follows none, for requests that carry a secret in their body).
        """
        if current() is None:
            with self.patience():
                return self.get(
                    url,
                    headers,
                    method=method,
                    body=body,
                    attempts=attempts,
                    secret_redirects=secret_redirects,
                )
        sent = dict(headers)
        for _ in range(REDIRECTS + 1):
            response = self._with_retries(method, url, sent, body, attempts)
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not location or secret_redirects:
                return response
            discard(response)
            try:
                target = urllib.parse.urljoin(url, location)
                scheme = split_url(target).scheme
            except (ValueError, BadInputError) as error:
                raise BadInputError(
                    f"{_shown(url)} redirects to {location[:200]!r}, which is not a URL"
                ) from error
            if url.startswith("https:") and scheme != "https" and self._verify:
                raise NetworkError(f"{_shown(url)} redirects to {_shown(target)}, which is not encrypted")
            if _origin(target) != _origin(url):
                sent.pop("Authorization", None)
            url = target
        raise NetworkError(
            f"{_shown(url)}: more than {REDIRECTS} redirects, one after another",
            hint="the registry, or a proxy before it, redirects in a circle",
        )

    def fetch(
        self,
        url: str,
        headers: Mapping[str, str],
        limit: int,
        *,
        method: str = "GET",
        body: bytes | None = None,
        secret_redirects: bool = False,
    ) -> Reply:
        """As :meth:`get`, for small answers: up to *limit* + 1 bytes of the body, whole or not at all."""
        with self.patience() as patience:
            for attempt in range(1, ATTEMPTS + 1):
                response = self.get(url, headers, method=method, body=body, secret_redirects=secret_redirects)
                try:
                    return Reply(response.status, response.headers, _read(response, limit, patience))
                except urllib3.exceptions.HTTPError as error:
                    if patience.expired:
                        raise patience.error(_shown(url)) from error
                    if attempt == ATTEMPTS:
                        raise _explain(url, error) from error
                finally:
                    response.close()
                self._wait(backoff(attempt), patience, url)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _wait(self, seconds: float, patience: Patience, url: str, why: str = "") -> None:
        """Sleep, and say so; raises instead where the patience ends before."""
        if seconds > patience.left:
            raise patience.error(_shown(url))
        host = urllib.parse.urlsplit(url).netloc
        patience.say(f"waiting {max(1, round(seconds))} s for {host}" + (f" ({why})" if why else ""))
        self._sleep(seconds)

    def _with_retries(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, attempts: int
    ) -> urllib3.BaseHTTPResponse:
        patience = current()
        assert patience is not None
        for attempt in range(1, attempts + 1):
            wait, why = backoff(attempt), ""
            try:
                response = self._once(method, url, headers, body)
            except urllib3.exceptions.HTTPError as error:
                if patience.expired:
                    raise patience.error(_shown(url)) from error
                failure = _explain(url, error)
                log.debug("%s %s: attempt %d failed: %s", method, _shown(url), attempt, type(error).__name__)
                if attempt == attempts or not _worth_retrying(error):
                    raise failure from error
            else:
                if patience.expired:  # http.client takes the end of a connection for that of the headers
                    response.close()
                    raise patience.error(_shown(url))
                if response.status not in RETRY_STATUS or attempt == attempts:
                    return response
                asked = retry_after(response.headers.get("Retry-After"))
                if asked is not None and asked > min(MAX_WAIT, patience.left):
                    return response
                wait, why = max(wait, asked or 0.0), f"status {response.status}"
                discard(response)
            self._wait(wait, patience, url, why)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _once(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        sent = {"User-Agent": f"lamella/{__version__}", "Accept-Encoding": "identity"} | headers
        response = self._pool(url).request(
            method,
            url,
            headers=sent,
            body=body,
            redirect=False,
            retries=False,
            preload_content=False,
            timeout=TIMEOUT,
        )
        log.debug("%s %s: status %d", method, _shown(url), response.status)
        return response

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urllib.parse.urlsplit(url)
        proxy = _proxy_for(parts.scheme, parts.hostname or "", parts.netloc)
        key = (proxy, parts.netloc)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                context = self._context(parts.netloc) if parts.scheme == "https" or proxy else None
                if proxy:
                    if not proxy.startswith(("http://", "https://")):
                        raise MissingError(
                            f"the proxy {_shown(proxy)} is not an HTTP proxy; no other kind is supported"
                        )
                    split = urllib.parse.urlsplit(proxy)
                    user = (
                        urllib.parse.unquote(f"{split.username}:{split.password or ''}")
                        if split.username
                        else None
                    )
                    pool = urllib3.ProxyManager(
                        proxy,
                        ssl_context=context,
                        proxy_headers=urllib3.make_headers(proxy_basic_auth=user) if user else None,
                        maxsize=8,
                    )
                else:
                    pool = urllib3.PoolManager(ssl_context=context, maxsize=8)
                pool.pool_classes_by_scheme = dict(POOL_CLASSES)
                self._pools[key] = pool
        return pool

    def _context(self, host: str) -> ssl.SSLContext:
        if not self._verify:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # it was asked for
            return context
        context = ssl.create_default_context()
        for certificate in sorted((CERTIFICATE_FOLDER / host).glob("*.crt")):
            try:
                context.load_verify_locations(certificate)
            except (OSError, ssl.SSLError) as error:
                raise BadInputError(f"cannot use the certificate authority {certificate}: {error}") from error
        return context


class CannotReachError(NetworkError):
    """No answer in HTTP: no such host, no connection, no TLS, or one that broke off."""


def _read(response: urllib3.BaseHTTPResponse, limit: int, patience: Patience) -> bytes:
    """The body, or *limit* + 1 bytes of a longer one."""
    data = bytearray()
    while len(data) <= limit and (piece := response.read1(min(READ_SIZE, limit + 1 - len(data)))):
        data += piece
        patience.received(len(piece))
    return bytes(data)


def backoff(attempt: int) -> float:
    """Seconds to wait after the failed attempt number *attempt* (from 1): 0.5, 1, 2, 4, scattered."""
    return min(0.5 * 2.0 ** (attempt - 1), 30.0) * random.uniform(0.8, 1.2)


def retry_after(value: str | None) -> float | None:
    """Seconds asked for by a ``Retry-After`` header: a number, or a date."""
    if not value or len(value) > 100:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - clock.now())
    except (ValueError, OverflowError, TypeError, IndexError):  # the module raises each for some text
        return None


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """Return the connection to its pool if little is left to read, else close it."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(length) < 6:
        with suppress(urllib3.exceptions.HTTPError):
            response.read()
    response.close()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _proxy_for(scheme: str, host: str, netloc: str) -> str:
    """The proxy that the environment names for a URL; as in Go, this machine is never behind one."""
    if is_loopback(netloc) or urllib.request.proxy_bypass_environment(host):  # type: ignore[attr-defined]  # no stub
        return ""
    proxies = urllib.request.getproxies_environment()
    proxy: str = proxies.get(scheme) or proxies.get("all") or ""
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _shown(url: str) -> str:
    """A URL without its query and credentials, which may be secrets."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _worth_retrying(error: urllib3.exceptions.HTTPError) -> bool:
    return not isinstance(
        error, urllib3.exceptions.SSLError | urllib3.exceptions.LocationValueError
    ) and not (isinstance(error, urllib3.exceptions.NameResolutionError) and "not known" in str(error))


def _explain(url: str, error: urllib3.exceptions.HTTPError) -> CannotReachError:
    shown, text = _shown(url), str(error)
    if isinstance(error, urllib3.exceptions.SSLError):
        if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "RECORD_LAYER" in text:
            return CannotReachError(
                f"cannot reach {shown}: the server gave an HTTP response to an HTTPS client",
                hint="if this registry has no TLS, allow it with --insecure-registry",
            )
        return CannotReachError(
            f"cannot reach {shown}: {text}",
            hint="add its certificate authority to the system's or to /etc/docker/certs.d/HOST/, "
            "or allow it with --insecure-registry",
        )
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return CannotReachError(f"cannot reach {shown}: no such host", hint="check the name and the network")
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return CannotReachError(
            f"cannot reach {shown}: {text.rpartition(': ')[2]}", hint="check the address and the network"
        )
    return CannotReachError(f"cannot reach {shown}: {text}", hint="check the network and try again")
