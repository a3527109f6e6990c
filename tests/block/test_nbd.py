# SPDX-License-Identifier: Apache-2.0
"""A remote disk behaves like the array of bytes that it stands for, also when its server dies and returns."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from lamella.block import nbd, open_device
from lamella.block.nbd import NbdDevice
from lamella.block.nbd_protocol import parse_address
from lamella.errors import BadInputError, NetworkError, NotFoundError, ReadOnlyError, UsageError
from tests.block.test_devices import replay
from tests.support.nbd import PROGRAMS, Server, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


SIZE = 1 << 20


@pytest.fixture(params=PROGRAMS)
def server(request: pytest.FixtureRequest, tool: Callable[[str], str], tmp_path: Path) -> Iterator[Server]:
    made = serve(request.param, tool(request.param), tmp_path / "disk", SIZE)
    yield made
    made.kill()


def test_an_array_of_bytes(server: Server) -> None:
    with NbdDevice(server.uri) as device:
        assert device.size == SIZE
        # The model of the other devices is smaller than this disk.
        from lamella.block import Part

        script: list[tuple[str, object]] = [
            ("write", (100, b"abc" * 500)),
            ("write_many", [(n * 600, bytes([n]) * 599) for n in range(100)]),
            ("zero", (700, 9000)),
            ("discard", (20000, 8192)),
            ("read", (0, 20000)),
        ]
        replay(Part(device, 4096, 65536), bytearray(65536), script)
        device.flush()


def test_large_batches(server: Server) -> None:
    chooser = random.Random(1)
    data = chooser.randbytes(SIZE)
    with NbdDevice(server.uri) as device:
        device.write_many([(at, data[at : at + 1024]) for at in range(0, SIZE, 1024)])
        buffers = [(at, bytearray(1024)) for at in range(0, SIZE, 1024)]
        device.read_many(buffers)
        assert b"".join(bytes(buffer) for _, buffer in buffers) == data
        device.flush()
    assert Path(server.file).read_bytes() == data


@pytest.mark.slow
def test_the_server_dies_and_returns(server: Server) -> None:
    """Killed at random moments, its unflushed writes torn out of the file: what was flushed is there."""
    chooser = random.Random(2)
    model = bytearray(SIZE)
    with NbdDevice(server.uri) as device:
        for round_ in range(6):
            flushed = bytes(model)
            for _ in range(20):
                at = chooser.randrange(0, SIZE - 4096)
                data = chooser.randbytes(chooser.randrange(1, 4096))
                device.write(at, data)
                model[at : at + len(data)] = data
            server.kill()
            if round_ % 2:
                # A host that lost power: nothing since the last flush reached the disk.
                Path(server.file).write_bytes(flushed)
            flusher = threading.Thread(target=device.flush)
            flusher.start()
            time.sleep(0.1)
            server.start()
            flusher.join()
            assert Path(server.file).read_bytes() == bytes(model)
            assert device.read(0, SIZE) == bytes(model)


def test_the_timeout_counts_from_when_it_was_there_last(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that it comes back, for however short, it is waited for anew; but not for ever."""
    now = 0.0
    breaks = 5

    def sleep(_: float) -> None:
        nonlocal now
        now += 0.6

    def exchange(self: NbdDevice, requests: object) -> None:
        nonlocal breaks
        breaks -= 1
        if breaks >= 0:
            raise ConnectionResetError(104, "Connection reset by peer")
        plain(self, requests)  # type: ignore[arg-type]  # as it came

    plain = NbdDevice._exchange
    monkeypatch.setattr(nbd, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    monkeypatch.setattr(NbdDevice, "_exchange", exchange)
    with NbdDevice(server.uri, timeout=1.0) as device:
        assert device.read(0, 4096) == bytes(4096)
        assert now > 2
        breaks = 1 << 30
        with pytest.raises(NetworkError, match="was restored 101 times, and broke again"):
            device.read(0, 4096)


def test_read_only_servers(tool: Callable[[str], str], tmp_path: Path) -> None:
    program = tool("nbdkit")
    server = Server(
        lambda sock, file: [program, "-f", "-r", "-U", sock, "file", file], tmp_path / "disk", SIZE
    )
    try:
        with pytest.raises(ReadOnlyError, match="served read-only"):
            NbdDevice(server.uri)
        with open_device(server.uri, read_only=True) as device:
            assert device.read(0, 4) == bytes(4)
            with pytest.raises(ReadOnlyError):
                device.write(0, b"x")
    finally:
        server.kill()


def test_a_server_with_sector_sized_requests(tool: Callable[[str], str], tmp_path: Path) -> None:
    program = tool("nbdkit")
    server = Server(
        lambda sock, file: [
            program, "-f", "-U", sock, "--filter=blocksize-policy", "file", file,
            "blocksize-minimum=512", "blocksize-preferred=4096", "blocksize-maximum=65536",
            "blocksize-error-policy=error",
        ],
        tmp_path / "disk",
        SIZE,
    )  # fmt: skip
    try:
        with NbdDevice(server.uri) as device:
            device.write(1000, b"across two sectors" * 20)
            assert device.read(1000, 18) == b"across two sectors"
            assert device.read(999, 1) == b"\0"
            device.write(0, bytes(range(256)) * 1024)
            assert device.read(0, 262144) == bytes(range(256)) * 1024
    finally:
        server.kill()


def test_errors(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="cannot reach"):
        NbdDevice(f"nbd+unix:///?socket={tmp_path}/none")
    if "qemu" in server.command[0]:
        with pytest.raises(NotFoundError, match="no such export"):
            NbdDevice(f"nbd+unix:///other?socket={server.socket}")
    device = NbdDevice(server.uri, timeout=0.3)
    server.kill()
    with pytest.raises(NetworkError, match="could not be restored"):
        device.read(0, 512)
    # Another disk under the same address must not be written.
    with open(server.file, "r+b") as disk:
        disk.truncate(SIZE * 2)
    server.start()
    with pytest.raises(BadInputError, match="instead of 1048576"):
        device.write(0, b"x")


def test_a_server_of_something_else(tmp_path: Path) -> None:
    import socket

    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            link, _ = listener.accept()
            link.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
            link.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(BadInputError, match="does not speak"):
            NbdDevice(f"nbd+unix:///?socket={path}")
        thread.join()


@pytest.mark.parametrize(
    "uri", ["nbd://", "nbd:///export", "http://x/", "nbd+unix:///x", "nbd://h:port/", "nbd://h:99999/"]
)
def test_bad_addresses(uri: str) -> None:
    with pytest.raises(UsageError):
        parse_address(uri)


def test_addresses() -> None:
    address = parse_address("nbd://disk.example/my%20export")
    assert (address.host, address.port, address.export) == ("disk.example", 10809, "my export")
    assert parse_address("nbds://[::1]:7/").tls
    assert parse_address("nbd+unix:///?socket=/run/x").socket_path == "/run/x"
