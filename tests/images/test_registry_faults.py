# SPDX-License-Identifier: Apache-2.0
"""Registries that are busy, absent, break off downloads or send wrong content."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.errors import BadInputError, LamellaError, NetworkError, NotFoundError, UnsupportedError
from lamella.images.credentials import ANONYMOUS
from lamella.images.digest import file_name
from lamella.images.registry import RegistrySource
from lamella.images.transport import Transport, retry_after
from tests.images.fake_registry import Handler, Server, body, broken_after, raw, status
from tests.images.pulling import BIG, pull
from tests.support import registry as real
from tests.support.images import Sample, compact, sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    "location", ["/v2/lib/it/blobs/x", "file:///etc/passwd", "http://[", "ftp://x/", "http://a:b/"]
)
def test_bad_redirects(tmp_path: Path, server: Server, location: str) -> None:
    server.behaviour.faults = [("/manifests/", status(302, Location=location))] + [
        ("/blobs/x", status(302, Location="/v2/lib/it/blobs/x")) for _ in range(30)
    ]
    with pytest.raises(LamellaError):
        pull(server, tmp_path / "dl")


def test_servers_that_are_busy_are_asked_again(tmp_path: Path, server: Server) -> None:
    slept: list[float] = []
    server.behaviour.faults = [
        ("/manifests/", status(503)),
        ("/manifests/", status(429, Retry_After="7")),
        ("/manifests/", raw(b"")),
        ("/manifests/", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n")),
        ("/blobs/", status(500)),
        ("/blobs/", status(502)),
    ]
    pull(server, tmp_path / "dl", sleeps=slept)
    assert 7.0 in slept
    assert len(slept) >= 6


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (status(503), "failed with the status 503"),
        (status(429), "toomanyrequests"),
        (status(429, Retry_After="86400"), "toomanyrequests"),
        (raw(b""), "cannot reach"),
        (raw(b"garbage\r\n\r\n"), "cannot reach"),
    ],
)
def test_servers_that_stay_busy_are_reported(
    tmp_path: Path, server: Server, fault: Callable[[Handler], bool], why: str
) -> None:
    server.behaviour.faults = [("/manifests/", fault) for _ in range(10)]
    with pytest.raises(NetworkError, match=why):
        pull(server, tmp_path / "dl")
    assert len(server.behaviour.faults) == 9 if "86400" in str(fault) else True


def test_no_server(tmp_path: Path) -> None:
    host = f"127.0.0.1:{real.free_port()}"
    slept: list[float] = []
    source = RegistrySource(f"{host}/a:1", tmp_path, transport=Transport(sleep=slept.append))
    with pytest.raises(NetworkError, match="Connection refused"):
        source.images()
    assert len(slept) == 1


def test_http_where_https_was_expected(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamella.images.registry_client.is_loopback", lambda host: False)
    source = RegistrySource(f"{server.host}/lib/it:1", tmp_path, credentials=ANONYMOUS)
    with pytest.raises(NetworkError, match="HTTP response to an HTTPS client") as caught:
        source.images()
    assert "--insecure-registry" in (caught.value.hint or "")
    with RegistrySource(f"{server.host}/lib/it:1", tmp_path, insecure=True, credentials=ANONYMOUS) as source:
        assert source.images()[0].config_digest == Sample().image_id


def test_a_download_resumes_where_it_broke(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    server.behaviour.add(BIG)
    layer = BIG.diff_ids[0]
    server.behaviour.faults = [
        (layer, broken_after(300_000)),
        (layer, broken_after(200_000)),
        (layer, raw(b"")),
    ]
    pull(server, tmp_path / "dl", sample=BIG)
    asked = [asked.headers.get("Range", "") for asked in server.behaviour.asked if layer in asked.path]
    starts = [int(value.removeprefix("bytes=").rstrip("-") or 0) for value in asked]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert starts[-1] > 200_000
    assert len(sleeps) == 2


def test_a_server_without_ranges(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    server.behaviour.add(BIG)
    server.behaviour.ranges = False
    server.behaviour.faults = [(BIG.diff_ids[1], broken_after(300_000)), (BIG.diff_ids[1], broken_after(200))]
    pull(server, tmp_path / "dl", sample=BIG)
    assert len(sleeps) == 2


def test_a_download_goes_on_in_a_later_pull(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    server.behaviour.add(BIG)
    blob = server.behaviour.blobs[BIG.diff_ids[0]]
    folder = tmp_path / "dl"
    folder.mkdir()
    (folder / (file_name(BIG.diff_ids[0]) + ".partial")).write_bytes(blob[:500_000])
    (folder / (file_name(BIG.diff_ids[1]) + ".partial")).write_bytes(b"rubbish" * 1000)
    (folder / (file_name(BIG.diff_ids[2]) + ".partial")).write_bytes(blob + b"too long" * 100_000)
    (folder / file_name(BIG.diff_ids[3])).write_bytes(server.behaviour.blobs[BIG.diff_ids[3]])
    (folder / file_name(BIG.diff_ids[4])).write_bytes(b"x" * len(server.behaviour.blobs[BIG.diff_ids[4]]))
    pull(server, folder, sample=BIG)
    assert server.behaviour.paths(BIG.diff_ids[3]) == []
    ranges = [asked.headers.get("Range") for asked in server.behaviour.asked if BIG.diff_ids[0] in asked.path]
    assert ranges == ["bytes=500000-"]


def test_a_dead_download_stays_for_later(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    server.behaviour.add(BIG)
    server.behaviour.faults = [(BIG.diff_ids[0], broken_after(1000)) for _ in range(20)]
    with pytest.raises(NetworkError, match="was interrupted 5 times"):
        pull(server, tmp_path / "dl", sample=BIG)
    assert (tmp_path / "dl" / (file_name(BIG.diff_ids[0]) + ".partial")).stat().st_size > 0
    server.behaviour.faults.clear()
    for path in (tmp_path / "dl").iterdir():
        if not path.name.endswith(".partial"):
            path.unlink()
    pull(server, tmp_path / "dl", sample=BIG)


def test_wrong_blobs_never_get_through(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    digest = Sample().manifest()[0]["layers"][0]["digest"]
    good = server.behaviour.blobs[digest]
    for bad, why in (
        (good[:-1] + b"X", "wrong digest"),
        (good + b"more", "longer than"),
        (good[:-9], "bytes are missing|was interrupted"),
        (b"", "missing|was interrupted"),
    ):
        server.behaviour.blobs[digest] = bad
        with pytest.raises(LamellaError, match=why):
            pull(server, tmp_path / "dl")
    del server.behaviour.blobs[digest]
    with pytest.raises(NetworkError, match="blob unknown"):
        pull(server, tmp_path / "dl")
    server.behaviour.blobs[digest] = good
    for path in (tmp_path / "dl").iterdir():
        path.unlink()
    pull(server, tmp_path / "dl")


def test_wrong_manifests(tmp_path: Path, server: Server) -> None:
    it = server.behaviour
    kind, good = it.manifests["1"]
    digest = sha256(good)
    it.manifests[digest] = (kind, good + b" ")
    with pytest.raises(BadInputError, match="does not have the digest"):
        pull(server, tmp_path / "dl", f"lib/it@{digest}")
    it.headers = {"Docker-Content-Digest": sha256(b"other")}
    with pytest.raises(BadInputError, match="does not have the digest"):
        pull(server, tmp_path / "dl")
    it.headers = {"Docker-Content-Digest": "rubbish"}
    source = pull(server, tmp_path / "dl")
    assert source.digest == digest
    it.manifests["1"] = ("application/vnd.docker.distribution.manifest.v1+prettyjws", b'{"schemaVersion":1}')
    with pytest.raises(UnsupportedError, match="schema 1"):
        pull(server, tmp_path / "dl")
    it.manifests["1"] = (kind, b" " * (5 << 20))
    with pytest.raises(BadInputError, match="more than"):
        pull(server, tmp_path / "dl")
    it.manifests["1"] = ("text/html; charset=utf-8", b"<html>a portal that wants money</html>")
    with pytest.raises(BadInputError, match="not valid JSON"):
        pull(server, tmp_path / "dl")
    config = Sample().image_id
    it.manifests["1"] = (kind, good)
    it.blobs[config] = it.blobs[config][:-1] + b" "
    with pytest.raises(BadInputError, match="does not have the digest"):
        pull(server, tmp_path / "dl")
    del it.blobs[config]
    with pytest.raises(BadInputError, match="does not have the configuration"):
        pull(server, tmp_path / "dl")


def test_what_is_not_there(tmp_path: Path, server: Server) -> None:
    with pytest.raises(NotFoundError, match=r"manifest for .*lib/it:2 not found: manifest unknown"):
        pull(server, tmp_path / "dl", "lib/it:2")
    with pytest.raises(
        NotFoundError, match=r"pull access denied for .*/unknown/it, repository does not exist or may"
    ):
        pull(server, tmp_path / "dl", "unknown/it:2")
    server.behaviour.faults = [("/manifests/", status(403))]
    with pytest.raises(NetworkError, match="may require 'docker login'"):
        pull(server, tmp_path / "dl")


def test_a_storage_that_calls_a_layer_encoded(tmp_path: Path, server: Server) -> None:
    digest = Sample().manifest()[0]["layers"][0]["digest"]
    server.behaviour.faults = [(digest, body(server.behaviour.blobs[digest], Content_Encoding="gzip"))]
    pull(server, tmp_path / "dl")


def test_an_error_that_would_steer_the_terminal(tmp_path: Path, server: Server) -> None:
    answer = compact({"errors": [{"code": "DENIED", "message": "\x1b[2Jgone\n"}]})

    def denied(handler: Handler) -> bool:
        handler.reply(403, answer)
        return True

    server.behaviour.faults = [("/manifests/", denied)]
    with pytest.raises(NetworkError, match=r"denied:  \[2Jgone"):
        pull(server, tmp_path / "dl")


def test_retry_after() -> None:
    assert retry_after("12") == 12.0
    assert retry_after(None) is retry_after("soon") is None
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    later = retry_after("Wed, 21 Oct 2099 07:28:00 GMT")
    assert later is not None
    assert later > 1e6


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200) | st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 999 X\r\n\r\n"]),
    st.sampled_from(["/v2/$", "/manifests/", "/blobs/", "/token"]),
)
def test_any_answer_of_a_server(
    tmp_path: Path, server: Server, sleeps: list[float], data: bytes, part: str
) -> None:
    server.behaviour.auth = "bearer"
    server.behaviour.faults = [(part, raw(data)), (part, body(data))]
    with contextlib.suppress(LamellaError):
        pull(server, tmp_path / "dl")
    server.behaviour.faults.clear()
    for path in (tmp_path / "dl").glob("*"):
        path.unlink()
