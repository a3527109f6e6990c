# SPDX-License-Identifier: Apache-2.0
"""LVM2's hints are emptied, and held, while the set of physical volumes changes.

That LVM2's own commands leave the same, and go by it, is shown in ``tests/guest/test_lvm_hints.py``.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from lamella.cli.lvm import main_lvm
from lamella.lvm.disks.hints import invalidated, renew
from lamella.lvm.session import environment as environments
from lamella.lvm.session.config import Config
from lamella.lvm.session.environment import Environment
from lamella.lvm.session.session import Session
from tests.lvm.memory_groups import environment, memory_disks

LINE = "scan:/dev/sdx pvid:abc devn:8:16 vg:vg\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder, with hints in it."""
    (tmp_path / "hints").write_text(LINE)
    return tmp_path


def shared(folder: Path) -> int:
    held = os.open(folder / "hints", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return held


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_they_are_emptied_and_locked_until_the_change_is_done(run: Path) -> None:
    with invalidated(run, "vgcreate"):
        text = (run / "hints").read_text()
        assert text.startswith(f"# Created empty by vgcreate pid {os.getpid()} ")
        assert text.count("\n") == 1
        assert names(run) == {"hints", "newhints"}
        with pytest.raises(BlockingIOError):
            shared(run)
    os.close(shared(run))
    assert names(run) == {"hints", "newhints"}


def test_where_there_are_none_they_are_made_empty(tmp_path: Path) -> None:
    with invalidated(tmp_path, "pvcreate"):
        assert names(tmp_path) == {"hints", "newhints"}
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("hints", "newhints")] == [0o600] * 2


def test_nothing_is_made_without_the_folder(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "lvm"):
        with invalidated(folder, "pvcreate"):
            renew(folder)
    assert not names(tmp_path)


def test_a_reader_is_waited_for_and_new_ones_are_kept_away(run: Path) -> None:
    reader = shared(run)
    entered = threading.Event()

    def change() -> None:
        with invalidated(run, "pvremove", timeout=60):
            entered.set()

    thread = threading.Thread(target=change)
    thread.start()
    while not (run / "nohints").exists():
        pass
    assert not entered.is_set()
    assert (run / "hints").read_text() == LINE
    os.close(reader)
    thread.join()
    assert entered.is_set()
    assert names(run) == {"hints", "newhints"}


@pytest.mark.parametrize("options", [{"timeout": 0.0}, {"lock": False}])
def test_whoever_keeps_them_locked_only_delays(run: Path, options: dict[str, float]) -> None:
    writer = shared(run)
    with invalidated(run, "vgremove", **options):  # type: ignore[arg-type]  # one of its two keywords
        assert LINE not in (run / "hints").read_text()
        (run / "hints").write_text(LINE)  # what the writer read before the change
        (run / "newhints").unlink()
    os.close(writer)
    assert LINE not in (run / "hints").read_text()
    assert names(run) == {"hints", "newhints"}


def test_nothing_fails_for_their_sake(tmp_path: Path) -> None:
    (tmp_path / "hints").mkdir()
    with invalidated(tmp_path, "vgcreate"):
        pass
    assert names(tmp_path) == {"hints"}
    (tmp_path / "newhints").mkdir()
    renew(tmp_path)


def test_a_failed_change_leaves_them_emptied(run: Path) -> None:
    with pytest.raises(KeyError), invalidated(run, "vgcreate"):
        raise KeyError
    assert names(run) == {"hints", "newhints"}
    os.close(shared(run))


def test_a_session_takes_them_back_for_changes_of_the_set(run: Path) -> None:
    around = environment()
    around.hints_dir = run
    with Session([], around, given=memory_disks()) as session:
        with session.all_locked(keep_hints=True):
            assert (run / "hints").read_text() == LINE
        with session.all_locked():
            assert (run / "hints").read_text().startswith("# Created empty by test pid ")
        (run / "hints").write_text(LINE)
        with session.creating("vg"):
            assert LINE not in (run / "hints").read_text()


def test_the_settings_may_say_that_no_program_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "uses_lvm_folders", lambda: True)
    for text, folder in (("", Path("/run/lvm")), ('devices/hints="none"', None)):
        config = Config.load(text, Path("/nowhere"))
        assert Environment.configured(config, None, "test").hints_dir == folder
    monkeypatch.setattr(environments, "uses_lvm_folders", lambda: False)
    assert Environment.configured(Config(), None, "test").hints_dir is None


@pytest.fixture
def own_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environments, "LVM_RUN", run)
    monkeypatch.setattr(environments, "uses_lvm_folders", lambda: True)
    monkeypatch.setenv("LAMELLA_ROOT", str(run / "root"))
    monkeypatch.setenv("LVM_SYSTEM_DIR", str(run / "no settings"))
    return run


def test_commands_take_them_back_or_leave_them(own_run: Path, tmp_path: Path) -> None:
    """The same table as in the guest, where LVM2 stands beside."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    emptied, kept = (False, True), (True, False)
    for line, left in (
        ("pvcreate {}", emptied),
        ("pvs {}", kept),
        ("pvresize {}", kept),
        ("pvchange --uuid {}", emptied),
        ("vgcreate vg {}", emptied),
        ("pvchange -x n {}", kept),
        ("vgchange --uuid vg", kept),
        ("vgrename vg gv", emptied),
        ("pvscan", kept),
        ("pvscan --cache", emptied),
        ("pvscan --cache {}", (True, True)),
        ("vgremove --test gv", emptied),
        ("vgremove --nohints gv", emptied),
        ('pvremove --config devices/hints="none" {}', kept),
    ):
        (own_run / "hints").write_text(LINE)
        (own_run / "newhints").unlink(missing_ok=True)
        name, *words = line.format(disk).split()
        config = ["--config", "global/activation=0 backup/backup=0 backup/archive=0"]
        if "--config" in words:
            words[1] += f" {config[1]}"
            config = []
        assert main_lvm(name, [*config, "--devices", str(disk), "--nolocking", *words]) == 0, line
        found = LINE in (own_run / "hints").read_text(), (own_run / "newhints").exists()
        assert found == left, line
