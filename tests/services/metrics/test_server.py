# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: its paths, its health, and clients that behave badly."""

from __future__ import annotations

import dataclasses
import gzip
import http.client
import re
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from lamella.errors import LamellaError
from lamella.services.metrics import server
from lamella.services.metrics.kept import Kept
from lamella.services.metrics.service import MetricsService
from lamella.thin.health import Facts, diagnose
from lamella.thin.status import PoolMode
from tests.services.metrics.conftest import Readers, fetch, serving, values
from tests.support.stores import change_superblock

if TYPE_CHECKING:
    from pathlib import Path


def test_paths(root: Path) -> None:
    with serving(Readers(root)) as service:
        assert "/metrics" in fetch(service.address, "/").text
        assert fetch(service.address, "/other").status == 404
        assert fetch(service.address, "/healthz", method="POST").status == 405
        assert fetch(service.address, "/metrics", method="DELETE").status == 405
        head = fetch(service.address, "/healthz", method="HEAD")
        assert (head.status, head.text) == (200, "")
        only = fetch(service.address, "/metrics?name[]=lamella_images").text
        assert values(only, "lamella_images") == {"": 1}
        assert values(only, "lamella_pool_devices") == {}


def test_an_answer_is_compressed_for_who_asks(root: Path) -> None:
    with serving(Readers(root)) as service:
        host, _, port = service.address.rpartition(":")
        client = http.client.HTTPConnection(host, int(port), timeout=60)
        client.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        got = client.getresponse()
        assert got.getheader("Content-Encoding") == "gzip"
        assert b"lamella_images 1.0" in gzip.decompress(got.read())
        client.close()


def test_a_pool_that_works_is_healthy(root: Path) -> None:
    with serving(Readers(root)) as service:
        assert fetch(service.address, "/healthz")[::2] == (200, "fine\n")


def test_a_pool_that_needs_a_check_is_not(root: Path) -> None:
    change_superblock(root, flags=1)
    with serving(Readers(root)) as service:
        answer = fetch(service.address, "/healthz")
        text = fetch(service.address).text
    assert answer.status == 503
    assert answer.text.startswith("needs-check\nthe pool is read-only and needs a check")
    assert values(text, "lamella_pool_needs_check") == {"": 1}
    assert values(text, "lamella_pool_state")["needs-check"] == 1


@pytest.mark.parametrize("mode", [*PoolMode])
@pytest.mark.parametrize("suspended", [False, True])
def test_a_pool_is_healthy_where_it_can_be_written(root: Path, mode: PoolMode, suspended: bool) -> None:
    service = MetricsService(Readers(root), "127.0.0.1:0")
    service._collector.sample.start()
    sample = service._collector.sample.get(60).value
    assert sample is not None
    status = dataclasses.replace(sample.gauges.status, mode=mode)
    health = diagnose(status, Facts(chunk_size=65536, suspended=suspended))
    gauges = dataclasses.replace(sample.gauges, status=status, health=health)
    service._collector.sample.stop(60)
    service._collector.sample._last = dataclasses.replace(
        service._collector.sample._last, value=dataclasses.replace(sample, gauges=gauges)
    )
    well, reason = service.health()
    assert well == (mode is PoolMode.WRITE and not suspended)
    assert reason.splitlines()[0] == health.state


def test_before_the_first_reading_it_is_not_healthy(root: Path) -> None:
    service = MetricsService(Readers(root), "127.0.0.1:0")
    service._collector.sample.stop(0)
    assert service.health() == (False, "the store has not been read yet")


def test_a_store_that_does_not_answer_is_not_healthy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosted = Readers(root)
    let_go = threading.Event()
    with serving(hosted) as service:
        assert service.health()[0]
        hosted.before = let_go.wait
        service._collector.sample._next = 0.0
        try:
            assert service.health()[0]  # it may be busy for a while
            monkeypatch.setattr("lamella.services.metrics.service.STUCK", 0.0)
            assert re.fullmatch(r"the store has not answered for \d+ s", service.health()[1])
            assert fetch(service.address, "/healthz").status == 503
            assert fetch(service.address).status == 200
        finally:
            let_go.set()
        service._collector.sample.get(60)  # it answers again
        assert service.health() == (True, "fine")


def test_a_failed_pool_has_no_sizes(root: Path) -> None:
    hosted = Readers(root)
    with serving(hosted) as service:
        kept = service._collector.sample
        sample = kept.get(60).value
        assert sample is not None
        status = dataclasses.replace(sample.gauges.status, mode=PoolMode.FAIL)
        gauges = dataclasses.replace(
            sample.gauges, status=status, health=diagnose(status, Facts(chunk_size=65536))
        )
        kept._last = dataclasses.replace(kept._last, value=dataclasses.replace(sample, gauges=gauges))
        kept._next = float("inf")
        text = fetch(service.address).text
    assert values(text, "lamella_pool_mode")["fail"] == 1
    assert values(text, "lamella_pool_state")["failed"] == 1
    assert values(text, "lamella_pool_data_used_bytes") == {}


def test_a_client_that_sends_nothing_holds_up_nobody(root: Path) -> None:
    with serving(Readers(root)) as service:
        host, _, port = service.address.rpartition(":")
        with (
            socket.create_connection((host, int(port))),
            socket.create_connection((host, int(port))) as other,
        ):
            other.sendall(b"GET /metrics HTTP/1.1\r\nHo")
            assert fetch(service.address).status == 200


def test_clients_that_send_nothing_are_dropped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._Handler, "timeout", 0.05)
    monkeypatch.setattr(server, "MOST_REQUESTS", 1)
    with serving(Readers(root)) as service:
        host, _, port = service.address.rpartition(":")
        with socket.create_connection((host, int(port))) as idle:
            assert fetch(service.address, "/").status == 200  # once the idle one was dropped
            assert idle.recv(1) == b""


def test_stopping_is_quick_with_a_read_that_hangs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamella.services.metrics.collector.PATIENCE", 0.01)
    hosted = Readers(root)
    let_go, held = threading.Event(), threading.Event()

    def hang() -> None:
        held.set()
        let_go.wait()

    hosted.before = hang
    try:
        with serving(hosted) as service:
            assert held.wait(60)
        service.stop()  # twice is harmless
    finally:
        let_go.set()


def test_a_kept_value_rests_for_a_share_of_what_it_took() -> None:
    kept = Kept("a test", lambda: 1, fresh=0, rest=1e9)
    kept.start()
    first = kept.get(60)
    assert first.value == 1
    assert kept.get(0).reads == 1  # it would have been read again with no rest
    kept.stop(60)


def test_a_kept_value_survives_an_error_of_any_kind() -> None:
    answers: list[int | Exception] = [1, 1, ValueError("no"), LamellaError("no"), 2]
    told: list[Exception] = []

    def read() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    kept = Kept("a test", read, fresh=0, failed=told.append)
    kept.start()
    found = [kept.get(60)]  # the first reading, or the second
    while found[-1].reads < 5:
        found.append(kept.get(60))
    kept.stop(60)
    assert [each.value for each in found[-4:]] == [1, 1, 1, 2]
    assert [type(each.error) for each in found[-4:]] == [type(None), ValueError, LamellaError, type(None)]
    assert [type(each) for each in told] == [ValueError, LamellaError]
