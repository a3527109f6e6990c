# SPDX-License-Identifier: Apache-2.0
"""Set-up and teardown interrupted by a power cut or an error."""

from __future__ import annotations

import os
import re
import shutil
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, loop
from lamella.cli.main import main
from lamella.driver import backends
from lamella.driver.direct_lvm.backend import DirectLvm
from lamella.driver.state import State
from lamella.errors import BusyError, ExistsError, NotFoundError, UsageError
from lamella.store import Store
from tests.store.direct_lvm.groups import MIB, disk, text_of
from tests.support.stores import KERNEL, assert_sound, disks_of, options_for, set_up, take_down

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class _Cut:
    """Disks that lose power: what was not flushed by then is lost, all or in part."""

    def __init__(self, at: int, keep: int) -> None:
        self.at = at
        self.keep = keep
        self.count = 0

    def open(self, path: str, read_only: bool) -> FileDevice:
        return _Losing(self, path, read_only)


class _Losing(FileDevice):
    def __init__(self, cut: _Cut, path: str, read_only: bool) -> None:
        super().__init__(path, read_only=read_only, lock=not read_only)
        self.cut = cut
        self.undo: list[tuple[int, bytes]] = []

    def _note(self, offset: int, length: int) -> None:
        self.cut.count += 1
        self.undo.append((offset, super().read(offset, min(length, 1 << 16))))
        if self.cut.count == self.cut.at:
            for number, (place, data) in enumerate(reversed(self.undo)):
                if number % 3 >= self.cut.keep:
                    super().write(place, data)
            os._exit(9)

    def write(self, offset: int, data: object) -> None:
        self._note(offset, len(memoryview(data).cast("B")))  # type: ignore[arg-type]  # a buffer
        super().write(offset, data)  # type: ignore[arg-type]  # a buffer

    def write_many(self, pieces: object) -> None:
        for offset, data in pieces:  # type: ignore[attr-defined]  # pairs
            self.write(offset, data)

    def write_zeros(self, offset: int, length: int) -> None:
        self._note(offset, length)
        super().write_zeros(offset, length)

    def flush(self) -> None:
        super().flush()
        self.undo = []


def cut_off(action: Callable[[], object], at: int, keep: int) -> bool:
    """Run *action* in a process that dies at the *at*-th write; whether it came that far."""
    child = os.fork()
    if not child:
        try:
            opener = _Cut(at, keep).open
            backends.MODES["direct-lvm"] = lambda root: DirectLvm(root, opener=opener)
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1] >> 8
    assert status in (0, 9)
    return status == 9


@pytest.mark.slow
def test_power_cuts_in_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever write is the last one: run again it ends in the same group, and a sound store.

    Of the kernel's engine these are the writes of LVM's metadata, and what is begun anew is the pool too.
    """
    root = tmp_path / "whole"
    set_up(root, "direct-lvm").close()
    expected = re.sub(r"seqno = \d+", "", text_of(root))
    take_down(root)  # the others' group has the same name
    at, cuts, done = 1, 0, False
    while not done:
        for keep in (0, 2):
            root = tmp_path / f"root{at}-{keep}"
            monkeypatch.setenv("LAMELLA_ROOT", str(root))
            options_for("direct-lvm", root)
            done = not cut_off(lambda root=root: set_up(root, "direct-lvm").close(), at, keep)
            cuts += 1
            if not done and (root / "direct-lvm.json").exists():
                with pytest.raises(NotFoundError, match="not finished"):
                    Store.open(root)
            again = [] if cuts % 2 and (root / "config.toml").exists() else options_for("direct-lvm", root)
            Store.setup(root, mode="direct-lvm", storage_options=again).close()
            assert re.sub(r"seqno = \d+", "", text_of(root)) == expected, (at, keep)
            assert_sound(root)
            take_down(root)
            shutil.rmtree(root)
            for path in disks_of(root):
                path.unlink()
        # `make crash-cuts` tries each.
        at += 5 if KERNEL else 3 if at < 70 else 17
    assert cuts > (20 if KERNEL else 45)


@pytest.mark.slow
def test_power_cuts_in_teardown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, done = 1, False
    while not done:
        root = tmp_path / f"root{at}"
        monkeypatch.setenv("LAMELLA_ROOT", str(root))
        set_up(root, "direct-lvm").close()
        done = not cut_off(lambda root=root: Store.open(root).teardown(), at, at % 3)
        if not done:
            assert Store.open(root).teardown(force=True) == []
        assert not root.exists()
        for path in disks_of(root):
            with FileDevice(path) as device:
                assert b"LABELONE" not in device.read(0, 4096)
        at += 1
    assert at > 10


def test_an_unfinished_set_up_can_be_undone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    options_for("direct-lvm", root)
    assert cut_off(lambda: set_up(root, "direct-lvm"), 30, 1)
    other = disk(tmp_path / "other", 600 * MIB)
    with pytest.raises(ExistsError, match="a set-up that was not finished uses"):
        Store.setup(root, mode="direct-lvm", storage_options=[f"dm.directlvm_device={other}"])
    assert main(["--root", str(root), "teardown"]) == 0
    assert not root.exists()
    for path in disks_of(root):
        assert b"LABELONE" not in path.open("rb").read(4096)
    set_up(root, "direct-lvm").close()
    assert_sound(root)


def test_a_failed_set_up_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(UsageError):
        set_up(root, "direct-lvm", "dm.mkfsarg=--nonsense")
    assert not (root / "direct-lvm.json").exists()
    for path in disks_of(root):
        assert b"LABELONE" not in path.open("rb").read(4096)
    set_up(root, "direct-lvm").close()


def _die_in_set_up(root: Path, kind: type, method: str) -> None:
    """Set up in a process that dies where it calls *method* of *kind*."""
    child = os.fork()
    if not child:
        setattr(kind, method, lambda *_: os._exit(9))
        with suppress(BaseException):
            set_up(root, "direct-lvm")
        os._exit(1)
    assert os.waitpid(child, 0)[1] >> 8 == 9


def test_cut_off_between_the_base_device_and_its_record(tmp_path: Path) -> None:
    """The pool has the base device and a new transaction id, of which ``state.db`` knows nothing."""
    root = tmp_path / "root"
    options_for("direct-lvm", root)
    _die_in_set_up(root, State, "put_device")
    with Store.setup(root, mode="direct-lvm", storage_options=options_for("direct-lvm", root)) as store:
        assert store.check().problems == []
    assert_sound(root)


@pytest.mark.kernel_engine
def test_what_a_killed_set_up_left_attached_is_its_own(tmp_path: Path) -> None:
    """Loop devices over exactly its files, which nothing uses; those that something uses are refused."""
    root = tmp_path / "root"
    options = options_for("direct-lvm", root)
    _die_in_set_up(root, DirectLvm, "_blank")
    for path in disks_of(root):
        loop.attach(path, autoclear=False).close()
    held = loop.find(disks_of(root)[0])[0].path
    with open(held, "rb") as stream:
        descriptor = os.open(held, os.O_RDONLY | os.O_EXCL)  # as a mount has it
        try:
            with pytest.raises(BusyError, match="is set up over it"):
                Store.setup(root, mode="direct-lvm", storage_options=options)
        finally:
            os.close(descriptor)
        assert stream.read(1)
    with Store.setup(root, mode="direct-lvm", storage_options=options) as store:
        assert store.check().problems == []
    assert_sound(root)
