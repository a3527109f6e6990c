# SPDX-License-Identifier: Apache-2.0
"""``state.db`` and a pool of two moments, or of two copies: every command tells, and leaves them alone."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from lamella.cli.main import main
from lamella.errors import CorruptError, UsageError
from lamella.store import Store
from tests.support.stores import metadata_of, state_of, take_down, yes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READING_THE_RECORD = (["ps"], ["images"], ["inspect", "sample"])
READING_THE_POOL = (["info"], ["df"], ["map"], ["ls", "sample:/"], ["check"], ["save", "-o", "OUT", "sample"])
WRITING = (
    ["create", "sample"], ["tag", "sample", "other:1"], ["rmi", "sample"], ["rm", "box"],
    ["cp", "FILE", "box:/file"], ["commit", "box", "mine:1"], ["load", "-i", "LAYOUT"],
    ["resize", "box", "+1G"],
)  # fmt: skip


def _with_a_container(root: Path) -> None:
    with Store.open(root) as store:
        store.create("sample", name="box")
    take_down(root)


def _device_of_box(root: Path) -> int:
    with Store.open(root, read_only=True) as store:
        return int(store.inspect("box")["GraphDriver"]["Data"]["DeviceId"])


def _assert_told(root: Path, layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take_down(root)
    before, pool = state_of(root), metadata_of(root)
    (tmp_path / "file").write_text("content")
    places = {"FILE": str(tmp_path / "file"), "LAYOUT": str(layout), "OUT": str(tmp_path / "out.tar")}
    for command in READING_THE_RECORD:
        assert main(["--root", str(root), *command]) == 0
        said = capsys.readouterr().err
        assert "WARNING: the pool is at transaction " in said, command
    for command in (*READING_THE_POOL, *WRITING):
        argv = [places.get(word, word) for word in command]
        assert main(["--root", str(root), *argv]) == CorruptError.exit_code, command
        said = "".join(capsys.readouterr())
        assert "one was changed without the other" in said, command
        if command != ["check"]:
            assert "'lamella repair' shows which devices are the same in both" in said, command
    assert main(["--root", str(root), "repair"]) == CorruptError.exit_code
    assert "mismatch: the pool is sound, but it is at transaction " in capsys.readouterr().out
    take_down(root)
    assert (state_of(root), metadata_of(root)) == (before, pool)


def test_one_half_of_a_copy(
    root: Path,
    copy_root: Callable[[Path, Path], Path],
    sample_layout: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same was done to both copies, so that all their numbers but the transaction's are the same."""
    take_down(root)
    copied = copy_root(root, tmp_path / "copy")
    for each in (root, copied):
        _with_a_container(each)
    shutil.copy(copied / "state.db", root / "state.db")
    _assert_told(root, sample_layout, tmp_path, capsys)
    foreign = _device_of_box(root)
    found = Store.repair(root, agree=yes)
    assert found.adopted
    assert [line.partition(":")[0] for line in found.lost] == ["container box"]
    assert any(f"not in state.db ({foreign})" in remark for remark in found.remarks)
    with Store.open(root) as store:
        problems = store.check().problems
        assert len(problems) == 2  # the container is lost, and the pool has another one in its place
        with store.tree("sample") as tree:
            assert b"".join(tree.read(b"/etc/hostname")) == b"changed\n"
        store.remove_container("box")
        assert foreign in store.devices.pool.devices()  # it may be all that is left of the other copy
        store.create("sample", name="new")
        assert len(store.check().problems) == 1
        assert store.check().advice == ["lamella prune --unknown-devices"]
    take_down(root)
    before = state_of(root), metadata_of(root)
    assert main(["--root", str(root), "check"]) == CorruptError.exit_code
    capsys.readouterr()
    assert main(["--root", str(root), "prune", "--unknown-devices"]) == 0  # without a terminal: it only shows
    said = capsys.readouterr().out
    assert f"thin device {foreign}: maps " in said
    assert "Nothing was removed" in said
    take_down(root)
    assert (state_of(root), metadata_of(root)) == before
    assert main(["--root", str(root), "prune", "--unknown-devices", "--all"]) == UsageError.exit_code
    assert main(["--root", str(root), "prune", "--unknown-devices", "--force", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert [each["device_id"] for each in done["devices"]] == done["removed"] == [foreign]
    assert main(["--root", str(root), "check"]) == 0
    assert main(["--root", str(root), "prune", "--unknown-devices", "--force"]) == 0
    assert "Every thin device of the pool is in state.db." in capsys.readouterr().out
    take_down(root)
    assert main(["--root", str(root), "teardown", "--force"]) == 0


@pytest.mark.parametrize("older", ["state.db", "pool"])
def test_one_half_of_a_backup(
    root: Path,
    older: str,
    copy_root: Callable[[Path, Path], Path],
    sample_layout: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two transactions were made, the backup was restored, and two others were made."""
    take_down(root)
    backup = copy_root(root, tmp_path / "backup")
    _with_a_container(root)
    first = copy_root(root, tmp_path / "first")
    newer, restored = (backup, first) if older == "pool" else (first, backup)
    _with_a_container(backup)
    shutil.copy(restored / "state.db", newer / "state.db")
    _assert_told(newer, sample_layout, tmp_path, capsys)
    found = Store.repair(newer, agree=yes)
    assert found.adopted
    with Store.open(newer) as store:
        assert not store.mismatch
        store.create("sample", name="new")
        store.load(sample_layout)


def test_a_store_of_consecutive_ids_gets_one_with_its_next_change(root: Path) -> None:
    """As an older Lamella made them."""
    with Store.open(root) as store:
        pool, state = store.devices.pool, store.devices.state
        last = pool.transaction_id
        pool.set_transaction_id(last, 4)
        pool.commit()
        with state.transaction():
            state.set_pool(transaction_id=4)
    take_down(root)
    with Store.open(root) as store:
        assert not store.mismatch
        store.create("sample", name="box")
        assert store.devices.pool.transaction_id > 4
        assert store.devices.pool.transaction_id == store.devices.state.pool().transaction_id
        assert store.check().problems == []
