# SPDX-License-Identifier: Apache-2.0
"""Stores on logical volumes: made, cut off anywhere, continued, taken over, grown, remade, taken down."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.docker_stores.manual import PROFILE, PROFILE_TEXT, pool_commands

import lamella
from lamella.block import FileDevice
from lamella.cli.lvm import main_lvm
from lamella.cli.main import main
from lamella.driver.direct_lvm import preflight
from lamella.driver.direct_lvm.backend import DirectLvm
from lamella.driver.direct_lvm.group import Disks
from lamella.errors import (
    BusyError,
    CorruptError,
    ExistsError,
    LamellaError,
    NotFoundError,
    UnsupportedError,
    UsageError,
)
from lamella.lvm.format.group_writer import write_readable
from lamella.store import Store, pool_only, setup
from lamella.store.pool_only import make_pool
from tests.support.stores import (
    KERNEL,
    SMALL,
    assert_sound,
    assert_sound_for_real_tools,
    disks_of,
    options_for,
    pool_devices,
    set_up,
    state_of,
    take_down,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture(autouse=True)
def _own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command here may ever reach the machine's own store."""
    monkeypatch.setenv("LAMELLA_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("LAMELLA_DEVICES", raising=False)


@pytest.fixture
def lvm_folder() -> Path:
    return Path(os.environ["LVM_SYSTEM_DIR"])


def digest(path: Path) -> str:
    """What is in a file, in short."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def lvm(*words: object) -> None:
    assert main_lvm(str(words[0]), [str(word) for word in words[1:]]) == 0, words


def text_of(root: Path, group: str = "docker") -> str:
    """The group's text with identifiers, times, hosts and paths masked."""
    disks = Disks(root)
    session, found = disks.find(group, json.loads((root / "direct-lvm.json").read_text())["disks"])
    with session:
        return masked(write_readable(found.group, disks.environment.header("x")))


def masked(text: str) -> str:
    text = re.sub(r'id = "\w{6}(-\w{4}){5}-\w{6}"', "id", text)
    text = re.sub(r"creation_time = \d+.*|#.*", "", text)
    return re.sub(r'(creation_host|description|device) = ".*"', r"\1", text)


def by_hand(folder: Path, *disks: Path, metadata: str = "1%VG") -> None:
    """The walkthrough's steps, by Lamella's LVM commands."""
    (folder / "profile").mkdir(exist_ok=True)
    (folder / f"profile/{PROFILE}.profile").write_text(PROFILE_TEXT)
    for command in pool_commands(*disks, metadata=f"-l {metadata}"):
        lvm(*command.split(), "-y")


# -- making ------------------------------------------------------------------------------------------


def test_one_command_makes_what_the_walkthrough_makes(tmp_path: Path, lvm_folder: Path) -> None:
    one, other = tmp_path / "root", tmp_path / "hand"
    Store.setup(
        one, mode="direct-lvm", storage_options=[f"dm.directlvm_device={disk(tmp_path / 'a', 40 * GIB)}"]
    ).close()
    made = text_of(one)
    for expected in ("seqno = 6", "extent_count = 9727", "extent_count = 102", "chunk_size = 1024"):
        assert expected in made
    assert "zero_new_blocks" not in made
    assert "transaction_id = 0" in made
    Store.open(one).teardown()

    os.environ["LAMELLA_ROOT"] = str(other)
    by_hand(lvm_folder, disk(tmp_path / "b", 40 * GIB))
    with Store.setup(other, storage_options=["dm.thinpooldev=/dev/mapper/docker-thinpool"]) as store:
        info = store.info()
    assert text_of(other) == made
    assert info.chunk_size == 512 << 10


def test_the_plan_is_what_setup_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed commands, run one by one, make the same group as the set-up."""
    file = disk(tmp_path / "disk", 40 * GIB)
    assert main(["setup", "direct-lvm", str(file), "--plan"]) == 0
    printed = capsys.readouterr().out
    assert not (tmp_path / "root").exists()
    assert not any(file.open("rb").read(MIB))
    script = "\n".join(line[2:] for line in printed.splitlines() if line.startswith("  "))
    assert main(["setup", "direct-lvm", str(file)]) == 0
    assert printed in capsys.readouterr().out
    made = text_of(tmp_path / "root")
    assert main(["teardown"]) == 0

    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("pvcreate", "vgcreate", "lvcreate", "lvconvert", "lvchange"):
        program = bare / name
        program.write_text(
            f"#!{shutil.which('python3')}\nimport sys\nsys.path[:0] = {os.sys.path!r}\n"
            f"from lamella.cli.lvm import main_lvm\nsys.exit(main_lvm({name!r}, sys.argv[1:]))\n"
        )
        program.chmod(0o755)
    folder = Path(os.environ["LVM_SYSTEM_DIR"]) / "profile"
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["sh", "-e"],
        input=script,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{bare}:{os.environ['PATH']}"},
    )
    with Store.setup(storage_options=["dm.thinpooldev=docker/thinpool"]):
        pass
    assert text_of(tmp_path / "root") == made


def test_info_has_the_lines_of_docker(tmp_path: Path) -> None:
    """``docker info`` on the same 40 GiB disk, save what the base device's file system takes."""
    file = disk(tmp_path / "d", 40 * GIB)
    with Store.setup(storage_options=[f"dm.directlvm_device={file}"]) as store:
        lines = store.info().lines()
    shown = dict(lines)
    assert [label for label, _ in lines] == [
        "Pool Name", "Pool Blocksize", "Base Device Size", "Backing Filesystem", "Udev Sync Supported",
        "Data Space Used", "Data Space Total", "Data Space Available", "Metadata Space Used",
        "Metadata Space Total", "Metadata Space Available", "Thin Pool Minimum Free Space",
        "Deferred Removal Enabled", "Deferred Deletion Enabled", "Deferred Deleted Device Count",
        "Library Version",
    ]  # fmt: skip
    for label, value in (
        ("Pool Name", "docker-thinpool"),
        ("Pool Blocksize", "524.3kB"),
        ("Base Device Size", "10.74GB"),
        ("Udev Sync Supported", "true"),
        ("Data Space Total", "40.8GB"),
        ("Metadata Space Used", "16.86MB"),
        ("Metadata Space Total", "427.8MB"),
        ("Metadata Space Available", "411MB"),
        ("Thin Pool Minimum Free Space", "4.079GB"),
        ("Deferred Removal Enabled", "true"),
        ("Deferred Deletion Enabled", "true"),
        ("Deferred Deleted Device Count", "0"),
    ):
        assert shown[label] == value
    space = os.statvfs(tmp_path)
    if space.f_bfree * space.f_frsize > 41 * GIB:
        assert store.warnings == []
    else:  # this machine is smaller than the disk may become
        assert [f"{file} is a sparse file" in text for text in store.warnings] == [True]


def test_all_settings(tmp_path: Path, lvm_folder: Path) -> None:
    file = disk(tmp_path / "disk", GIB)
    flags = {
        "--vg": "cargo", "--pool": "hold-1", "--data-percent": "60", "--metadata-percent": "5",
        "--chunk-size": "128K", "--autoextend-threshold": "70", "--autoextend-percent": "30", "--zero": "y",
    }  # fmt: skip
    words = [word for pair in flags.items() for word in pair]
    assert main(["setup", "direct-lvm", str(file), *words, "--storage-opt", "dm.basesize=64M"]) == 0
    made = text_of(tmp_path / "root", "cargo")
    assert "extent_count = 153" in made  # 60 % of 255
    assert "extent_count = 12" in made
    assert "chunk_size = 256" in made
    assert "zero_new_blocks = 1" in made
    # LVM's own folder is root's; others keep the profile with the store.
    home = lvm_folder if os.geteuid() == 0 else tmp_path / "root" / "lvm"
    profile = home / "profile/cargo-hold-1.profile"
    assert "threshold=70" in profile.read_text()
    assert "percent=30" in profile.read_text()
    with Store.open() as store:
        assert store.info().pool_name == "cargo-hold--1"
        store.teardown()
    assert not profile.exists()
    assert not (tmp_path / "root").exists()


# -- what stands in the way ----------------------------------------------------------------------


def refused(error: type[LamellaError], *options: str) -> LamellaError:
    with pytest.raises(error) as caught:
        Store.setup(mode="direct-lvm", storage_options=options)
    assert caught.value.hint
    assert not Store.exists()
    return caught.value


def test_disks_that_may_not_be_used(tmp_path: Path, tool: Callable[[str], str]) -> None:
    missing = f"dm.directlvm_device={tmp_path / 'none'}"
    refused(NotFoundError, missing)
    small = disk(tmp_path / "small", 2 * MIB)
    assert "too small" in refused(UsageError, f"dm.directlvm_device={small}").message
    little = disk(tmp_path / "little", 40 * MIB)
    assert "0 for metadata" in refused(UsageError, f"dm.directlvm_device={little}").message
    ext4 = disk(tmp_path / "ext4", 64 * MIB)
    subprocess.run([tool("mke2fs"), "-q", "-F", "-L", "precious", ext4], check=True)
    before = digest(ext4)
    error = refused(ExistsError, f"dm.directlvm_device={ext4}")
    assert "precious" in error.message
    assert "--force" in str(error.hint)
    good = disk(tmp_path / "good", 600 * MIB)
    empty = digest(good)
    twice = (f"dm.directlvm_device={good}", f"dm.directlvm_device={tmp_path}/./good")
    assert "given twice" in refused(UsageError, *twice).message
    refused(ExistsError, f"dm.directlvm_device={good}", f"dm.directlvm_device={ext4}")
    with FileDevice(good):
        assert "in use" in refused(BusyError, f"dm.directlvm_device={good}").message
    assert digest(ext4) == before
    assert digest(good) == empty
    # Forced, it is overwritten.
    big = disk(tmp_path / "big", 600 * MIB)
    subprocess.run([tool("mke2fs"), "-q", "-F", big], check=True)
    options = [f"dm.directlvm_device={big}", "dm.directlvm_device_force=true", "dm.basesize=64M"]
    with Store.setup(storage_options=options) as store:
        store.teardown()


def test_disks_of_other_groups_are_never_taken(tmp_path: Path) -> None:
    file = disk(tmp_path / "disk", 600 * MIB)
    lvm("vgcreate", "--devices", file, "other", file)
    before = digest(file)
    error = refused(BusyError, f"dm.directlvm_device={file}", "dm.directlvm_device_force=true")
    assert "belongs to a volume group" in error.message
    assert digest(file) == before


def test_another_group_of_the_same_name(tmp_path: Path) -> None:
    lvm("vgcreate", "docker", disk(tmp_path / "other", 64 * MIB))
    fresh = disk(tmp_path / "fresh", 600 * MIB)
    empty = digest(fresh)
    error = refused(ExistsError, f"dm.directlvm_device={fresh}")
    assert "there is a volume group docker already" in error.message
    assert digest(fresh) == empty


def test_disks_that_the_kernel_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounts, swap and holders, as the kernel's own files show them."""
    number = os.stat("/dev/null").st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    sys, proc = tmp_path / "sys", tmp_path / "proc"
    device = sys / "dev/block" / name
    for folder in (device / "queue", device / "holders/dm-3", device / "sdx1", sys / "block/dm-3/dm"):
        folder.mkdir(parents=True)
    (sys / "block/dm-3/dm/name").write_text("vg-root\n")
    for place, text in (
        ("queue/rotational", "1"), ("queue/discard_max_bytes", "0"), ("queue/logical_block_size", "512"),
        ("queue/physical_block_size", "4096"), ("alignment_offset", "512"), ("sdx1/partition", "1"),
        ("sdx1/dev", "8:77"),
    ):  # fmt: skip
        (device / place).write_text(text)
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(
        f"1 1 {name} / /mnt rw - ext4 x rw\n2 1 8:77 / /boot rw - ext4 x rw\n"
    )
    (proc / "swaps").write_text("Filename\n/dev/null partition 1 0 -2\n")
    monkeypatch.setattr(preflight, "SYS", sys)
    monkeypatch.setattr(preflight, "PROC", proc)
    report = preflight.DiskReport("/dev/null", "file", GIB)
    preflight._look_at_device(report, number)
    assert report.kind == "disk"
    assert report.rotational is True
    assert report.discards is False
    assert report.sectors == (512, 4096)
    assert "512 bytes off" in report.line()
    assert report.users == [
        "it has the partition sdx1", "sdx1: mounted on /boot", "held by vg-root", "mounted on /mnt", "swap",
    ]  # fmt: skip
    with pytest.raises(BusyError, match="mounted on /mnt"):
        preflight.check([report], force=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "must provide device path in `dm.directlvm_device`"),
        (["dm.directlvm_device=x", "dm.thinp_percent=50"], "must set both `dm.thinp_percent`"),
        (["dm.directlvm_device=x", "dm.thinp_percent=99", "dm.thinp_metapercent=2"], "greater than 100"),
        (["dm.directlvm_device=x", "dm.thinp_percent=100"], "less than 100"),
        (["dm.directlvm_device=x", "dm.thinp_autoextend_threshold=101"], "less than 101"),
        (["dm.directlvm_device=x", "dm.thinp_percent=x"], "could not parse `dm.thinp_percent=x`"),
        (["dm.directlvm_device=x", "lamella.vg=a/b"], "character other than"),
        (["dm.directlvm_device=x", "lamella.pool=a_tdata"], "reserved"),
        (["dm.directlvm_device=x", "dm.thinpooldev=a/b"], "dm.thinpooldev takes over a pool"),
        (["dm.thinpooldev=justone"], "names no thin pool"),
        (["dm.thinpooldev=a-b-c"], "names no thin pool"),
    ],
)
def test_options_that_make_no_sense(options: list[str], words: str) -> None:
    assert words in refused(UsageError, *options).message


def digests(root: Path) -> list[str]:
    """What is on the store's disks, in short."""
    return [digest(path) for path in disks_of(root)]


def test_an_active_group_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the user engine. With the kernel's engine the group is active; else ``/sys`` says that it is."""
    root = tmp_path / "root"
    set_up(root, "direct-lvm").close()
    if not KERNEL:
        pretend_that_it_is_active(root, tmp_path, monkeypatch)
    before = digests(root)
    with Store.open(root, engine="user") as store:
        for action in (store.info, store.teardown):
            with pytest.raises(BusyError, match="active in the kernel"):
                action()
    assert digests(root) == before


def pretend_that_it_is_active(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((root / "direct-lvm.json").read_text())
    sys_block = tmp_path / "sys"
    kernel = sys_block / "dm-0/dm"
    kernel.mkdir(parents=True)
    (kernel / "name").write_text("docker-thinpool\n")
    (kernel / "uuid").write_text(f"LVM-{record['group_uuid'].replace('-', '')}{'x' * 32}-tpool\n")
    plain = Disks.environment.func  # type: ignore[attr-defined]  # a cached_property

    def with_kernel(self: Disks) -> object:
        environment = plain(self)
        environment.sys_block = sys_block
        return environment

    monkeypatch.setattr(Disks, "environment", property(with_kernel))


# -- taking over -------------------------------------------------------------------------------------


def test_taking_over_a_used_pool_is_refused_in_dockers_words(tmp_path: Path, lvm_folder: Path) -> None:
    root = tmp_path / "root"
    by_hand(lvm_folder, disk(tmp_path / "disk", GIB))
    taken = ["dm.thinpooldev=docker-thinpool", "dm.basesize=64M"]
    Store.setup(storage_options=taken).close()
    with pool_devices(root) as devices, lamella.Pool.open(devices.metadata, devices.data) as pool:
        assert pool.transaction_id == 1
        pool.set_transaction_id(1, 0)
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


def test_taking_over_gives_back_what_it_took(tmp_path: Path, lvm_folder: Path) -> None:
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


# -- again, and after a cut ----------------------------------------------------------------------


def test_setting_up_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    set_up(root, "direct-lvm").close()
    before, config = text_of(root), (root / "config.toml").read_text()
    set_up(root, "direct-lvm").close()
    Store.setup(root).close()
    Store.setup(root, mode="direct-lvm").close()
    assert text_of(root) == before
    for option, words in (
        ("dm.thinp_percent=90", "another share of data: 80, not 90"),
        ("dm.thinp_autoextend_percent=30", "another autoextend percent: 20, not 30"),
        (f"dm.directlvm_device={tmp_path / 'x'}", "another disks"),
        ("lamella.vg=else", "another volume group: docker, not else"),
        ("lamella.zero=true", "another zeroing"),
        ("dm.thinpooldev=docker/thinpool", "another pool"),
        ("dm.blocksize=128K", "block size of 65536 bytes"),
    ):
        with pytest.raises((ExistsError, UsageError), match=words):
            Store.setup(root, storage_options=[option])
    with pytest.raises(ExistsError, match="set up as direct-lvm, not as loop-lvm"):
        Store.setup(root, mode="loop-lvm")
    assert (root / "config.toml").read_text() == config
    assert_sound(root)


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


def cut_off(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object], at: int, keep: int) -> bool:
    """Run *action* in a process that dies at the *at*-th write; whether it came that far."""
    child = os.fork()
    if not child:
        try:
            opener = _Cut(at, keep).open
            monkeypatch.setattr("lamella.driver.backends._direct_lvm", None)
            from lamella.driver import backends

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
            done = not cut_off(monkeypatch, lambda root=root: set_up(root, "direct-lvm").close(), at, keep)
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
        at += 3 if KERNEL else 1 if at < 70 else 17
    assert cuts > (20 if KERNEL else 100)


@pytest.mark.slow
def test_power_cuts_in_teardown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, done = 1, False
    while not done:
        root = tmp_path / f"root{at}"
        monkeypatch.setenv("LAMELLA_ROOT", str(root))
        set_up(root, "direct-lvm").close()
        done = not cut_off(monkeypatch, lambda root=root: Store.open(root).teardown(), at, at % 3)
        if not done:
            assert Store.open(root).teardown(force=True) == []
        assert not root.exists()
        for path in disks_of(root):
            with FileDevice(path) as device:
                assert b"LABELONE" not in device.read(0, 4096)
        at += 1
    assert at > 10


def test_an_unfinished_set_up_can_be_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    options_for("direct-lvm", root)
    assert cut_off(monkeypatch, lambda: set_up(root, "direct-lvm"), 30, 1)
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


# -- a pool and no store ------------------------------------------------------------------------------


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
    with pytest.raises(BusyError, match="was removed meanwhile"):
        Store.setup(tmp_path / "other", mode="loop-lvm", storage_options=SMALL, engine="user")
    assert [path.name for path in (tmp_path / "other").rglob("*")] == ["run", "lock"]


# -- another pool under the store ---------------------------------------------------------------------


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
        assert "the volume group docker was made anew" in str(caught.value.hint)
        assert "lamella teardown --force" in str(caught.value.hint)
    with Store.open(root) as store:
        left = store.teardown(force=True)
    assert all("which set-up did not make" in line or "is not there" in line for line in left)
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


# -- growing -----------------------------------------------------------------------------------------


@pytest.mark.direct_lvm
def test_growing_while_it_holds_data(root: Path, tmp_path: Path) -> None:
    os.environ["LAMELLA_ROOT"] = str(root)
    before = state_of(root)
    more = disk(tmp_path / "third", 320 * MIB)
    if KERNEL:
        with Store.open(root) as store:
            store.activate()
    lvm("vgextend", "docker", more)
    lvm("lvextend", "-L", "+200M", "docker/thinpool")
    lvm("lvextend", "--poolmetadatasize", "+8M", "docker/thinpool")
    with Store.open(root, read_only=True) as store:
        info = store.info()
        if KERNEL:
            assert (info.data_total, info.metadata_total) == (456 * MIB, 12 * MIB)
        else:
            assert any("has been grown" in warning for warning in info.warnings)
    assert state_of(root) == before
    Store.setup(root, storage_options=["dm.min_free_space=10%"]).close()
    with Store.open(root) as store:
        info = store.info()
        assert info.data_total == 456 * MIB
        assert info.metadata_total == 12 * MIB
        assert info.min_free == 456 * MIB * 10 // 100 // 65536 * 65536
        store.create("sample", name="after")
        with store.devices.volume(store.inspect("after")["Id"], read_only=False) as volume:
            volume.write(0 + volume.size - MIB, b"x" * MIB)
    assert_sound(root)
    assert_sound_for_real_tools(root, tmp_path)
    with Store.open(root) as store:
        assert store.teardown(force=True) == []
    assert b"LABELONE" in more.open("rb").read(4096)  # pvcreate by hand, so pvremove by hand


@pytest.mark.direct_lvm
def test_a_larger_disk(root: Path) -> None:
    """A file that has grown, while the kernel has the pool on it, in its engine."""
    os.environ["LAMELLA_ROOT"] = str(root)
    with Store.open(root) as store:
        before = store.info().data_total
    file = disks_of(root)[1]
    os.truncate(file, 320 * MIB)
    lvm("pvresize", file)
    assert main(["grow", "--root", str(root), "--data", "+100M"]) == 0
    with Store.open(root) as store:
        assert store.info().data_total == before + 100 * MIB
        assert store.create("sample")
    assert_sound(root)


def test_growing_by_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    with set_up(root, "direct-lvm", "dm.basesize=256M") as store:
        total = store.info().data_total
        with store.devices.volume("base", read_only=False) as volume:
            for offset in range(8 * MIB, 250 * MIB, MIB):
                volume.write(offset, b"\xa5" * MIB)
    monkeypatch.setenv("LAMELLA_ROOT", str(root))
    lvm("lvextend", "--use-policies", "docker/thinpool")
    with Store.open(root) as store:
        store.devices.check_free_space()
        assert store.info().data_total == -(-total * 120 // 100 // (4 * MIB)) * 4 * MIB
    with Store.open(root) as store:
        again = store.info().data_total
    lvm("lvextend", "--use-policies", "docker/thinpool")
    with Store.open(root) as store:
        assert store.info().data_total == again


# -- the real LVM2 -----------------------------------------------------------------------------------


def test_lvm2_accepts_the_group(tmp_path: Path, tool: Callable[[str], str]) -> None:
    program = tool("lvm")
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    root, file = tmp_path / "root", disk(tmp_path / "disk", 40 * GIB)
    Store.setup(root, mode="direct-lvm", storage_options=[f"dm.directlvm_device={file}"]).close()
    done = subprocess.run(
        [tool("losetup"), "-f", "--show", file], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("no loop device can be set up here")
    loop = done.stdout.strip()
    try:
        config = (
            f'global{{activation=0}} devices{{filter=["a|^{loop}$|","r|.*|"] use_devicesfile=0 '
            'hints="none"} backup{backup=0 archive=0}'
        )

        def real(*words: str) -> str:
            command = [program, words[0], "--config", config, *words[1:]]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        real("vgck", "docker")
        real("pvck", loop)
        rows = json.loads(
            real("lvs", "-a", "--reportformat", "json", "--units", "m", "-o",
                 "lv_name,lv_size,seg_pe_ranges,chunk_size,transaction_id,zero,lv_profile,discards")
        )["report"][0]["lv"]  # fmt: skip
        found = {row["lv_name"]: row for row in rows}
        assert [(name, row["lv_size"], row["seg_pe_ranges"]) for name, row in sorted(found.items())] == [
            ("[lvol0_pmspare]", "408.00m", f"{loop}:9829-9930"),
            ("[thinpool_tdata]", "38908.00m", f"{loop}:0-9726"),
            ("[thinpool_tmeta]", "408.00m", f"{loop}:9727-9828"),
            ("thinpool", "38908.00m", "thinpool_tdata:0-9726"),
        ]
        pool = found["thinpool"]
        assert (pool["chunk_size"], pool["transaction_id"], pool["zero"]) == ("0.50m", "0", "")
        assert (pool["lv_profile"], pool["discards"]) == ("docker-thinpool", "passdown")
        vg = json.loads(real("vgs", "--reportformat", "json", "-o", "vg_extent_count,vg_seqno,lv_count"))
        assert vg["report"][0]["vg"] == [{"vg_extent_count": "10239", "vg_seqno": "6", "lv_count": "1"}]
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


# -- the map -----------------------------------------------------------------------------------------


def test_the_map(store: Store, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    store.create("sample", name="web")
    roots = store.map()
    seen: dict[str, set[str]] = {}

    def walk(node: object, depth: int = 0) -> None:
        assert depth < 20
        assert isinstance(node, lamella.driver.topology.Node)
        seen.setdefault(node.kind, set()).add(node.name)
        assert node.used is None or 0 <= node.used <= max(node.size, node.used * (node.kind == "file"))
        for child in node.children:
            walk(child, depth + 1)

    for each in roots:
        walk(each)
    assert seen["container"] == {"web"}
    assert seen["image"] == {"sample:latest"}
    assert seen["base"] == {"base"}
    if mode == "direct-lvm":
        assert seen["disk"] == set(map(str, disks_of(store.root)))
        assert seen["lv"] == {"docker/thinpool_tdata", "docker/thinpool_tmeta", "docker/lvol0_pmspare"}
        assert seen["pool"] == {"docker-thinpool"}
    else:
        assert seen["file"] == {str(store.root / "pool/data"), str(store.root / "pool/metadata")}
    root = str(store.root)
    store.close()
    assert main(["--root", root, "map", "--tree"]) == 0
    tree = capsys.readouterr().out
    assert "└─web" in tree
    assert tree.count("└─web") == 1
    assert "as above" in tree
    assert main(["--root", root, "map", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["children"]
    assert main(["--root", root, "map"]) == 0
    assert "─" not in capsys.readouterr().out
