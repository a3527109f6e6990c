# SPDX-License-Identifier: Apache-2.0
"""`lamella serve --containerd` as a process."""

from __future__ import annotations

import os
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import grpc
import pytest

from lamella.services.containerd.protos.snapshots_pb2 import (
    ListSnapshotsRequest,
    PrepareSnapshotRequest,
    StatSnapshotRequest,
)
from lamella.services.containerd.protos.snapshots_pb2_grpc import SnapshotsStub
from tests.conftest import missing
from tests.support.daemon import LONG, lamella, served
from tests.support.registry import free_port
from tests.support.stores import KERNEL, assert_sound, set_up

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(KERNEL, reason="test_conformance.py does this with the kernel's engine")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    set_up(tmp_path / "store", "loop-lvm").close()
    return tmp_path / "store"


def test_the_default_socket(root: Path) -> None:
    if os.getuid() or not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
        missing("the right to mount, /dev/fuse or /dev/loop-control")
    with served(root, "--containerd") as daemon:
        address = root / "run" / "containerd.sock"
        assert address.stat().st_mode & 0o777 == 0o600
        with grpc.insecure_channel(f"unix:{address}") as channel:
            client = SnapshotsStub(channel)
            (mount,) = client.Prepare(PrepareSnapshotRequest(key="default/1/a")).mounts
            shown = subprocess.run(["blkid", "-o", "value", "-s", "TYPE", mount.source], capture_output=True)
            assert shown.stdout == f"{mount.type}\n".encode()
            (listed,) = client.List(ListSnapshotsRequest(filters=["name~=|/a$|"]))
            assert [info.name for info in listed.info] == ["default/1/a"]
        again = lamella(root, "serve", "--containerd")
        assert again.returncode == 5
        assert b"Traceback" not in again.stderr
        assert daemon.stop() == 0
        assert not address.exists()
        assert "Traceback" not in daemon.logged()
    assert_sound(root)


def test_calls_are_metrics(root: Path, tmp_path: Path) -> None:
    port = free_port()
    folder = os.open(tmp_path, os.O_RDONLY)  # leads there also where the path is long
    with served(root, f"--containerd={os.path.relpath(tmp_path)}/c.sock", f"--metrics=127.0.0.1:{port}"):
        with (
            grpc.insecure_channel(f"unix:/proc/self/fd/{folder}/c.sock") as channel,
            pytest.raises(grpc.RpcError, match="NOT_FOUND"),
        ):
            SnapshotsStub(channel).Stat(StatSnapshotRequest(key="none"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LONG) as answer:
            assert b'lamella_operations_total{operation="Stat",result="error"} 1.0' in answer.read()
    os.close(folder)


def test_a_socket_that_somebody_has(root: Path, tmp_path: Path) -> None:
    (tmp_path / "c.sock").write_text("kept")
    refused = lamella(root, "serve", f"--containerd={tmp_path}/c.sock")
    assert refused.returncode == 4
    assert b"c.sock is there and is no socket" in refused.stderr
    assert b"Traceback" not in refused.stderr
    assert (tmp_path / "c.sock").read_text() == "kept"
