# SPDX-License-Identifier: Apache-2.0
"""``lamella repair``: a damaged pool comes back from a new place, and the damaged one is kept."""

from __future__ import annotations

import io
import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.cli.main import main
from lamella.devicemapper.client import DeviceMapper
from lamella.driver import backends
from lamella.driver.state import State
from lamella.errors import BusyError, CorruptError, DeviceIOError, ExistsError, LamellaError
from lamella.store import Store, schema
from lamella.store.config import Config
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.format import superblock
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.check import check
from tests.support.leaks import leak
from tests.support.stores import (
    KERNEL,
    assert_sound,
    assert_sound_for_real_tools,
    change_superblock,
    disks_of,
    metadata_of,
    pool_devices,
    state_of,
    take_down,
    yes,
)

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.store.repair_report import Repair

NOISE = bytes(range(256)) * (BLOCK_SIZE // 256)


def _no(found: Repair) -> bool:
    return False


def _content(root: Path) -> bytes:
    with Store.open(root, read_only=True) as store:
        out = io.BytesIO()
        store.export("box", out)
        return out.getvalue()


@pytest.fixture
def boxed(root: Path) -> Path:
    """A store with a container, in which a file was written."""
    with Store.open(root) as store:
        store.create("sample", name="box")
        path = root.parent / "hello"
        path.write_bytes(b"hello" * 100_000)
        store.copy_in("box", path, b"/hello")
    return root


def _overwrite(root: Path, block: int) -> None:
    with pool_devices(root) as devices:
        devices.metadata.write(block * BLOCK_SIZE, NOISE)
        devices.metadata.flush()


def _place(metadata: BlockDevice, what: str) -> int:
    """The metadata block to overwrite."""
    found = Metadata.open(metadata)
    return {
        "superblock": 0,
        "details": found.superblock.details_root,
        "data space map": found.superblock.data_sm_root.bitmap_root,
        "base's mappings": found.roots[min(found.roots)],
    }[what]


# -- nothing to do -----------------------------------------------------------------------------------


def test_a_sound_pool_is_left_alone(boxed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = metadata_of(boxed)
    assert main(["repair", "--root", str(boxed), "--yes"]) == 0
    assert "nothing to repair" in capsys.readouterr().out
    assert metadata_of(boxed) == before


def test_a_pool_that_needs_a_check_is_checked_and_cleared(
    boxed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = _content(boxed)
    change_superblock(boxed, flags=superblock.NEEDS_CHECK)
    assert main(["info", "--root", str(boxed)]) == 0
    said = capsys.readouterr().err
    assert "WARNING: the pool is read-only and needs a check" in said
    assert "next: lamella repair" in said
    if not KERNEL:  # there a command that writes puts the pool into the kernel first, which is told below
        assert main(["create", "--root", str(boxed), "sample"]) != 0
        assert "lamella repair" in capsys.readouterr().err
    assert main(["repair", "--root", str(boxed)]) == 6
    assert "lamella repair --yes" in capsys.readouterr().out
    assert main(["repair", "--root", str(boxed), "--yes"]) == 0
    assert _content(boxed) == content
    with Store.open(boxed) as store:
        store.create("sample", name="another")
    assert_sound(boxed)


# -- damage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["superblock", "details", "data space map"])
def test_damage_that_loses_nothing(
    boxed: Path, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, state = _content(boxed), state_of(boxed)
    with pool_devices(boxed, read_only=True) as devices:
        block = _place(devices.metadata, what)
    _overwrite(boxed, block)
    damaged = metadata_of(boxed)
    assert main(["check", "--root", str(boxed)]) == 6
    assert "lamella repair" in capsys.readouterr().out

    assert main(["repair", "--root", str(boxed)]) == 6
    said = capsys.readouterr().out
    assert "lost: nothing" in said
    assert "Nothing was changed." in said
    assert metadata_of(boxed) == damaged

    done = Store.repair(boxed, agree=yes)
    assert (done.verdict, done.lost, done.refusal) == ("damaged", [], "")
    assert _content(boxed) == content
    assert state_of(boxed) == state
    assert_sound(boxed)
    assert_sound_for_real_tools(boxed, tmp_path)
    if (boxed / "pool/metadata").exists():
        (kept,) = (boxed / "pool").glob("metadata.damaged-*")
        assert done.kept == str(kept)
        assert kept.read_bytes() == damaged
    else:
        assert done.kept == "docker/thinpool_meta0"
    with Store.open(boxed) as store:
        store.create("sample", name="another")
        store.teardown(force=True)
    assert not (boxed / "pool").exists()
    for disk in disks_of(boxed):
        if disk.exists():
            assert b"LABELONE" not in disk.read_bytes()[:4096]


def test_what_is_lost_is_reported_by_name(boxed: Path) -> None:
    with (
        closing(State.open(boxed / "state.db", schema, read_only=True)) as state,
        pool_devices(boxed) as devices,
    ):
        row = state.row("SELECT device_id FROM devices JOIN containers ON containers.device = devices.hash")
        assert row is not None
        metadata = Metadata.open(devices.metadata)
        devices.metadata.write(metadata.roots[row[0]] * BLOCK_SIZE, NOISE)
        devices.metadata.flush()
    done = Store.repair(boxed, agree=yes)
    assert len(done.lost) == 1
    assert done.lost[0].startswith("container box: ")
    assert done.kept
    with Store.open(boxed) as store:
        store.remove_container("box")
        store.create("sample", name="box")
    assert_sound(boxed)


def test_a_pool_with_none_of_the_stores_devices_is_not_swapped_in(boxed: Path) -> None:
    with pool_devices(boxed) as devices:
        with Pool.open(devices.metadata, devices.data, options=PoolOptions(zero=False)) as pool:
            pool.create_thin(77)
            for number in set(pool.devices()) - {77}:
                pool.delete(number)
        devices.metadata.write(_place(devices.metadata, "data space map") * BLOCK_SIZE, NOISE)
        devices.metadata.flush()
    damaged = metadata_of(boxed)
    done = Store.repair(boxed, agree=yes)
    assert "none of this store's devices" in done.refusal
    assert done.kept == ""
    assert metadata_of(boxed) == damaged


def test_a_pool_of_another_moment_is_not_swapped_in(boxed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_superblock(boxed, transaction_id=77)
    with pool_devices(boxed, read_only=True) as devices:
        block = _place(devices.metadata, "data space map")
    _overwrite(boxed, block)
    damaged = metadata_of(boxed)
    assert main(["repair", "--root", str(boxed), "--yes"]) == 6
    assert "transaction 77" in capsys.readouterr().out
    assert metadata_of(boxed) == damaged


def test_into_a_file_of_ones_own(boxed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _overwrite(boxed, 0)
    damaged = metadata_of(boxed)
    target = tmp_path / "mended"
    assert main(["repair", "--root", str(boxed), "--to", str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    assert metadata_of(boxed) == damaged
    with FileDevice(target, read_only=True) as file:
        assert check(file).ok
    with pytest.raises(ExistsError):
        Store.repair(boxed, agree=yes, to=target)


# -- refusals and failures ---------------------------------------------------------------------------


def test_a_store_in_use_is_refused(boxed: Path) -> None:
    with Store.open(boxed), pytest.raises(BusyError):
        Store.repair(boxed, agree=_no)


@pytest.mark.loop_lvm
def test_a_pool_in_use_by_another_program_is_refused(boxed: Path) -> None:
    take_down(boxed)
    with FileDevice(boxed / "pool/metadata"), pytest.raises(BusyError) as caught:
        Store.repair(boxed, agree=_no)
    assert "lamella deactivate" in (caught.value.hint or "")


@pytest.mark.kernel_engine  # with the user engine nothing is active
def test_a_pool_in_use_by_the_kernel_is_refused(boxed: Path) -> None:
    with pytest.raises(BusyError, match="active in the kernel") as caught:
        Store.repair(boxed, agree=yes)
    assert "lamella deactivate" in (caught.value.hint or "")
    Store.deactivate(root=boxed)
    assert Store.repair(boxed, agree=yes).verdict == "sound"


@pytest.mark.kernel_engine  # the user engine activates nothing
def test_a_mark_and_leaks_are_repaired_by_writers_and_not_by_readers(boxed: Path) -> None:
    change_superblock(boxed, flags=superblock.NEEDS_CHECK)
    with pool_devices(boxed) as devices:
        leak(devices.metadata, data=3, metadata=2)
    before = metadata_of(boxed)
    for command in (["info"], ["df"], ["check"], ["images"], ["ls", "box:/"]):
        assert main([*command, "--root", str(boxed)]) == (6 if command == ["check"] else 0)
    with DeviceMapper() as dm:
        assert backends.backend(Config.load(boxed / "config.toml").mode, boxed).active(dm) is None
    assert metadata_of(boxed) == before
    with Store.open(boxed) as store:
        store.create("sample", name="another")
        assert store.info().state == "fine"
        assert store.check().problems == []
    assert_sound(boxed)
    take_down(boxed)
    with Store.open(boxed, read_only=True) as store:
        assert not store.check().leaks


@pytest.mark.loop_lvm
def test_data_that_was_cut_off_is_no_matter_for_a_repair(boxed: Path) -> None:
    take_down(boxed)
    os.truncate(boxed / "pool/data", 1 << 20)
    with pytest.raises(CorruptError) as caught:
        Store.repair(boxed, agree=yes)
    assert "truncated" in caught.value.message


@pytest.mark.loop_lvm
def test_a_swap_that_fails_changes_nothing(boxed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _overwrite(boxed, 0)
    damaged = metadata_of(boxed)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(LamellaError):
        Store.repair(boxed, agree=yes)
    assert metadata_of(boxed) == damaged
    assert sorted(path.name for path in (boxed / "pool").iterdir()) == ["data", "metadata"]


@pytest.mark.direct_lvm
def test_a_spare_that_does_not_keep_what_is_written_is_not_swapped_in(
    boxed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lamella.driver.direct_lvm import group

    _overwrite(boxed, 0)
    damaged = metadata_of(boxed)
    real = group.copy_metadata

    def spoil(source: BlockDevice, target: BlockDevice) -> None:
        real(source, target)
        raise DeviceIOError("cannot write to the spare")

    monkeypatch.setattr("lamella.driver.direct_lvm.backend.copy_metadata", spoil)
    with pytest.raises(DeviceIOError):
        Store.repair(boxed, agree=yes)
    assert metadata_of(boxed) == damaged
