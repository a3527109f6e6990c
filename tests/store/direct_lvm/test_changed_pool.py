# SPDX-License-Identifier: Apache-2.0
"""Stores whose pool, disks or records others have replaced, removed or added to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lamella.driver.direct_lvm.group import Disks
from lamella.errors import CorruptError, LamellaError, NotFoundError
from lamella.store import Store
from tests.store.direct_lvm.groups import by_hand, lvm
from tests.support.stores import assert_sound, disks_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.direct_lvm
def test_a_fresh_pool_under_an_old_store(root: Path, lvm_folder: Path) -> None:
    """Docker's error; then our explanation, and the way out, which works."""
    files = disks_of(root)
    os.environ["LAMELLA_ROOT"] = str(root)
    lvm("lvremove", "-y", "docker/thinpool")
    lvm("vgremove", "docker")
    lvm("pvremove", *files)
    lvm("pvcreate", *files)
    by_hand(lvm_folder, *files, metadata="2%VG")
    for read_only in (False, True):
        with Store.open(root, read_only=read_only) as store, pytest.raises(CorruptError) as caught:
            store.info()
        assert caught.value.message == (
            "devmapper: Base Device UUID and Filesystem verification failed: "
            "devicemapper: Error running deviceCreate (ActivateDevice) dm_task_run failed"
        )
        assert "the volume group docker was recreated" in str(caught.value.hint)
        assert "lamella teardown --force" in str(caught.value.hint)
    with Store.open(root) as store:
        left = store.teardown(force=True)
    assert all("which set-up did not make" in line or "is missing" in line for line in left)
    (root / "devices").parent.mkdir(exist_ok=True)
    (root / "devices").write_text("".join(f"{path}\n" for path in files))
    with Store.setup(root, storage_options=["dm.thinpooldev=docker/thinpool", "dm.basesize=64M"]):
        pass
    assert_sound(root)


@pytest.mark.direct_lvm
def test_missing_disks_and_records(root: Path) -> None:
    _, second = disks_of(root)
    second.rename(second.with_suffix(".away"))
    with Store.open(root, read_only=True) as store:
        with pytest.raises(LamellaError, match="missing disk"):
            store.info()
        assert any("missing" in problem for problem in store.check().problems)
    second.with_suffix(".away").rename(second)
    record = root / "direct-lvm.json"
    whole = record.read_text()
    for broken in (
        "",
        "{}",
        "[]",
        whole.replace('"made": true', '"made": 1'),
        whole.replace('"version": 1', ""),
    ):
        record.write_text(broken)
        with Store.open(root) as store, pytest.raises(CorruptError, match=r"direct-lvm\.json is damaged"):
            store.info()
    record.unlink()
    with Store.open(root) as store, pytest.raises(NotFoundError, match=r"direct-lvm\.json is missing"):
        store.info()
    record.write_text(whole)
    assert_sound(root)


@pytest.mark.direct_lvm
def test_teardown_leaves_what_others_made(root: Path, tmp_path: Path) -> None:
    os.environ["LAMELLA_ROOT"] = str(root)
    lvm("lvcreate", "-n", "mine", "-l", "2", "docker")
    with Store.open(root) as store:
        left = store.teardown(force=True)
    assert len(left) == 1
    assert "has other volumes (mine)" in left[0]
    session, found = Disks(root).find("docker", map(str, disks_of(root)))
    with session:
        assert list(found.group.lvs) == ["mine"]
