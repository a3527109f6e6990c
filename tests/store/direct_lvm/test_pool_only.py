# SPDX-License-Identifier: Apache-2.0
"""``setup --pool-only``: a pool without a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.cli.main import main
from lamella.driver.direct_lvm.backend import DirectLvm
from lamella.errors import BusyError, CorruptError, ExistsError, UsageError
from lamella.store import Store, pool_only, setup
from lamella.store.pool_only import make_pool
from tests.store.direct_lvm.groups import GIB, disk
from tests.support.stores import SMALL

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pool_for_others(tmp_path: Path, lvm_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What --pool-only makes is what Docker demands: transaction id 0, nothing used, no store in the way."""
    root, one, two = tmp_path / "root", disk(tmp_path / "one", GIB), disk(tmp_path / "two", GIB)
    assert main(["setup", "direct-lvm", str(one), "--pool-only"]) == 0
    assert "The thin pool docker-thinpool is ready, and empty." in capsys.readouterr().out
    assert not Store.exists(root)
    assert not (root / "direct-lvm.json").exists()
    assert main(["setup", "direct-lvm", str(one), "--pool-only"]) != 0  # that disk is in use now
    assert main(["lvs", "--noheadings", "-o", "lv_name,transaction_id,profile", "docker"]) == 0
    assert capsys.readouterr().out.split() == ["thinpool", "0", "docker-thinpool"]
    with Store.setup(storage_options=["dm.thinpooldev=docker/thinpool", "dm.basesize=64M"]) as store:
        assert store.info().pool_name == "docker-thinpool"
    with pytest.raises(ExistsError, match="there is a store in"):
        make_pool(storage_options=[f"dm.directlvm_device={two}"])
    with pytest.raises(UsageError, match="only direct-lvm"):
        make_pool(tmp_path / "other", mode="loop-lvm")


def test_a_pool_for_others_that_was_cut_short(
    tmp_path: Path, lvm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = disk(tmp_path / "one", GIB)
    options = [f"dm.directlvm_device={one}"]
    with monkeypatch.context() as patch:
        patch.setattr(DirectLvm, "_blank", lambda *_: (_ for _ in ()).throw(CorruptError("cut")))
        with pytest.raises(CorruptError, match="cut"):
            make_pool(storage_options=options)
        assert not (tmp_path / "root/direct-lvm.json").exists()  # taken back
        patch.setattr(DirectLvm, "remove", lambda *_: [])
        with pytest.raises(CorruptError, match="cut"):
            make_pool(storage_options=options)
    assert make_pool(storage_options=options) == "docker-thinpool"
    assert not (tmp_path / "root/direct-lvm.json").exists()


def test_what_happened_while_a_set_up_waited_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found before the lock was held may be of yesterday."""
    root = tmp_path / "root"
    Store.setup(root, mode="loop-lvm", storage_options=SMALL, engine="user").close()
    before = (root / "state.db").read_bytes()
    monkeypatch.setattr(pool_only, "seems_complete", lambda place: False)
    monkeypatch.setattr(DirectLvm, "preflight", lambda *_: [])
    with pytest.raises(ExistsError, match="there is a store in"):
        make_pool(root, mode="direct-lvm", storage_options=["dm.directlvm_device=/nowhere"])
    assert (root / "state.db").read_bytes() == before
    monkeypatch.setattr(setup, "seems_complete", lambda place: True)
    with pytest.raises(BusyError, match="was removed in the meantime"):
        Store.setup(tmp_path / "other", mode="loop-lvm", storage_options=SMALL, engine="user")
    assert {path.name for path in (tmp_path / "other").rglob("*")} == {"run", "lock", "writer"}
