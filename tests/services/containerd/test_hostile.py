# SPDX-License-Identifier: Apache-2.0
"""Clients that send what they should not, leave, or come in numbers: the server answers, and goes on."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest

from lamella.services.containerd import service as service_module
from lamella.services.containerd.protos.snapshots_pb2 import (
    CommitSnapshotRequest,
    ListSnapshotsRequest,
    PrepareSnapshotRequest,
    RemoveSnapshotRequest,
    StatSnapshotRequest,
)
from lamella.services.containerd.protos.snapshots_pb2_grpc import SnapshotsStub
from lamella.services.containerd.service import SnapshotService
from lamella.store.snapshot_model import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.memory_snapshots import MemoryHosted

SERVICE = "/containerd.services.snapshots.v1.Snapshots"


class Gate:
    """Holds up whoever passes until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._opened = threading.Event()

    def held(self, method: Callable[..., object]) -> Callable[..., object]:
        def pass_through(*arguments: object, **named: object) -> object:
            self.entered.release()
            assert self._opened.wait(300)
            return method(*arguments, **named)

        return pass_through

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


def raw(channel: grpc.Channel, method: str, message: bytes) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}/{method}")(message)
    assert isinstance(caught.value, grpc.Call)
    code = caught.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def test_bytes_that_are_no_message(channel: grpc.Channel, client: SnapshotsStub) -> None:
    assert raw(channel, "Stat", b"\xff\xff\xff") is grpc.StatusCode.INTERNAL
    assert raw(channel, "Stat", b"\x12\x02\xff\xfe") is grpc.StatusCode.INTERNAL  # a key that is no UTF-8
    assert raw(channel, "Stat", b"\x12\xff\xff\xff\xff\x0f") is grpc.StatusCode.INTERNAL
    assert raw(channel, "Stat", b"") is grpc.StatusCode.INVALID_ARGUMENT
    assert raw(channel, "Destroy", b"") is grpc.StatusCode.UNIMPLEMENTED
    client.Prepare(PrepareSnapshotRequest(key="a"))


def test_bytes_that_are_no_grpc(service: SnapshotService, client: SnapshotsStub) -> None:
    chosen = random.Random(5)
    sent = [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 1000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff\xff\xff\x04\0\0\0\0\0" + b"x" * 100_000,
        *(chosen.randbytes(chosen.randint(1, 5000)) for _ in range(50)),
        *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + chosen.randbytes(chosen.randint(1, 500)) for _ in range(50)),
    ]
    for data in sent:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(service.address))
            try:
                plain.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server has seen enough
    client.Prepare(PrepareSnapshotRequest(key="a"))


def test_a_message_that_is_too_large(client: SnapshotsStub, hosted: MemoryHosted) -> None:
    large = {f"key {number}": "v" * 4000 for number in range(4200)}
    with pytest.raises(grpc.RpcError) as caught:
        client.Prepare(PrepareSnapshotRequest(key="a", labels=large))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert hosted.snapshots.walk() == []
    client.Prepare(PrepareSnapshotRequest(key="a" * 100_000, labels=dict(list(large.items())[:3000])))


def test_a_call_that_is_cancelled(
    client: SnapshotsStub, hosted: MemoryHosted, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.Prepare(PrepareSnapshotRequest(key="a"))
    monkeypatch.setattr(hosted.snapshots, "commit", gate.held(hosted.snapshots.commit))
    call = client.Commit.future(CommitSnapshotRequest(name="b", key="a"))
    assert gate.entered.acquire(timeout=300)
    assert call.cancel()
    gate.open()
    while not any(found.kind is Kind.COMMITTED for found in hosted.snapshots.walk()):
        time.sleep(0.01)
    client.Remove(RemoveSnapshotRequest(key="b"))


def test_a_deadline_that_passes(
    client: SnapshotsStub, hosted: MemoryHosted, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted.snapshots, "stat", gate.held(hosted.snapshots.stat))
    with pytest.raises(grpc.RpcError) as caught:
        client.Stat(StatSnapshotRequest(key="a"), timeout=0.1)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    client.Prepare(PrepareSnapshotRequest(key="a"))


DYING = """
import sys, grpc
from lamella.services.containerd.protos.snapshots_pb2 import CommitSnapshotRequest
from lamella.services.containerd.protos.snapshots_pb2_grpc import SnapshotsStub
SnapshotsStub(grpc.insecure_channel("unix:" + sys.argv[1])).Commit(CommitSnapshotRequest(name="b", key="a"))
"""


def test_a_client_that_dies_while_its_snapshot_is_committed(
    service: SnapshotService,
    client: SnapshotsStub,
    hosted: MemoryHosted,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client.Prepare(PrepareSnapshotRequest(key="a"))
    monkeypatch.setattr(hosted.snapshots, "commit", gate.held(hosted.snapshots.commit))
    with subprocess.Popen([sys.executable, "-c", DYING, str(service.address)]) as dying:
        assert gate.entered.acquire(timeout=300)
        dying.kill()
    client.Prepare(PrepareSnapshotRequest(key="other"))
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    gate.open()
    stopping.join(300)
    assert not stopping.is_alive()
    # Stopping has waited for it, though its client was gone.
    assert hosted.snapshots.stat("b").kind is Kind.COMMITTED


def test_stopping_lets_calls_end(
    service: SnapshotService,
    client: SnapshotsStub,
    hosted: MemoryHosted,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client.Prepare(PrepareSnapshotRequest(key="a"))
    monkeypatch.setattr(hosted.snapshots, "commit", gate.held(hosted.snapshots.commit))
    call = client.Commit.future(CommitSnapshotRequest(name="b", key="a"))
    assert gate.entered.acquire(timeout=300)
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    while service.address.exists():
        time.sleep(0.01)
    gate.open()
    call.result(300)
    stopping.join(300)
    assert not stopping.is_alive()


def test_stopping_does_not_wait_for_ever(
    hosted: MemoryHosted, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "STOP_SECONDS", 0.2)
    monkeypatch.setattr(hosted.snapshots, "stat", gate.held(hosted.snapshots.stat))
    service = SnapshotService(hosted)
    service.start()
    with grpc.insecure_channel(f"unix:{service.address}") as channel:
        call = SnapshotsStub(channel).Stat.future(StatSnapshotRequest(key="a"))
        assert gate.entered.acquire(timeout=300)
        service.stop()
        with pytest.raises(grpc.RpcError):
            call.result(300)


def test_more_calls_than_it_takes(hosted: MemoryHosted, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "MOST_CALLS", 3)
    monkeypatch.setattr(service_module, "OPTIONS", ())
    monkeypatch.setattr(hosted.snapshots, "stat", gate.held(hosted.snapshots.stat))
    service = SnapshotService(hosted)
    service.start()
    with grpc.insecure_channel(f"unix:{service.address}") as channel:
        client = SnapshotsStub(channel)
        client.Prepare(PrepareSnapshotRequest(key="a"))
        calls = [client.Stat.future(StatSnapshotRequest(key="a")) for _ in range(3)]
        for _ in calls:
            assert gate.entered.acquire(timeout=300)
        with pytest.raises(grpc.RpcError) as caught:
            client.Stat(StatSnapshotRequest(key="a"))
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.open()
        assert {call.result(300).info.name for call in calls} == {"a"}
    service.stop()


def test_a_list_that_is_not_read_to_its_end(
    client: SnapshotsStub, observed: list[tuple[str, float, str]]
) -> None:
    for number in range(500):
        client.Prepare(PrepareSnapshotRequest(key=f"{number:0500}", labels={"l": "v" * 4000}))
    calls = [client.List(ListSnapshotsRequest()) for _ in range(20)]
    for call in calls:
        assert next(call).info
        call.cancel()
    client.Remove(RemoveSnapshotRequest(key=f"{0:0500}"))
    while sum(method == "List" for method, *_ in observed) < len(calls):
        time.sleep(0.01)


def test_eight_threads_at_once(service: SnapshotService, hosted: MemoryHosted) -> None:
    def work(thread: int) -> int:
        done = 0
        with grpc.insecure_channel(
            f"unix:{service.address}", [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            client = SnapshotsStub(channel)
            for number in range(100):
                key = f"{thread}-{number}"
                client.Prepare(PrepareSnapshotRequest(key=key))
                committing = client.Commit.future(CommitSnapshotRequest(name=f"shared-{number}", key=key))
                if committing.code() is grpc.StatusCode.OK:
                    done += 1
                else:
                    assert committing.code() is grpc.StatusCode.ALREADY_EXISTS
                    client.Remove(RemoveSnapshotRequest(key=key))
        return done

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(work, range(8))) == 100
    assert sorted(found.key for found in hosted.snapshots.walk()) == sorted(f"shared-{n}" for n in range(100))


SERVING = """
import sys
from pathlib import Path
from lamella.services.containerd.service import SnapshotService
from tests.support.memory_snapshots import MemoryHosted
service = SnapshotService(MemoryHosted(Path(sys.argv[1])))
service.start()
print("ready", flush=True)
sys.stdin.read()
service.stop()
"""


def test_memory_with_ten_thousand_keys(hosted: MemoryHosted) -> None:
    command = [sys.executable, "-c", SERVING, str(hosted.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert serving.stdout.readline() == "ready\n"
        with grpc.insecure_channel(f"unix:{hosted.root}/run/containerd.sock") as channel:
            client = SnapshotsStub(channel)
            for number in range(10_000):
                client.Prepare(
                    PrepareSnapshotRequest(
                        key=f"default/{number}/extract sha256:{number:064}", labels={"l": "v" * 500}
                    )
                )
            for _ in range(3):
                answers = client.List(ListSnapshotsRequest(filters=["name~=/extract/"]))
                assert sum(len(answer.info) for answer in answers) == 10_000
        with open(f"/proc/{serving.pid}/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        serving.communicate("")
    assert serving.returncode == 0
    assert peak < 200 * 1024, f"{peak} KiB"
