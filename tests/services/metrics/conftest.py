# SPDX-License-Identifier: Apache-2.0
"""A small store that is served, as the daemon would host it, and a client for its metrics."""

from __future__ import annotations

import http.client
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lamella.services.metrics import MetricsService
from lamella.store import Store
from lamella.store.snapshot_model import Kind, Snapshot
from tests.support.images import Sample, write_oci_layout
from tests.support.stores import copy_store, lvm_settings, set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client import Metric

    from lamella.services.metrics.sources import Hosted


class Answer(NamedTuple):
    """Of the server."""

    status: int
    type: str
    text: str


class Snapshots:
    """containerd's snapshots, of which there are some."""

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = kinds

    def walk(self) -> list[Snapshot]:
        """All of them."""
        return [Snapshot(f"k8s/{i}/x", "", kind, 0, 0) for i, kind in enumerate(self.kinds)]


class Readers:
    """Stands for the hosted store: each thread has a store of its own, one after the other.

    ``before`` is called before each is opened; a test makes it wait, or raise. Unlike the real one's, a pool
    that is opened for reading is read-only, so they are opened for writing where ``alone``.
    """

    alone = True

    def __init__(self, root: Path, *kinds: Kind) -> None:
        self.root = root
        self.snapshots = Snapshots(*kinds)
        self.before: Callable[[], object] = lambda: None

    def store(self, *, read_only: bool = False) -> Store:
        """A store for one thread."""
        assert read_only
        self.before()
        return Store.open(self.root, read_only=not self.alone, engine="user", wait=60)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


def fetch(address: str, path: str = "/metrics", *, method: str = "GET", **headers: str) -> Answer:
    """What the server on *address* answers; *headers* with "_" for "-"."""
    if address.startswith("unix:"):
        client: http.client.HTTPConnection = _UnixConnection(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        client = http.client.HTTPConnection(host.strip("[]") or "127.0.0.1", int(port), timeout=60)
    client.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
    got = client.getresponse()
    body = got.read()
    client.close()
    return Answer(got.status, got.getheader("Content-Type") or "", body.decode())


def families(text: str) -> dict[str, Metric]:
    """The metrics of a scrape by name, "_total" left out of counters' names."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(text: str, name: str) -> dict[str, float]:
    """The values of the series called *name*, by their labels' values; "" without labels."""
    return {
        ",".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


@contextmanager
def serving(hosted: Hosted, address: str = "127.0.0.1:0") -> Iterator[MetricsService]:
    """The service, until the block ends."""
    service = MetricsService(hosted, address)
    service.start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="session")
def _stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """By mode, a store with an image and a container, made when it is first asked for."""
    made: dict[str, Path] = {}
    folder = tmp_path_factory.mktemp("metrics")

    def store_in(mode: str) -> Path:
        if mode not in made:
            layout = write_oci_layout(folder / f"{mode}-layout", [Sample()])
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LAMELLA_ENGINE", "user")
                with set_up(folder / mode, mode) as store:
                    store.load(layout)
                    store.create("sample:latest", name="web")
            made[mode] = folder / mode
        return made[mode]

    with lvm_settings(tmp_path_factory.mktemp("lvm")):
        yield store_in


@pytest.fixture
def store_in(
    _stores: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """``store_in("direct-lvm")``: a store with an image and a container, of this test's own."""
    monkeypatch.setenv("LAMELLA_ENGINE", "user")
    return lambda mode: copy_store(_stores(mode), tmp_path / mode)


@pytest.fixture
def root(store_in: Callable[[str], Path]) -> Path:
    """Such a store in files."""
    return store_in("loop-lvm")
