# SPDX-License-Identifier: Apache-2.0
"""Readers work while a writer does something long, and see the last commit."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lamella.cli.main import main
from lamella.driver import transactions
from lamella.driver.device_set import DeviceSet
from lamella.driver.state import State
from lamella.errors import BusyError, LamellaError
from lamella.store import Store
from lamella.thin.format.checksum import BLOCK_SIZE
from tests.images.fake_registry import fake_registry
from tests.support.images import Sample, make_tar, write_oci_layout
from tests.support.stores import KERNEL, assert_sound, assert_sound_for_real_tools, pool_devices

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lamella.store.repair_report import Repair
    from lamella.thin.interface import ThinPool

READERS = (
    ["ps"], ["images"], ["info", "--json"], ["df", "--json"], ["map", "--json"], ["inspect", "sample", "box"],
    ["ls", "-R", "box:/"], ["cat", "box:/hello"], ["cp", "box:/hello", "-"], ["diff", "box"],
    ["export", "box"], ["save", "sample"], ["check"],
)  # fmt: skip
SPACE = ("info", "df", "map", "check")
BIG = make_tar({f"file{number}": bytes([number]) * 70_000 for number in range(200)})


class Interrupting:
    """A progress report that calls *reader* once for each task, in the middle of it."""

    def __init__(self, reader: Callable[[str], None]) -> None:
        self.reader = reader
        self.seen: list[str] = []

    def start(self, what: str, total: int | None, *, unit: str = "bytes", had: int = 0) -> None:
        self._call(f"begin {what}")
        self.what = what

    def advance(self, amount: int) -> None:
        self._call(f"in {self.what}")

    def waiting(self, what: str) -> None:
        pass

    def done(self) -> None:
        self._call(f"end {self.what}")

    def _call(self, when: str) -> None:
        if when not in self.seen:
            self.seen.append(when)
            self.reader(when)


@pytest.fixture
def boxed(root: Path) -> Path:
    with Store.open(root) as store:
        store.create("sample", name="box")
        path = root.parent / "hello"
        path.write_bytes(b"hello" * 100_000)
        store.copy_in("box", path, b"/hello")
    return root


def _outputs(root: Path, capture: pytest.CaptureFixture[bytes]) -> list[bytes]:
    """What each reader prints."""
    found = []
    for command in READERS:
        assert main(["--root", str(root), *command]) == 0, command
        said = capture.readouterr().out
        if command == ["check"]:
            said = b"".join(line for line in said.splitlines(True) if not line.startswith(b"interrupted: "))
        # These say how long ago. The kernel's engine commits as it goes, which the space shows.
        if command[0] not in ("ps", "images") and not (KERNEL and command[0] in SPACE):
            found.append(said)
    return found


def _some_outputs(root: Path) -> list[bytes]:
    """The same within this process, of a few, for tests that do it often."""
    with Store.open(root, read_only=True) as store:
        out = io.BytesIO()
        store.export("box", out)
        space = [store.df(), store.info()]
        found: list[object] = [
            store.images(), store.containers(), *([] if KERNEL else space), store.diff("box"), store.mismatch,
        ]  # fmt: skip
        return [out.getvalue(), *(repr(each).encode() for each in found)]


def test_while_an_image_is_loaded(
    boxed: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    before, quick = _outputs(boxed, capsysbinary), _some_outputs(boxed)
    layout = write_oci_layout(tmp_path / "big", [Sample(layers=[BIG, BIG[:-1024] + BIG[-1024:]])])
    whole = []

    def read(when: str) -> None:
        if when.startswith("in ") and not whole:
            whole.append(when)
            assert _outputs(boxed, capsysbinary) == before
        with pytest.raises(BusyError, match="is in use by"):
            Store.open(boxed)
        seen.append(_some_outputs(boxed))

    seen: list[list[bytes]] = []
    interrupting = Interrupting(read)
    with Store.open(boxed) as store:
        loaded = store.load(layout, progress=interrupting)
        assert [image.layers for image in loaded] == [2]
    assert whole
    # Until the first layer is there, nothing has changed; then the layer's space has, and no image.
    assert seen[0] == quick
    assert all(each[:3] == quick[:3] and each[-2:] == quick[-2:] for each in seen)
    assert_sound(boxed)
    assert_sound_for_real_tools(boxed, tmp_path)


@pytest.mark.loop_lvm
def test_while_an_image_is_pulled(boxed: Path, tmp_path: Path) -> None:
    before = _some_outputs(boxed)
    seen = []
    with fake_registry() as server:
        server.behaviour.add(Sample(layers=[BIG]))
        with Store.open(boxed) as store:
            interrupting = Interrupting(lambda _: seen.append(_some_outputs(boxed)))
            store.pull(f"{server.host}/big:1", insecure_registry=True, progress=interrupting)
    assert len(seen) > 2
    assert all(each[:3] == before[:3] for each in seen)
    assert_sound(boxed)


def test_while_a_container_is_committed(boxed: Path) -> None:
    before = _some_outputs(boxed)
    seen = []
    with Store.open(boxed) as store:
        interrupting = Interrupting(lambda _: seen.append(_some_outputs(boxed)))
        store.commit("box", "mine:1", progress=interrupting)
    assert seen
    assert all(each[:3] == before[:3] for each in seen)
    assert_sound(boxed)


class Pausing(io.BytesIO):
    """A stream that calls *reader* in its middle."""

    def __init__(self, data: bytes, reader: Callable[[], None]) -> None:
        super().__init__(data)
        self.reader = reader
        self.called = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > len(self.getbuffer()) // 2 and not self.called:
            self.called = True
            self.reader()
        return super().read(size)

    def readinto(self, target: object, /) -> int:
        view = memoryview(target).cast("B")  # type: ignore[arg-type]  # a buffer, as the base class has it
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


@pytest.mark.parametrize("fails", [False, True])
def test_while_files_are_copied_in(boxed: Path, tmp_path: Path, fails: bool) -> None:
    """They overwrite one that is there, and which readers see as it was."""
    before = _some_outputs(boxed)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(40):
            member = tarfile.TarInfo("hello" if not number else f"file{number}")
            member.size = 500_000
            tar.addfile(member, io.BytesIO(bytes([number]) * member.size))
    seen = []

    def read() -> None:
        seen.append(_some_outputs(boxed))
        if fails:
            raise BusyError("on purpose")

    with Store.open(boxed) as store:
        stream = Pausing(out.getvalue(), read)
        if fails:
            with pytest.raises(LamellaError):
                store.copy_in("box", stream, b"/")
        else:
            store.copy_in("box", stream, b"/")
    assert seen == [before]
    assert (_some_outputs(boxed) == before) is fails
    assert_sound(boxed)
    assert_sound_for_real_tools(boxed, tmp_path)


def _create(store: Store) -> None:
    store.create("sample", name="large", size=96 << 20)


def _resize(store: Store) -> None:
    store.resize("box", 96 << 20)


@pytest.mark.parametrize("change", [_create, _resize])
def test_while_a_device_is_made(boxed: Path, change: Callable[[Store], None]) -> None:
    before, seen = _some_outputs(boxed), []
    with Store.open(boxed) as store:
        pool = store.devices.pool
        snapshot = pool.create_snap

        def and_read(dev_id: int, origin_id: int) -> None:
            snapshot(dev_id, origin_id)
            seen.append(_some_outputs(boxed))

        pool.create_snap = and_read  # type: ignore[method-assign]
        change(store)
    assert seen == [before]
    assert _some_outputs(boxed) != before
    assert_sound(boxed)


def test_while_the_base_device_is_grown(boxed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = _some_outputs(boxed), []
    grow = DeviceSet.grow_base

    def and_read(devices: DeviceSet, size: int) -> None:
        seen.append(_some_outputs(boxed))
        grow(devices, size)

    monkeypatch.setattr(DeviceSet, "grow_base", and_read)
    Store.setup(boxed, storage_options=["dm.basesize=96M"]).close()
    assert seen == [before]
    assert_sound(boxed)


def test_while_a_removal_asks(boxed: Path) -> None:
    seen = []
    with Store.open(boxed) as store:
        store.create("sample", name="other")
        before = store.containers()

        def read() -> bool:
            with Store.open(boxed, read_only=True) as reader:
                seen.append(reader.containers())
            return True

        assert store.prune(named=True, agree=read).lines == []
    assert seen == [before]


def test_while_the_pool_is_repaired(boxed: Path) -> None:
    """Until the repaired metadata is put in place, readers see what the damaged metadata lets them."""
    with pool_devices(boxed) as devices:
        found = devices.metadata.read(0, BLOCK_SIZE)
        devices.metadata.write(0, found[:-1] + bytes([found[-1] ^ 1]))
        devices.metadata.flush()
    with Store.open(boxed, read_only=True) as store:
        before = repr((store.images(), store.containers()))
    seen = []

    def agree(_: Repair) -> bool:
        with Store.open(boxed, read_only=True) as store:
            seen.append(repr((store.images(), store.containers())))
        return True

    assert Store.repair(boxed, agree=agree).verdict in ("sound", "damaged", "leaks", "needs-check")
    assert all(each == before for each in seen)
    assert_sound(boxed)


def _deletion(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    delete = transactions._delete

    def and_act(pool: ThinPool, device_id: int, *, discard: bool) -> None:
        act()
        delete(pool, device_id, discard=discard)

    monkeypatch.setattr(transactions, "_delete", and_act)


def _growth(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    grown = DeviceSet._use_grown_devices

    def and_act(devices: DeviceSet, *, read_only: bool) -> None:
        act()
        grown(devices, read_only=read_only)

    monkeypatch.setattr(DeviceSet, "_use_grown_devices", and_act)


def _state_change(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    begun = State.transaction

    @contextmanager
    def and_act(state: State, *, lazy: bool = False) -> Iterator[sqlite3.Connection]:
        with begun(state, lazy=lazy) as connection:
            act()
            yield connection

    monkeypatch.setattr(State, "transaction", and_act)


@pytest.mark.parametrize(
    ("command", "middle"),
    [
        (["rm", "box"], _deletion),
        (["rmi", "sample"], _deletion),
        (["prune", "--all", "--force"], _deletion),
        (["grow", "--data", "+10%"], _growth),
        (["tag", "sample", "other:1"], _state_change),
        (["rename", "box", "crate"], _state_change),
    ],
)
def test_a_reader_waits_for_what_is_short(
    boxed: Path,
    command: list[str],
    middle: Callable[[pytest.MonkeyPatch, Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is started in the middle of a change that excludes readers, and answers when that is over."""
    if command[0] in ("rmi", "prune"):
        assert main(["--root", str(boxed), "rm", "box"]) == 0
    if command[0] == "grow" and not (boxed / "pool/data").exists():
        command = ["grow", "--data", "+4M"]
    readers: list[subprocess.Popen[str]] = []

    def read() -> None:
        if readers:
            return
        argv = [sys.executable, "-m", "lamella", "--root", str(boxed), "--verbose", "ps"]
        reader = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        readers.append(reader)
        assert reader.stderr is not None
        for line in reader.stderr:
            if "waiting for the lock" in line:
                return
        raise AssertionError(f"the reader did not wait, and ended with {reader.wait()}")

    with monkeypatch.context() as patch:
        middle(patch, read)
        assert main(["--root", str(boxed), *command]) == 0
    (reader,) = readers
    said, complaint = reader.communicate()
    assert reader.returncode == 0, complaint
    assert len(said.splitlines()) == (1 if command[0] in ("rm", "rmi", "prune") else 2)
    assert_sound(boxed)


def test_a_writer_does_not_wait_at_its_end_for_a_reader_that_takes_long(boxed: Path) -> None:
    readers = []
    with Store.open(boxed) as store:

        def read() -> bool:
            readers.append(Store.open(boxed, read_only=True))
            return False

        store.prune(agree=read)
    with readers[0] as reader:
        assert [each.name for each in reader.containers()] == ["box"]
    assert_sound(boxed)


@pytest.mark.loop_lvm
def test_a_commit_waits_for_readers_and_says_for_whom(boxed: Path, tmp_path: Path) -> None:
    layout = write_oci_layout(tmp_path / "big", [Sample(layers=[BIG])])
    readers: list[Store] = []
    told = []

    def read(when: str) -> None:
        if when.startswith("in ") and not readers:
            readers.append(Store.open(boxed, read_only=True))

    def tell(warning: str) -> None:
        told.append(warning)
        assert [image.layers for image in readers[0].images()] == [3]
        readers[0].close()

    with Store.open(boxed) as store:
        store.on_warning = tell
        store.load(layout, progress=Interrupting(read))
    assert len(told) == 1
    assert told[0].startswith("waiting for ")
    assert told[0].endswith("which is reading the store")
    assert_sound(boxed)


@pytest.mark.loop_lvm
def test_a_reader_of_a_store_whose_writer_has_died_in_the_middle(boxed: Path, tmp_path: Path) -> None:
    """The journal that it left is recovered, as before."""
    before = _some_outputs(boxed)
    layout = write_oci_layout(tmp_path / "big", [Sample(layers=[BIG])])
    writer = (
        "import os, sys; from lamella.store import Store; from tests.store.test_readers import Interrupting\n"
        "def die(when):\n"
        "    if when.startswith('in '): os._exit(9)\n"
        "Store.open(sys.argv[1]).load(sys.argv[2], progress=Interrupting(die))"
    )
    done = subprocess.run([sys.executable, "-c", writer, boxed, layout], check=False)
    assert done.returncode == 9
    assert _some_outputs(boxed)[:3] == before[:3]
    assert_sound(boxed)


@pytest.mark.loop_lvm
def test_lamella_wait(
    boxed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(boxed):
        assert main(["--root", str(boxed), "tag", "sample", "other:1"]) == BusyError.exit_code
        assert "LAMELLA_WAIT=SECONDS" in capsys.readouterr().err
        monkeypatch.setenv("LAMELLA_WAIT", "0.3")
        assert main(["--root", str(boxed), "tag", "sample", "other:1"]) == BusyError.exit_code
        assert "(still, after 0.3 s)" in capsys.readouterr().err
        assert main(["--root", str(boxed), "--wait", "0", "tag", "sample", "other:1"]) == BusyError.exit_code
        assert "still" not in capsys.readouterr().err
    assert main(["--root", str(boxed), "tag", "sample", "other:1"]) == 0
    monkeypatch.setenv("LAMELLA_WAIT", "soon")
    assert main(["--root", str(boxed), "ps"]) == 2
    assert "LAMELLA_WAIT: soon is not a number of seconds" in capsys.readouterr().err
