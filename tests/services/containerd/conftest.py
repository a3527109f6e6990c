# SPDX-License-Identifier: Apache-2.0
"""A server of snapshots that are in memory, and a client of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from lamella.services.containerd.protos.snapshots_pb2_grpc import SnapshotsStub
from lamella.services.containerd.service import SnapshotService
from tests.support.memory_snapshots import MemoryHosted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def hosted(tmp_path: Path) -> MemoryHosted:
    return MemoryHosted(tmp_path)


@pytest.fixture
def observed() -> list[tuple[str, float, str]]:
    """The calls that the server told of."""
    return []


@pytest.fixture
def service(hosted: MemoryHosted, observed: list[tuple[str, float, str]]) -> Iterator[SnapshotService]:
    running = SnapshotService(hosted, observe=lambda *call: observed.append(call))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def channel(service: SnapshotService) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"unix:{service.address}") as opened:
        yield opened


@pytest.fixture
def client(channel: grpc.Channel) -> SnapshotsStub:
    return SnapshotsStub(channel)
