# SPDX-License-Identifier: Apache-2.0
"""Leaked space in a store's pool: it is told, is no damage, and comes back, and nothing else changes."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.cli.main import main
from lamella.errors import CorruptError, DeviceIOError
from lamella.store import Store
from lamella.thin.format import superblock
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.tools.check import check
from lamella.units import human_size
from tests.support.cut_stores import Lasting, contents, stores_on
from tests.support.leaks import leak
from tests.support.recording import Recording
from tests.support.stores import (
    assert_sound,
    assert_sound_for_real_tools,
    change_superblock,
    files_of,
    metadata_of,
    pool_devices,
    state_of,
    yes,
)

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.store.repair_report import Repair

CHUNK = 64 << 10


def _leak(root: Path, *, data: int = 0, metadata: int = 0, too_high: int = 0) -> None:
    with pool_devices(root) as devices:
        leak(devices.metadata, data=data, metadata=metadata, too_high=too_high)


@pytest.fixture
def boxed(root: Path) -> Path:
    """A store with a container."""
    with Store.open(root) as store:
        store.create("sample", name="box")
    return root


def test_check_says_what_it_is_and_what_to_do(boxed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _leak(boxed, data=3, metadata=2)
    assert main(["check", "--root", str(boxed)]) == 0
    said = capsys.readouterr().out
    shown = f"{human_size(3 * CHUNK)} of data (3 chunks) and 8.192kB of metadata (2 blocks)"
    assert f"leaked: {shown}; no data is in danger\n" in said
    assert "PROBLEM" not in said
    assert "next: lamella repair\n" in said
    assert said.endswith("The store is sound. Some of its space has leaked: lamella repair frees it.\n")

    assert main(["check", "--root", str(boxed), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == []
    assert told["leaked"] == {
        "data_chunks": 3,
        "data_bytes": 3 * CHUNK,
        "metadata_blocks": 2,
        "metadata_bytes": 8192,
        "counted_too_high": 0,
    }
    assert len(told["harmless"]) == 5
    assert told["advice"] == ["lamella repair"]


def test_leaks_beside_damage_are_damage(boxed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _leak(boxed, data=3)
    with pool_devices(boxed) as devices:
        root = superblock.unpack(devices.metadata.read(0, BLOCK_SIZE), name="it").details_root
        devices.metadata.write(root * BLOCK_SIZE, bytes(BLOCK_SIZE))
        devices.metadata.flush()
    assert main(["check", "--root", str(boxed), "--json"]) == 6
    told = json.loads(capsys.readouterr().out)
    assert told["problems"]
    assert told["leaked"] is None  # not counted: references that cannot be found are no leaks
    done = Store.repair(boxed, agree=yes)
    assert (done.verdict, done.lost) == ("damaged", [])
    assert_sound(boxed)


def test_repair_gives_it_back(boxed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state_of(boxed)
    _leak(boxed, data=5, metadata=2, too_high=3)
    leaky = metadata_of(boxed)
    assert state_of(boxed).data_used == before.data_used + 5

    assert main(["repair", "--root", str(boxed)]) == 0
    said = capsys.readouterr().out
    assert f"space has leaked: {human_size(5 * CHUNK)} of data (5 chunks)" in said
    assert "Nothing was changed. To free the space: lamella repair --yes" in said
    assert metadata_of(boxed) == leaky

    assert main(["repair", "--root", str(boxed), "--yes"]) == 0
    assert "The leaked space was freed." in capsys.readouterr().out
    assert state_of(boxed) == before
    assert sorted(path.name for path in boxed.glob("pool/*")) in ([], ["data", "metadata"])
    assert main(["repair", "--root", str(boxed), "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "sound"
    assert_sound(boxed)
    assert_sound_for_real_tools(boxed, tmp_path)
    with Store.open(boxed) as store:
        store.create("sample", name="another")
    assert_sound(boxed)


def test_a_mark_goes_with_it(boxed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _leak(boxed, data=1)
    change_superblock(boxed, flags=superblock.NEEDS_CHECK)
    assert main(["repair", "--root", str(boxed)]) == 6
    assert "Its needs_check flag is also set" in capsys.readouterr().out
    assert main(["repair", "--root", str(boxed), "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["given_back"], told["cleared"]) == ("leaks", True, True)
    assert told["leaked"]["data_chunks"] == 1
    assert_sound(boxed)


def test_into_a_file_of_ones_own(boxed: Path, tmp_path: Path) -> None:
    _leak(boxed, data=2, metadata=1)
    leaky = metadata_of(boxed)
    done = Store.repair(boxed, agree=yes, to=tmp_path / "mended")
    assert (done.verdict, done.given_back, done.written) == ("leaks", False, str(tmp_path / "mended"))
    assert metadata_of(boxed) == leaky
    with FileDevice(tmp_path / "mended", read_only=True) as file:
        assert check(file).ok


def test_a_pool_of_another_moment_is_left_alone(boxed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Until it is agreed that the store goes on with it; then the leaks are next."""
    _leak(boxed, data=2)
    change_superblock(boxed, transaction_id=77)
    leaky = metadata_of(boxed)
    assert main(["repair", "--root", str(boxed)]) == 6
    assert "transaction 77" in capsys.readouterr().out
    assert main(["repair", "--root", str(boxed), "--yes"]) == 0
    assert metadata_of(boxed) == leaky
    assert main(["repair", "--root", str(boxed), "--yes"]) == 0
    assert "The leaked space was freed." in capsys.readouterr().out
    assert_sound(boxed)


def test_a_failed_write_leaves_what_was(boxed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state_of(boxed)
    _leak(boxed, data=2)

    def fail(*_: object) -> None:
        raise DeviceIOError("cannot write")

    with monkeypatch.context() as patch:
        patch.setattr("lamella.thin.tools.leak_repair._FreeBlocks.write", fail)
        with pytest.raises(DeviceIOError):
            Store.repair(boxed, agree=yes)
    assert Store.repair(boxed, agree=yes).given_back
    assert state_of(boxed) == before


def test_cut_off_at_every_write(boxed: Path, tmp_path: Path, mode: str) -> None:
    _leak(boxed, data=4, metadata=2, too_high=2)
    (tmp_path / "recording").mkdir()
    recording = Recording(tmp_path / "recording")
    files = [Lasting(path) for path in files_of(boxed)]
    paths = [file.name for file in files]
    recorded = {file.name: recording.wrap(file, file.name.replace("/", "_")) for file in files}
    with stores_on(mode, recorded):
        with Store.open(boxed, read_only=True) as store:
            wanted = contents(store)
        assert Store.repair(boxed, agree=yes).given_back
    recording.mark("repaired")
    crashes, seen = 0, set()
    for crash in recording.crashes(random.Random(5), subsets=2):
        crashes += 1
        place = tmp_path / "crashed"
        place.mkdir()
        (place / "run").mkdir()
        for name in ("config.toml", "direct-lvm.json", "devices", "state.db"):
            if (boxed / name).exists():
                shutil.copy(boxed / name, place)
        with stores_on(mode, dict(zip(paths, crash.devices.values(), strict=True))):
            with Store.open(place, read_only=True) as store:
                found = store.check()
                assert found.problems == [], crash.what
                assert found.leaks is not None
                assert contents(store) == wanted, crash.what
            seen.add(bool(found.leaks))
            assert not (crash.finished and found.leaks), crash.what
            done = Store.repair(place, agree=yes)
            assert done.verdict == ("leaks" if found.leaks else "sound"), crash.what
            with Store.open(place, read_only=True) as store:
                found = store.check()
                assert (found.problems, found.harmless) == ([], []), crash.what
                assert not found.leaks
        shutil.rmtree(place)
    recording.close()
    for file in files:
        FileDevice.close(file)
    assert seen == {False, True}
    assert crashes > 5


def test_what_is_damaged_by_the_time_of_the_repair_is_not_written(boxed: Path) -> None:
    _leak(boxed, data=2)

    def damage(found: Repair) -> bool:
        with pool_devices(boxed) as devices:
            root = superblock.unpack(devices.metadata.read(0, BLOCK_SIZE), name="it").details_root
            devices.metadata.write(root * BLOCK_SIZE, bytes(BLOCK_SIZE))
            devices.metadata.flush()
        return True

    with pytest.raises(CorruptError, match="is damaged now"):
        Store.repair(boxed, agree=damage)
    assert Store.repair(boxed, agree=yes).verdict == "damaged"
