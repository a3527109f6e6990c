# SPDX-License-Identifier: Apache-2.0
"""containerd's snapshots on a store, with both engines, as its snapshots service uses them."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lamella.errors import (
    BadInputError,
    BusyError,
    CorruptError,
    ExistsError,
    NotFoundError,
    UnsupportedError,
    UsageError,
)
from lamella.fs.entry import Entry
from lamella.fs.entry import Kind as FileKind
from lamella.images.content import PathPiece
from lamella.images.stream import LayerStream
from lamella.store import Store
from lamella.store.hosting import HostedStore
from lamella.store.snapshot_model import Kind, Usage
from lamella.store.snapshots import SIZE_LABELS
from tests.support.images import COMPRESSIONS, SAMPLE_LAYERS, compress, sha256
from tests.support.nodes import Nodes
from tests.support.stores import KERNEL, assert_sound, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def hosted(root: Path, **options: Any) -> Iterator[HostedStore]:
    with HostedStore.open(root, make_nodes=Nodes, **options) as host:
        yield host


@pytest.fixture
def root(tmp_path: Path, mode: str) -> Path:
    set_up(tmp_path / "store", mode).close()
    return tmp_path / "store"


def write(host: HostedStore, key: str, name: bytes) -> None:
    """An empty file in the root of the active snapshot *key*, as whoever has mounted it makes one."""
    devices = host.devices
    row = host.snapshots._catalog.get(key)
    host.nodes.detach(row.device)
    found = devices.get(row.device)
    with (
        devices.pool.open_volume(found.device_id, found.size, zero_fresh=True) as volume,
        devices.filesystem.tree(volume) as tree,
    ):
        tree.put(Entry(name, FileKind.FILE, mode=0o644), None)


def names(host: HostedStore, key: str) -> set[bytes]:
    row = host.snapshots._catalog.get(key)
    with host.devices.volume(row.device) as volume, host.devices.filesystem.reader(volume) as reader:
        return {entry[0] for entry in reader.names(reader.resolve(b"/")[1])}


def test_life(root: Path) -> None:
    with hosted(root) as host:
        made = host.snapshots
        mounts = made.prepare("default/1/work", "", {"x": "y"})
        assert [(mount.type, mount.options) for mount in mounts] == [("ext4", ())]
        assert made.mounts("default/1/work") == mounts
        record = made.stat("default/1/work")
        assert (record.kind, record.parent, record.labels) == (Kind.ACTIVE, "", {"x": "y"})
        made.commit("one", "default/1/work", {"z": "1"})
        with pytest.raises(NotFoundError, match="default/1/work does not exist"):
            made.stat("default/1/work")
        committed = made.stat("one")
        assert (committed.kind, committed.labels) == (Kind.COMMITTED, {"z": "1"})
        assert committed.created >= record.created
        (view,) = made.view("look", "one", {})
        assert "ro" in view.options
        made.prepare("two", "one", {})
        assert [each.key for each in made.walk()] == ["one", "look", "two"]
        assert made.stat("two").parent == "one"
        for key in ("two", "look", "one"):
            made.remove(key)
        assert made.walk() == []
    with Store.open(root, read_only=True) as store:
        assert [row.name for row in store.df()][1:] == ["base", "snapshot-base"]
    assert_sound(root)


def test_what_it_refuses(root: Path) -> None:
    """With the errors that containerd's own snapshotters give."""
    with hosted(root) as host:
        made = host.snapshots
        made.prepare("active", "", {})
        with pytest.raises(ExistsError, match="snapshot active already exists"):
            made.prepare("active", "", {})
        with pytest.raises(ExistsError, match="snapshot active already exists"):
            made.view("active", "", {})
        with pytest.raises(NotFoundError, match="parent snapshot nobody does not exist"):
            made.prepare("other", "nobody", {})
        with pytest.raises(UsageError, match="parent active is not a committed snapshot"):
            made.view("other", "active", {})
        with pytest.raises(UsageError, match="needs a key"):
            made.prepare("", "", {})
        made.commit("done", "active", {})
        with pytest.raises(BusyError, match="done is neither active nor a view"):
            made.mounts("done")
        with pytest.raises(BusyError, match="done is not active"):
            made.commit("again", "done", {})
        made.prepare("child", "done", {})
        with pytest.raises(BusyError, match="cannot remove snapshot done with child child"):
            made.remove("done")
        with pytest.raises(ExistsError, match="snapshot done already exists"):
            made.commit("done", "child", {})
        with pytest.raises(NotFoundError, match="nobody does not exist"):
            made.remove("nobody")
        made.prepare("free", "", {})
        with pytest.raises(UnsupportedError, match="cannot be moved upon done"):
            made.commit("moved", "free", {}, parent="done")
        made.commit("same", "child", {}, parent="done")
        assert {each.key for each in made.walk()} == {"done", "same", "free"}


def test_labels(root: Path) -> None:
    with hosted(root) as host:
        made = host.snapshots
        made.prepare("one", "", {"a": "1", "b": "2"})
        before = made.stat("one")
        after = made.update("one", {"b": "3", "c": "4"}, ["labels.b"])
        assert after.labels == {"a": "1", "b": "3"}
        assert after.updated > before.updated
        assert after.created == before.created
        assert made.update("one", {"b": "3"}, ["labels.a"]).labels == {"b": "3"}
        assert made.update("one", {"new": "ü"}, ["labels"]).labels == {"new": "ü"}
        assert made.update("one", {}, []).labels == {}
        with pytest.raises(UsageError, match="cannot update the field 'kind'"):
            made.update("one", {}, ["kind"])
        with pytest.raises(NotFoundError):
            made.update("two", {}, [])
        assert made.stat("one").labels == {}


@pytest.mark.parametrize("label", SIZE_LABELS)
def test_size(root: Path, label: str) -> None:
    with hosted(root) as host:
        made = host.snapshots
        made.prepare("large", "", {label: "128M"})
        size = host.devices.get(host.snapshots._catalog.get("large").device).size
        assert size == 128 << 20
        with pytest.raises(UsageError, match="cannot be smaller"):
            made.prepare("small", "", {label: "32M"})
        with pytest.raises(UsageError, match="is not a size"):
            made.prepare("odd", "", {label: "huge"})
        with pytest.raises(UsageError, match="asks for"):
            made.prepare("endless", "", {label: "1000T"})
        made.commit("layer", "large", {})
        made.prepare("upon", "layer", {})
        assert host.devices.get(host.snapshots._catalog.get("upon").device).size == size
        assert [each.key for each in made.walk()] == ["layer", "upon"]
    assert_sound(root)


@pytest.mark.user_engine  # the kernel's own devices are mounted in tests/guest
def test_content_and_usage(root: Path) -> None:
    with hosted(root) as host:
        made = host.snapshots
        made.prepare("a", "", {})
        assert made.usage("a") == Usage(0, 0)
        write(host, "a", b"first")
        made.commit("A", "a", {})
        made.prepare("b", "A", {})
        write(host, "b", b"second")
        assert names(host, "b") >= {b"first", b"second"}
        assert b"second" not in names(host, "A")
        made.commit("B", "b", {})
        chunk = host.devices.pool.chunk_size
        for key in ("A", "B"):
            usage = made.usage(key)
            assert usage.inodes == 1
            assert chunk <= usage.size <= 8 * chunk
            assert made.usage(key) == usage
        made.view("v", "B", {})
        assert made.usage("v") == Usage(0, 0)
        with Store.open(root, read_only=True) as store:
            rows = {row.name: row for row in store.df() if row.kind == "snapshot"}
            assert set(rows) == {"A", "B"}
            assert rows["A"].space >= chunk
            assert rows["A"].frees is None
            assert rows["B"].frees is None  # the view
            assert "2 snapshots" not in str(store.check().looked_at)
            assert "3 snapshots" in str(store.check().looked_at)


def layer_of(folder: Path, blob: bytes, digest: str | None = None) -> LayerStream:
    path = folder / "blob"
    path.write_bytes(blob)
    return LayerStream(PathPiece(str(path)), digest=digest or sha256(blob), size=len(blob))


@pytest.mark.user_engine
@pytest.mark.parametrize("how", COMPRESSIONS)
def test_layers_are_unpacked_into_it(root: Path, tmp_path: Path, how: str) -> None:
    with hosted(root) as host:
        made = host.snapshots
        parent = ""
        for number, tar in enumerate(SAMPLE_LAYERS):
            (mount,) = made.prepare(f"work {number}", parent, {})
            with layer_of(tmp_path, compress(tar, how)) as layer:
                made.apply(mount.source, layer)
            assert layer.diff_id == sha256(tar)
            made.commit(f"layer {number}", f"work {number}", {})
            parent = f"layer {number}"
        assert names(host, "layer 1") == {b"etc", b"bin", b"old", b"new"}
        assert names(host, "layer 2") == {b"etc", b"bin", b"new"}
    assert_sound(root)


@pytest.mark.user_engine
def test_what_is_not_unpacked(root: Path, tmp_path: Path) -> None:
    blob = compress(SAMPLE_LAYERS[0], "gzip")
    with hosted(root) as host:
        made, nodes = host.snapshots, host.nodes
        assert isinstance(nodes, Nodes)
        (mount,) = made.prepare("work", "", {})
        (view,) = made.view("look", "", {})
        for source in (view.source, "/dev/rw/elsewhere", "overlay"):
            layer = layer_of(tmp_path, blob)
            with pytest.raises(UnsupportedError, match="not the block device of an active"):
                made.apply(source, layer)
            layer.close()
        nodes.open.add(made._catalog.get("work").device)
        layer = layer_of(tmp_path, blob)
        with pytest.raises(UnsupportedError, match="is mounted"):
            made.apply(mount.source, layer)
        layer.close()
        nodes.open.clear()
        layer = layer_of(tmp_path, blob, digest=sha256(b"another"))
        with pytest.raises(BadInputError, match="does not have the digest"):
            made.apply(mount.source, layer)
        layer.close()
        made.remove("work")
        made.remove("look")
    assert_sound(root)


@pytest.mark.user_engine
def test_the_base(root: Path) -> None:
    """One for all, without lost+found; a larger one is made when the store's has grown."""
    with hosted(root) as host:
        made = host.snapshots
        made.prepare("a", "", {})
        assert names(host, "a") == set()
        first = host.devices.state.device("snapshot-base")
        made.prepare("b", "", {})
        assert host.devices.state.device("snapshot-base") == first
        made.view("v", "", {})
        assert names(host, "v") == set()
        assert made.usage("a") == Usage(0, 0)
    Store.setup(root, storage_options=["dm.basesize=96M"]).close()
    with hosted(root) as host:
        host.snapshots.prepare("c", "", {})
        second = host.devices.state.device("snapshot-base")
        assert first is not None
        assert second is not None
        assert (first.size, second.size) == (64 << 20, 96 << 20)
        assert first.device_id != second.device_id
        host.snapshots.commit("A", "a", {})
        assert names(host, "A") == set()
        host.snapshots.remove("v")
    assert_sound(root)


@pytest.mark.user_engine
def test_a_commit_of_a_mounted_snapshot_is_a_copy(root: Path) -> None:
    with hosted(root) as host:
        made, nodes = host.snapshots, host.nodes
        assert isinstance(nodes, Nodes)
        made.prepare("a", "", {})
        device = made._catalog.get("a").device
        nodes.open.add(device)
        made.commit("A", "a", {})
        assert made._catalog.get("A").device != device
        assert made.stat("A").kind is Kind.COMMITTED
    assert_sound(root)


def test_async_remove(root: Path) -> None:
    with hosted(root, async_remove=True) as host:
        made = host.snapshots
        made.prepare("a", "", {})
        device = made._catalog.get("a").device
        made.remove("a")
        with pytest.raises(NotFoundError):
            made.stat("a")
        found = host.devices.state.device(device)
        assert found is not None
        assert found.deleted
        made.prepare("a", "", {})  # the key is free at once
        made.clean_up()
        assert host.devices.state.device(device) is None


def test_they_are_there_after_a_restart(root: Path) -> None:
    with hosted(root) as host:
        host.snapshots.prepare("a", "", {"x": "1"})
        host.snapshots.commit("A", "a", {"y": "2"})
        host.snapshots.view("v", "A", {})
    with hosted(root) as host:
        assert [(each.key, each.kind, each.parent) for each in host.snapshots.walk()] == [
            ("A", Kind.COMMITTED, ""),
            ("v", Kind.VIEW, "A"),
        ]
        assert host.snapshots.mounts("v")
        host.snapshots.remove("v")
        host.snapshots.remove("A")


def test_a_lost_device_is_named_and_can_be_removed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Never "does not exist" for ever: what is lost can be removed, and made anew."""
    with hosted(root) as host:
        host.snapshots.prepare("a", "", {})
        host.snapshots.commit("A", "a", {})
        device = host.devices.get(host.snapshots._catalog.get("A").device)
        host.devices.pool.delete(device.device_id)
        host.devices.pool.commit()
        with pytest.raises(CorruptError, match="is not in the pool"):
            host.snapshots.prepare("b", "A", {})
    with Store.open(root, read_only=True) as store:
        assert any("snapshot A" in problem for problem in store.check().problems)
    with caplog.at_level(logging.INFO), hosted(root) as host:
        assert f"snapshot A: thin device {device.device_id} is not in the pool; remove it" in caplog.text
        host.snapshots.remove("A")
        host.snapshots.prepare("a", "", {})
    assert_sound(root)


def test_a_device_that_nothing_has_is_named(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with hosted(root) as host:
        host.devices.pool.create_thin(77)
        host.devices.pool.commit()
    with caplog.at_level(logging.INFO), hosted(root) as host:
        assert "thin device 77 is in the pool, and state.db does not have it" in caplog.text
        assert "prune --unknown-devices" in caplog.text


def test_threads(root: Path) -> None:
    """Eight clients at once, each with chains of its own, and readers beside them."""
    with hosted(root) as host, ThreadPoolExecutor(9) as pool:
        stop = threading.Event()

        def client(number: int) -> None:
            made = host.snapshots
            for turn in range(3):
                parent = ""
                for layer in range(3):
                    made.prepare(f"{number}-{turn}-{layer}", parent, {"turn": str(turn)})
                    made.commit(f"{number}.{turn}.{layer}", f"{number}-{turn}-{layer}", {})
                    parent = f"{number}.{turn}.{layer}"
                made.view(f"{number} view", parent, {})
                made.remove(f"{number} view")
                for layer in reversed(range(3)):
                    made.remove(f"{number}.{turn}.{layer}")

        def reader() -> int:
            looked = 0
            while not stop.is_set():
                with Store.open(root, read_only=True) as store:
                    assert store.images() == []
                    store.df()
                looked += 1
            return looked

        watching = pool.submit(reader)
        try:
            for done in [pool.submit(client, number) for number in range(8)]:
                done.result()
        finally:
            stop.set()
        assert watching.result()
        assert host.snapshots.walk() == []
    with Store.open(root, read_only=True) as store:
        assert [row.name for row in store.df()][1:] == ["base", "snapshot-base"]
    assert_sound(root)


class SnapshotMachine(RuleBasedStateMachine):
    """Against a model: what exists, and what the rules of containerd allow."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "store"
        set_up(self.root, "loop-lvm").close()
        self.host = HostedStore.open(self.root, make_nodes=Nodes)
        self.model: dict[str, tuple[Kind, str, dict[str, str]]] = {}

    keys = st.sampled_from([f"k{number}" for number in range(6)])
    parents = st.sampled_from(["", *(f"k{number}" for number in range(6))])
    labels = st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=3), max_size=2)

    def _parent_error(self, parent: str) -> type[Exception] | None:
        if not parent:
            return None
        if parent not in self.model:
            return NotFoundError
        return None if self.model[parent][0] is Kind.COMMITTED else UsageError

    @rule(key=keys, parent=parents, labels=labels, view=st.booleans())
    def make(self, key: str, parent: str, labels: dict[str, str], view: bool) -> None:
        method = self.host.snapshots.view if view else self.host.snapshots.prepare
        expected = [self._parent_error(parent), ExistsError if key in self.model else None]
        errors = tuple(error for error in expected if error)
        if errors:
            with pytest.raises(errors):
                method(key, parent, labels)
            return
        method(key, parent, labels)
        self.model[key] = (Kind.VIEW if view else Kind.ACTIVE, parent, labels)

    @rule(name=keys, key=keys, labels=labels)
    def commit(self, name: str, key: str, labels: dict[str, str]) -> None:
        right = key in self.model and self.model[key][0] is Kind.ACTIVE and name not in self.model
        if not right:
            with pytest.raises((NotFoundError, ExistsError, BusyError)):
                self.host.snapshots.commit(name, key, labels)
            return
        self.host.snapshots.commit(name, key, labels)
        _, parent, _ = self.model.pop(key)
        self.model[name] = (Kind.COMMITTED, parent, labels)

    @rule(key=keys)
    def remove(self, key: str) -> None:
        if key not in self.model:
            with pytest.raises(NotFoundError):
                self.host.snapshots.remove(key)
        elif any(parent == key for _, parent, _ in self.model.values()):
            with pytest.raises(BusyError):
                self.host.snapshots.remove(key)
        else:
            self.host.snapshots.remove(key)
            del self.model[key]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        usage = self.host.snapshots.usage(key)
        assert usage.size == 0
        if self.model[key][0] is Kind.COMMITTED:
            with pytest.raises(BusyError):
                self.host.snapshots.mounts(key)
        else:
            assert self.host.snapshots.mounts(key)

    @rule()
    def restart(self) -> None:
        self.host.close()
        self.host = HostedStore.open(self.root, make_nodes=Nodes)

    @invariant()
    def agrees(self) -> None:
        found = {each.key: (each.kind, each.parent, each.labels) for each in self.host.snapshots.walk()}
        assert found == self.model
        if not isinstance(self.host.nodes, Nodes):  # with the kernel's engine
            return
        attached = self.host.nodes.attached
        catalog = self.host.snapshots._catalog
        uncommitted = {"snapshot-base"} | {
            catalog.get(key).device for key, each in self.model.items() if each[0] is not Kind.COMMITTED
        }
        assert attached <= uncommitted

    def teardown(self) -> None:
        self.host.close()
        assert_sound(self.root)
        self.folder.cleanup()


TestSnapshotMachine = SnapshotMachine.TestCase
TestSnapshotMachine.settings = settings(max_examples=4 if KERNEL else 12, stateful_step_count=30)
