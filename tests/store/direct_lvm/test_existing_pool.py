# SPDX-License-Identifier: Apache-2.0
"""Stores set up on a thin pool that is there already (``dm.thinpooldev``)."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import lamella
from lamella.driver.direct_lvm.group import Disks
from lamella.errors import ExistsError, NotFoundError, UnsupportedError
from lamella.lvm.format.group_writer import write_readable
from lamella.store import Store
from tests.store.direct_lvm.groups import GIB, MIB, by_hand, disk, lvm, masked, text_of
from tests.support.stores import pool_devices

if TYPE_CHECKING:
    from pathlib import Path


def test_taking_over_a_used_pool_is_refused_in_dockers_words(tmp_path: Path, lvm_folder: Path) -> None:
    root = tmp_path / "root"
    by_hand(lvm_folder, disk(tmp_path / "disk", GIB))
    taken = ["dm.thinpooldev=docker-thinpool", "dm.basesize=64M"]
    Store.setup(storage_options=taken).close()
    with pool_devices(root) as devices, lamella.Pool.open(devices.metadata, devices.data) as pool:
        pool.set_transaction_id(pool.transaction_id, 0)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(root / "devices", other)
    message = r"devmapper: Unable to take ownership of thin-pool \(docker-thinpool\) "
    with pytest.raises(ExistsError, match=message + "that already has used data blocks"):
        Store.setup(other, storage_options=taken)
    with pool_devices(root) as devices:
        devices.metadata.write_zeros(0, 4096)
        with lamella.Pool.create(devices.metadata, devices.data, chunk_size=512 << 10) as pool:
            pool.set_transaction_id(0, 7)
    with pytest.raises(ExistsError, match=message + "with non-zero transaction ID"):
        Store.setup(other, storage_options=taken)
    with pool_devices(root) as devices, lamella.Pool.open(devices.metadata, devices.data) as pool:
        pool.set_transaction_id(7, 0)
    with Store.setup(other, storage_options=taken) as store:
        assert store.info().base_size == 64 * MIB


def test_taking_over_releases_what_it_took(tmp_path: Path, lvm_folder: Path) -> None:
    root = tmp_path / "root"
    by_hand(lvm_folder, disk(tmp_path / "disk", GIB))
    for _ in range(2):
        store = Store.setup(storage_options=["dm.thinpooldev=docker/thinpool", "dm.basesize=64M"])
        before = text_of(root)
        store.teardown()
        assert (root / "devices").exists() is False
        (root / "devices").parent.mkdir(exist_ok=True)
        (root / "devices").write_text(f"{tmp_path / 'disk'}\n")
    session, found = Disks(root).find("docker")
    with session:
        assert masked(write_readable(found.group, Disks(root).environment.header("x"))) == before


def test_pools_that_belong_to_lvm_are_refused(tmp_path: Path, lvm_folder: Path) -> None:
    by_hand(lvm_folder, disk(tmp_path / "disk", GIB))
    with pytest.raises(NotFoundError, match='"docker/none"'):
        Store.setup(storage_options=["dm.thinpooldev=docker/none"])
    with pytest.raises(NotFoundError, match='Volume group "nix" not found'):
        Store.setup(storage_options=["dm.thinpooldev=nix/thinpool"])
    lvm("lvcreate", "-n", "plain", "-l", "1", "docker")
    with pytest.raises(UnsupportedError, match="not a thin pool"):
        Store.setup(storage_options=["dm.thinpooldev=docker/plain"])
    with pytest.raises(ExistsError, match="block size of 524288"):
        Store.setup(storage_options=["dm.thinpooldev=docker/thinpool", "dm.blocksize=64K"])
    lvm("lvcreate", "-V", "64M", "-n", "thin", "--thinpool", "docker/thinpool")
    with pytest.raises(UnsupportedError, match="thin volumes of LVM"):
        Store.setup(storage_options=["dm.thinpooldev=docker/thinpool"])
    assert not Store.exists()
