# SPDX-License-Identifier: Apache-2.0
"""Commands that end in the middle without dying, and what a reader sees of one that died."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

from lamella.devicemapper.client import DeviceMapper
from lamella.driver import transactions
from lamella.errors import DeviceIOError, LamellaError, NoSpaceError
from lamella.store import Store
from lamella.store.catalog import Catalog
from tests.support.images import Sample, make_tar, write_oci_layout
from tests.support.stores import assert_sound, state_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Interrupting:
    """Progress that presses Ctrl-C after some bytes."""

    def __init__(self, after: int) -> None:
        self.left = after

    def start(self, what: str, total: int | None, *, unit: str = "bytes", had: int = 0) -> None:
        pass

    def advance(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise KeyboardInterrupt

    def waiting(self, why: str) -> None:
        pass

    def done(self) -> None:
        pass


@pytest.mark.parametrize("after", [0, 1_000_000, 3_500_000])
@pytest.mark.remote
def test_interrupting_a_load(root: Path, tmp_path: Path, after: int) -> None:
    layers = [make_tar({f"f{n}": os.urandom(2_000_000)}) for n in range(3)]
    layout = write_oci_layout(tmp_path / "layout", [Sample(layers=layers)])
    before = state_of(root)
    with Store.open(root) as store:
        with pytest.raises(KeyboardInterrupt):
            store.load(layout, progress=Interrupting(after))
        # The same object can go on.
        assert store.create("sample").image == "sample"
        store.remove_container(store.containers()[0].id)
    assert state_of(root) == before
    assert_sound(root)


@pytest.mark.parametrize(
    "error", [OSError(5, "boom"), NoSpaceError("full"), DeviceIOError("dead"), RuntimeError()]
)
@pytest.mark.remote
def test_an_error_at_the_very_end_of_a_layer(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Between the pool's commit and the end of the transaction in state.db."""
    layout = write_oci_layout(tmp_path / "layout", [Sample(layers=[make_tar({"x": b"1"})])])
    before = state_of(root)
    with Store.open(root) as store:

        def fail(*_: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Catalog, "add_layer", fail)
            with pytest.raises(type(error)):
                store.load(layout)
        store.load(layout)
        store.remove_image(Sample(layers=[make_tar({"x": b"1"})]).image_id)
        store.load(write_oci_layout(tmp_path / "first", [Sample()]))
    assert state_of(root) == before
    assert_sound(root)


def died_while(root: Path, work: Callable[[Store], object]) -> None:
    """Do *work*, which calls :func:`die`, in a process of its own."""
    child = os.fork()
    if not child:
        try:
            with Store.open(root) as store:
                work(store)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] >> 8 == 9


def die(*_: object, **__: object) -> None:
    os._exit(9)


def test_a_reader_sees_the_decision_of_a_command_that_died(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(transactions, "_delete", die)  # the deletion has been noted by then
        died_while(root, lambda store: store.remove_image("sample"))
    with Store.open(root, read_only=True) as store:
        assert store.images() == []
        assert store.info().deferred_deleted == 3
        report = store.check()
        assert report.problems == []
        assert "interrupted" in dict(report.looked_at)
        assert [row.name for row in store.df() if row.kind == "deleted"] == ["3 devices"]
    assert_sound(root)
    with Store.open(root, read_only=True) as store:
        assert len(store.devices.pool.devices()) == 1


@pytest.mark.remote
def test_a_half_made_device_that_was_committed_is_taken_away(root: Path) -> None:
    before = state_of(root)
    died_while(
        root,
        lambda store: store.devices.add(
            "f" * 64,
            "base",
            fill=lambda volume: (volume.write(0, b"x"), volume.flush(), store.devices.pool.commit(), die()),
        ),
    )
    with Store.open(root, read_only=True) as store:
        assert len(store.devices.pool.devices()) == 5
        assert store.images()[0].references == ["sample:latest"]
        assert store.check().problems == []
    assert_sound(root)
    assert state_of(root) == before


@pytest.mark.kernel_engine  # the user engine activates nothing
@pytest.mark.parametrize("then", ["go on", "take it down"])
@pytest.mark.parametrize("call", ["load", "resume"])
def test_an_activation_that_died(root: Path, monkeypatch: pytest.MonkeyPatch, call: str, then: str) -> None:
    _died_while_activating(root, monkeypatch, call, 0, then)


@pytest.mark.kernel_engine
@pytest.mark.direct_lvm  # there metadata and data are devices, too
@pytest.mark.parametrize("then", ["go on", "take it down"])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("call", ["load", "resume"])
def test_an_activation_that_died_later(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, then: str
) -> None:
    _died_while_activating(root, monkeypatch, call, number, then)


def _died_while_activating(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, then: str
) -> None:
    """Die before call *number* of its kind. A device that has no table yet is not in /sys."""
    done = 0
    plain = getattr(DeviceMapper, call)

    def dying(dm: DeviceMapper, *words: object, **named: object) -> object:
        nonlocal done
        if done == number:
            die()
        done += 1
        return plain(dm, *words, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DeviceMapper, call, dying)
        died_while(root, lambda store: store.activate())
    with DeviceMapper() as dm:
        left = dm.list()
        assert left
        with Store.open(root, read_only=True) as store:
            assert store.info().images == 1
            assert store.check().problems == []
        assert dm.list() == left
        if then == "take it down":
            Store.deactivate(root=root)
            assert dm.list() == []
    with Store.open(root) as store:
        store.create("sample")
    assert_sound(root)


def test_scratch_files_of_a_dead_command_are_cleared(root: Path) -> None:
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp/left").write_bytes(b"x" * 1000)
    Store.open(root, read_only=True).close()
    assert (root / "tmp/left").exists()
    Store.open(root).close()
    assert not (root / "tmp").exists()


def test_a_failed_command_leaves_an_open_store_usable(store: Store) -> None:
    store.create("sample", name="web")
    for _ in range(3):
        with pytest.raises(LamellaError):
            store.copy_in("web", io.BytesIO(b"garbage" * 500), b"/")
        with pytest.raises(LamellaError):
            store.create("sample", name="web")
    store.copy_in("web", io.BytesIO(make_tar({"ok": b"1"})), b"/")
    assert [str(change) for change in store.diff("web")] == ["A /ok"]
