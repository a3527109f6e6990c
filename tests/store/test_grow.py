# SPDX-License-Identifier: Apache-2.0
"""``lamella grow``: larger files, larger volumes, further disks."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lamella.cli.main import main
from lamella.driver.grow_size import wanted_size
from lamella.errors import ExistsError, LamellaError, NoSpaceError, UsageError
from lamella.store import Store
from tests.support.stores import assert_sound, disks_of, files_of

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("200M", 200 * MIB),
        ("+60M", 160 * MIB),
        ("+20%", 120 * MIB),
        ("+100%free", 140 * MIB),
        ("+50%FREE", 120 * MIB),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert wanted_size(text, 100 * MIB, free=40 * MIB) == size


def test_a_share_is_whole_sectors() -> None:
    """Of 256 MiB a tenth is none, and the kernel has no smaller unit."""
    assert wanted_size("+10%", 256 * MIB) == 256 * MIB + 26843545 // 512 * 512
    assert wanted_size("+1%", 512) == 1024
    assert wanted_size("+33%FREE", 512, free=3 * 512) == 1024


@pytest.mark.parametrize("text", ["100M", "50M", "+0", "+0%"])
def test_a_pool_only_grows(text: str) -> None:
    with pytest.raises(ExistsError):
        wanted_size(text, 100 * MIB)


@pytest.mark.parametrize("text", ["", "more", "-20M", "+20%FREE", "20%", "+-1M"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        wanted_size(text, 100 * MIB)


def test_it_has_to_be_said_what_grows(empty_root: Path) -> None:
    with pytest.raises(UsageError):
        Store.grow(empty_root)


@pytest.mark.loop_lvm
def test_the_files_grow(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grow", "--root", str(root), "--data", "+64M", "--metadata", "+100%"]) == 0
    assert capsys.readouterr().out == "data: 268.4MB -> 335.5MB\nmetadata: 4.194MB -> 8.389MB\n"
    with Store.open(root) as store:
        info = store.info()
        assert info.data_total == 320 * MIB
        assert info.metadata_total == 8 * MIB
    assert_sound(root)
    with pytest.raises(UsageError):
        Store.grow(root, disks=["/dev/vdz"])


@pytest.mark.direct_lvm
def test_the_volumes_grow(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(root) as store:
        before = store.info()
    with pytest.raises(NoSpaceError) as caught:
        Store.grow(root, data="+1G")
    assert "lamella grow --disk" in (caught.value.hint or "")
    assert main(["grow", "--root", str(root), "--data", "+4M", "--metadata", "+4M"]) == 0
    with Store.open(root) as store:
        info = store.info()
        assert info.data_total == before.data_total + 4 * MIB
        assert info.metadata_total == before.metadata_total + 4 * MIB

    # Metadata alone as well, of which a kernel that has the pool takes note in another way.
    assert main(["grow", "--root", str(root), "--metadata", "+4M"]) == 0
    with Store.open(root, read_only=True) as store:
        assert store.info().metadata_total == before.metadata_total + 8 * MIB

    disk = tmp_path / "third"
    with disk.open("wb") as file:
        file.truncate(161 * MIB)
    capsys.readouterr()
    assert main(["grow", "--root", str(root), "--disk", str(disk), "--json"]) == 0
    with Store.open(root) as store:
        # The new disk's forty extents, and what had been free.
        assert store.info().data_total >= info.data_total + 160 * MIB
        assert store.create("sample", name="box")
    assert_sound(root)
    with Store.setup(root, mode="direct-lvm", storage_options=[f"dm.directlvm_device={disks_of(root)[0]}"]):
        pass  # named or not, the disks are the store's
    with Store.open(root) as store:
        assert store.teardown(force=True) == []
    assert b"LABELONE" not in disk.read_bytes()[:4096]


@pytest.mark.direct_lvm
def test_a_disk_that_holds_something_is_refused(root: Path, tmp_path: Path) -> None:
    disk = tmp_path / "third"
    with disk.open("wb") as file:
        file.truncate(161 * MIB)
        file.seek(1024 + 56)
        file.write(b"\x53\xef")
    before = (root / "direct-lvm.json").read_bytes()
    with pytest.raises(ExistsError):
        Store.grow(root, disks=[str(disk)])
    assert (root / "direct-lvm.json").read_bytes() == before
    Store.grow(root, disks=[str(disk)], force=True)
    assert_sound(root)


@pytest.mark.loop_lvm
def test_of_two_files_none_grows_if_one_cannot(root: Path) -> None:
    """A limit on the size of files stands for a file system whose files are not that large."""
    before = [path.stat().st_size for path in files_of(root)]
    script = """
import resource, signal, sys
from lamella.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
sys.exit(main(["--root", sys.argv[1], "grow", "--metadata", "+8M", "--data", "2G"]))
"""
    done = subprocess.run([sys.executable, "-c", script, root], capture_output=True, text=True, check=False)
    assert done.returncode == NoSpaceError.exit_code, done.stderr
    assert [path.stat().st_size for path in files_of(root)] == before
    assert_sound(root)


@pytest.mark.direct_lvm
@pytest.mark.parametrize(
    ("size", "error"), [("+1T", NoSpaceError), ("1M", ExistsError), ("much", UsageError)], ids=str
)
def test_a_disk_is_not_added_for_a_size_that_is_wrong(
    root: Path, tmp_path: Path, size: str, error: type[LamellaError]
) -> None:
    disk = tmp_path / "third"
    with disk.open("wb") as file:
        file.truncate(161 * MIB)
    before = [(root / name).read_bytes() for name in ("direct-lvm.json", "devices")]
    with pytest.raises(error):
        Store.grow(root, data=size, disks=[str(disk)])
    assert [(root / name).read_bytes() for name in ("direct-lvm.json", "devices")] == before
    assert not any(disk.read_bytes())
    Store.grow(root, data="+160M", disks=[str(disk)])
    assert_sound(root)


def test_nothing_grows_for_a_base_device_that_would_shrink(root: Path, mode: str) -> None:
    before = [path.stat().st_size for path in files_of(root)]
    more = ["dm.loopdatasize=512M"] if mode == "loop-lvm" else []
    with pytest.raises(UsageError, match="Base device size cannot be smaller"):
        Store.setup(root, storage_options=["dm.basesize=48M", *more])
    assert [path.stat().st_size for path in files_of(root)] == before
