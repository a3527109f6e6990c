# SPDX-License-Identifier: Apache-2.0
"""Registries that are slow, stuck or ask for patience: one deadline without progress, shown meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lamella.cli.progress_line import ProgressLine
from lamella.errors import NetworkError
from lamella.images.credentials import ANONYMOUS
from lamella.images.digest import file_name
from lamella.images.patience import LEAST, Patience
from lamella.images.registry import RegistrySource
from lamella.images.transport import Transport
from lamella.progress import QUIET
from tests.images.fake_registry import Handler, Server, fake_registry, status
from tests.images.pulling import BIG
from tests.support.images import Sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.progress import Progress


class Recorder:
    """A progress that keeps what is waited for."""

    def __init__(self) -> None:
        self.waits: list[str] = []

    def start(self, what: str, total: int | None, *, unit: str = "bytes", had: int = 0) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass

    def waiting(self, why: str) -> None:
        self.waits.append(why)

    def done(self) -> None:
        pass


def dripping(first: bytes) -> Callable[[Handler], bool]:
    """A fault: send *first*, and then a byte now and then, as long as anybody listens."""

    def fault(handler: Handler) -> bool:
        handler.close_connection = True
        try:
            handler.wfile.write(first)
            while True:
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.01)
        except OSError:
            return True

    return fault


def pull(
    server: Server, folder: Path, carrier: Transport, sample: Sample, progress: Progress = QUIET
) -> None:
    name = f"{server.host}/lib/it:1"
    with RegistrySource(name, folder, credentials=ANONYMOUS, transport=carrier, progress=progress) as source:
        (image,) = source.images()
        source.prefetch(image.layers, progress)
        for layer, data in zip(image.layers, sample.layers, strict=True):
            with layer.open() as stream:
                assert stream.read() == data


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n"


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("/v2/$", b""),
        ("/v2/$", b"HTTP/1.1 200 OK\r\nX-A: "),
        ("/manifests/", b"HTTP/1.1 200 OK\r\nX-A: "),
        ("/manifests/", HEAD + b"\r\n"),
        ("/blobs/", b""),
        ("/blobs/", HEAD + b"\r\n"),
        ("/token", HEAD + b"\r\n"),
    ],
)
def test_a_byte_now_and_then_is_no_progress(tmp_path: Path, server: Server, path: str, first: bytes) -> None:
    """Whatever is slow: the status line, a header, the body; the manifest, the configuration, a token."""
    server.behaviour.auth = "bearer"
    server.behaviour.faults = [(path, dripping(first)) for _ in range(20)]
    carrier = Transport(verify=False, patience=0.4)
    with pytest.raises(NetworkError, match="no progress for 0 seconds, given up"):
        pull(server, tmp_path / "dl", carrier, Sample())


def test_a_download_that_drips_is_given_up_and_kept(tmp_path: Path, server: Server) -> None:
    server.behaviour.add(BIG)
    blob = server.behaviour.blobs[BIG.diff_ids[0]]
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(blob)}\r\n\r\n".encode()
    server.behaviour.faults = [(BIG.diff_ids[0], dripping(head + blob[:200_000]))]
    with pytest.raises(NetworkError, match=r"the download of the layer .*: no progress"):
        pull(server, tmp_path / "dl", Transport(verify=False, patience=0.5), BIG)
    assert (tmp_path / "dl" / (file_name(BIG.diff_ids[0]) + ".partial")).stat().st_size >= 200_000
    pull(server, tmp_path / "dl", Transport(verify=False, patience=60), BIG)


def test_slow_progress_is_progress() -> None:
    now = [0.0]
    patience = Patience(100, clock=lambda: now[0])
    for _ in range(50):
        now[0] += 99
        patience.received(LEAST)
        assert patience.left == 100
    patience.received(LEAST - 1)
    now[0] += 99
    assert patience.left == 1
    patience.received(1)
    assert patience.left == 100


@pytest.mark.parametrize(("code", "words"), [(429, "rate-limits us"), (503, "status 503")])
def test_retry_after_for_ever_ends_with_the_deadline(
    tmp_path: Path, server: Server, code: int, words: str
) -> None:
    """RFC 9110, section 10.2.3: a server may ask for any time; the sum of all waits has a limit here."""
    now, said = [0.0], Recorder()

    def sleep(seconds: float) -> None:
        now[0] += seconds

    server.behaviour.faults = [("/manifests/", status(code, Retry_After="59")) for _ in range(20)]
    carrier = Transport(verify=False, sleep=sleep, clock=lambda: now[0])
    with pytest.raises(NetworkError, match=words):
        pull(server, tmp_path / "dl", carrier, Sample(), said)
    assert now[0] == 118
    assert said.waits == [f"waiting 59 s for {server.host} (status {code})"] * 2


def test_waits_of_a_download_are_shown(tmp_path: Path, server: Server) -> None:
    """By the thread that waits for the layer: the others have their own to tell of."""
    server.behaviour.add(BIG)
    server.behaviour.faults = [(BIG.diff_ids[0], status(503, Retry_After="1"))]
    said = Recorder()
    pull(server, tmp_path / "dl", Transport(verify=False), BIG, said)
    assert f"waiting 1 s for {server.host} (status 503)" in said.waits


def test_the_line_shows_what_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    line = ProgressLine(clock=lambda: now[0])
    line.start("layer: downloading", 1000)
    now[0] = 1
    line.waiting("waiting 59 s for host (status 429)\x1b[2J")
    shown = capsys.readouterr().err.rpartition("\r")[2]
    assert "waiting 59 s for host (status 429)" in shown
    assert "\x1b[2J" not in shown
    now[0] = 2
    line.advance(10)
    assert "waiting" not in capsys.readouterr().err.rpartition("\r")[2]


def test_a_token_service_that_is_down_is_named(tmp_path: Path, server: Server) -> None:
    with fake_registry() as gone:
        realm = f"{gone.url}/token"
    server.behaviour.faults = [
        ("/v2/", status(401, WWW_Authenticate=f'Bearer realm="{realm}"')) for _ in range(9)
    ]
    with pytest.raises(NetworkError, match=f"token service {realm} does not answer: .*Connection refused"):
        pull(server, tmp_path / "dl", Transport(verify=False, sleep=lambda seconds: None), Sample())


def test_a_token_service_that_fails_is_named(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth = "bearer"
    server.behaviour.faults = [("/token", status(500)) for _ in range(9)]
    with pytest.raises(NetworkError, match=r"token service http://.*/token failed with the status 500"):
        pull(server, tmp_path / "dl", Transport(verify=False, sleep=lambda seconds: None), Sample())


def test_a_redirect_loop_is_told_as_that(tmp_path: Path, server: Server) -> None:
    """Also where the first try, with TLS, failed in another way."""
    server.behaviour.faults = [("/v2/$", status(307, Location="/v2/")) for _ in range(40)]
    with pytest.raises(NetworkError, match="more than 10 redirects"):
        pull(server, tmp_path / "dl", Transport(verify=False, sleep=lambda seconds: None), Sample())
