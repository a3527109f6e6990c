# SPDX-License-Identifier: Apache-2.0
"""Addresses to serve on: their forms, what is refused, and what each error says next."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BusyError, LamellaError, NotFoundError, PermissionDeniedError, UsageError
from lamella.services.metrics.address import Address
from tests.conftest import missing
from tests.services.metrics.conftest import Readers, fetch, serving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("localhost:9813", Address("localhost", 9813)),
        (":9813", Address("", 9813)),
        ("[::1]:9813", Address("::1", 9813)),
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("unix:/run/lamella/metrics.sock", Address(path="/run/lamella/metrics.sock")),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, wanted: Address) -> None:
    assert Address.parse(text) == wanted
    assert str(wanted) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9813",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:65536",
        "localhost:-1",
        "localhost:²",
        "::1:9813",
        "[localhost]:1",
        "unix:",
        "unix:run/x",
        "unix:/" + "x" * 120,
        "unix:/a\0b",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Address.parse(text)
    assert refused.value.hint


def test_a_name_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="is no address of this machine"):
        Address.parse("no-such-host.invalid:9813").listen()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UsageError, match=r"192\.0\.2\.1 is no address of this machine"):
        Address.parse("192.0.2.1:9813").listen()


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_that_is_in_use_is_busy(host: str) -> None:
    with Address(host, 0).listen() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BusyError, match="another process serves") as refused:
            Address.parse(f"{host}:{port}").listen()
    assert str(port) in (refused.value.hint or "")


def test_a_port_that_is_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, where: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(PermissionDeniedError, match="not permitted") as refused:
        Address.parse("127.0.0.1:80").listen()
    assert "1024" in (refused.value.hint or "")


def test_all_interfaces_are_served_on_ipv4_and_ipv6(root: Path) -> None:
    with serving(Readers(root), ":0") as service:
        port = service.address.rpartition(":")[2]
        assert fetch(f"127.0.0.1:{port}", "/").status == 200
        if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):
            missing("IPv6")
        assert fetch(f"[::1]:{port}", "/").status == 200


def test_a_unix_socket_is_served_and_removed(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with serving(Readers(root), f"unix:{path}") as service:
        assert fetch(service.address).status == 200
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(BusyError, match="another process serves"):
            Address(path=str(path)).listen()
        assert fetch(service.address, "/").status == 200  # it was left alone
    assert not path.exists()


def test_a_socket_that_an_ended_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    Address(path=str(path)).listen().close()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "metrics.sock"
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
    with pytest.raises(UsageError, match="is no socket"):
        Address(path=str(path)).listen()
    assert path.exists()


def test_a_socket_in_no_folder(tmp_path: Path) -> None:
    with pytest.raises(LamellaError) as refused:
        Address(path=str(tmp_path / "none/metrics.sock")).listen()
    assert isinstance(refused.value, NotFoundError)
    assert refused.value.hint
