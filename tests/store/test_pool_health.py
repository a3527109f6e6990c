# SPDX-License-Identifier: Apache-2.0
"""What is really there goes into a pool's diagnosis: disks of its volume group that are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.block import MemoryDevice
from lamella.cli.main import main
from lamella.driver.backend import PoolDevices
from lamella.driver.direct_lvm.backend import DirectLvm
from lamella.errors import CorruptError
from lamella.store import Store
from tests.support.stores import KERNEL

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    """The pool lies on the first two, and the third is only for growing."""
    made = [tmp_path / name for name in ("one", "two", "three")]
    for path in made:
        with path.open("wb") as file:
            file.truncate(200 * MIB)
    options = [f"dm.directlvm_device={path}" for path in made]
    options += ["dm.thinp_percent=50", "dm.thinp_metapercent=1", "dm.basesize=64M"]
    Store.setup(tmp_path / "root", mode="direct-lvm", storage_options=options).close()
    return made


def test_a_disk_beside_the_pool_is_missed(
    disks: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tmp_path / "root")
    kept = disks[2].rename(tmp_path / "away")
    for words in (["info"], ["df"]):
        assert main(["--root", root, *words]) == 0
        said = capsys.readouterr().err
        assert f"WARNING: the pool is whole, but its volume group lacks a disk: {disks[2]}" in said
        assert "lamella vgreduce --removemissing VG" in said
    with Store.open(root) as store:
        assert store.info().state == "disk-missing-beside"
        found = store.check()
    assert any("lacks a disk" in line for _, line in found.looked_at)
    kept.rename(disks[2])
    with Store.open(root) as store:
        assert store.health().state == "fine"


def test_a_disk_below_the_pool_is_missed(disks: list[Path], tmp_path: Path) -> None:
    """A pool that the kernel runs goes on without it; here nobody opens it any more."""
    backend = DirectLvm(tmp_path / "root")
    active = PoolDevices(MemoryDevice(4096), MemoryDevice(4096))
    assert backend.missing_disks(active) == ([], False)
    disks[1].unlink()
    assert backend.missing_disks(active) == ([str(disks[1])], True)
    if KERNEL:
        with Store.open(tmp_path / "root") as store:
            assert store.health().state == "missing-disk"
        Store.deactivate(root=tmp_path / "root")
    with pytest.raises(CorruptError, match="missing disk"), Store.open(tmp_path / "root") as store:
        store.health()
    disks[0].unlink()
    disks[2].unlink()
    assert backend.missing_disks(active) == ([str(path) for path in disks], True)
