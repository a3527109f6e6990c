# SPDX-License-Identifier: Apache-2.0
"""Setting a store up, again, wrongly, and taking it down."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import lamella
from lamella.block import FileDevice
from lamella.driver import engines
from lamella.driver.device_set import DeviceSet
from lamella.driver.loop_lvm.backend import LoopLvm
from lamella.errors import (
    BusyError,
    CorruptError,
    ExistsError,
    NotFoundError,
    ReadOnlyError,
    UnsupportedError,
    UsageError,
)
from lamella.store import Store
from tests.support.stores import (
    SMALL,
    allocated,
    assert_sound,
    assert_sound_for_real_tools,
    files_of,
    options_for,
    pool_devices,
    set_up,
    take_down,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_fresh_store_costs_next_to_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with Store.setup(root) as store:
        info = store.info()
        assert info.base_size == 10 << 30
        assert info.data_total == 100 << 30
        assert info.data_used < 2 << 20  # Docker's own takes 68 MB
    blocks = sum(path.stat().st_blocks * 512 for path in root.rglob("*") if path.is_file())
    assert blocks < 8 << 20
    assert oct(root.stat().st_mode & 0o777) == "0o700"
    assert_sound(root)
    assert_sound_for_real_tools(root, tmp_path)


def test_setting_up_again_changes_nothing(empty_root: Path) -> None:
    before = (empty_root / "config.toml").read_text()
    with Store.setup(empty_root) as store:
        assert store.info().base_size == 64 << 20
    assert (empty_root / "config.toml").read_text() == before


@pytest.mark.loop_lvm
def test_growing_by_setting_up_again(root: Path, tmp_path: Path) -> None:
    with Store.setup(
        root, storage_options=["dm.basesize=128M", "dm.loopdatasize=512M", "dm.loopmetadatasize=8M"]
    ) as store:
        info = store.info()
        assert (info.base_size, info.data_total, info.metadata_total) == (128 << 20, 512 << 20, 8 << 20)
        # As with Docker, what exists keeps its size, and what comes new gets the new one.
        assert store.create("sample").size == 64 << 20
    with Store.open(root) as store:
        assert store.info().data_total == 512 << 20
    assert_sound(root)
    assert_sound_for_real_tools(root, tmp_path)


def test_what_cannot_shrink(root: Path) -> None:
    with pytest.raises(UsageError, match=r"devmapper: Base device size cannot be smaller than 67\.11MB"):
        Store.setup(root, storage_options=["dm.basesize=32M"])


@pytest.mark.loop_lvm
def test_loop_files_cannot_shrink(root: Path) -> None:
    with Store.setup(root, storage_options=["dm.loopdatasize=128M"]) as store:
        assert any("Can't shrink loopback file" in warning for warning in store.warnings)
        assert store.info().data_total == 256 << 20


def test_what_cannot_change(root: Path) -> None:
    with pytest.raises(ExistsError, match="block size of 65536 bytes"):
        Store.setup(root, storage_options=["dm.blocksize=128K"])
    with pytest.raises(UsageError, match="no mode"):
        Store.setup(root, mode="magic")
    with Store.setup(root, storage_options=["dm.mkfsarg=-Ndots"]) as store:
        assert any("dm.mkfsarg will be ignored" in warning for warning in store.warnings)


def test_behaviour_may_change(root: Path) -> None:
    Store.setup(root, storage_options=["dm.min_free_space=50%", "dm.use_deferred_removal=false"]).close()
    with Store.open(root, read_only=True) as store:
        info = store.info()
        assert info.min_free == 128 << 20
        assert not info.deferred_deletion


def test_another_file_system_is_ignored_in_dockers_words(root: Path) -> None:
    with Store.setup(root, storage_options=["dm.fs=xfs"]) as store:
        assert any("already exists and has filesystem ext4 on it" in text for text in store.warnings)
        assert store.info().filesystem == "ext4"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["dm.fs=xfs"], marks=pytest.mark.user_engine),  # the kernel's engine has XFS
        ["dm.fs=btrfs"],
        ["dm.datadev=/dev/x"],
        ["dm.what=1"],
    ],
)
def test_bad_options_make_nothing(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises((UsageError, UnsupportedError)):
        Store.setup(tmp_path / "root", storage_options=options)
    assert not (tmp_path / "root").exists()


def test_bad_mkfs_arguments_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Store.setup(tmp_path / "root", storage_options=[*SMALL, "dm.mkfsarg=--nonsense"])
    assert not Store.exists(tmp_path / "root")
    Store.setup(tmp_path / "root", storage_options=SMALL).close()


def test_what_could_not_be_undone_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set-up that failed, and whose pool could not be taken away either, still knows that it is one."""

    def refuse(backend: LoopLvm) -> None:
        if backend.exists():
            raise BusyError("somebody looks at it")

    with monkeypatch.context() as patch:
        patch.setattr(LoopLvm, "remove", refuse)
        with pytest.raises(UsageError):
            Store.setup(tmp_path / "root", storage_options=[*SMALL, "dm.mkfsarg=--nonsense"])
    with pytest.raises(NotFoundError, match="not finished"):
        Store.open(tmp_path / "root")
    assert Store.abandon(tmp_path / "root") == []
    assert not (tmp_path / "root").exists()
    with monkeypatch.context() as patch:
        patch.setattr(LoopLvm, "remove", refuse)
        with pytest.raises(UsageError):
            Store.setup(tmp_path / "root", storage_options=[*SMALL, "dm.mkfsarg=--nonsense"])
    Store.setup(tmp_path / "root", storage_options=[*SMALL, "dm.mkfsarg=-q"]).close()
    assert_sound(tmp_path / "root")


def test_mkfs_arguments_reach_the_file_system(tmp_path: Path) -> None:
    with (
        Store.setup(tmp_path / "root", storage_options=[*SMALL, "dm.mkfsarg=-b", "dm.mkfsarg=1024"]) as store,
        store.devices.volume("base") as volume,
    ):
        assert volume.read(1024 + 24, 4) == b"\0\0\0\0"  # s_log_block_size


@pytest.mark.parametrize("moment", ["verify", "pool", "files"])
def test_an_interrupted_set_up_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    root = tmp_path / "root"

    def die(*_: object, **__: object) -> None:
        # Leave everything as it lies, as a killed process does: os._exit in a fork.
        os._exit(9)

    place = {
        "verify": (DeviceSet, "_create_base"),
        "pool": (lamella.Pool, "create"),
        "files": (FileDevice, "create"),
    }[moment]
    child = os.fork()
    if not child:
        try:
            monkeypatch.setattr(*place, die)
            Store.setup(root, storage_options=SMALL)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] >> 8 == 9
    with pytest.raises(NotFoundError, match="not finished"):
        Store.open(root)
    Store.setup(root, storage_options=SMALL).close()
    assert_sound(root)


@pytest.mark.parametrize("read_only", [False, True])
def test_no_store(tmp_path: Path, read_only: bool) -> None:
    with pytest.raises(NotFoundError, match="there is no store in") as caught:
        Store.open(tmp_path / "nowhere", read_only=read_only)
    assert "lamella setup" in str(caught.value.hint)
    assert not (tmp_path / "nowhere").exists()


def test_engines(root: Path) -> None:
    Store.open(root, read_only=True, engine="user").close()
    with pytest.raises(UsageError, match="no engine 'steam'"):
        Store.open(root, engine="steam")


def test_the_engine_is_what_was_asked_for_or_set_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "kernel_can", lambda: True)
    monkeypatch.setattr(engines, "check_kernel", lambda: None)
    monkeypatch.delenv("LAMELLA_ENGINE", raising=False)

    def chosen(engine: str = "auto") -> str:
        with Store.open(root, read_only=True, engine=engine) as store:
            return store.engine

    assert [chosen(), chosen("user"), chosen("kernel")] == ["kernel", "user", "kernel"]
    monkeypatch.setenv("LAMELLA_ENGINE", "user")
    assert [chosen(), chosen("kernel")] == ["user", "kernel"]
    monkeypatch.delenv("LAMELLA_ENGINE")
    Store.setup(root, engine="user").close()
    assert [chosen(), chosen("kernel")] == ["user", "kernel"]
    monkeypatch.setenv("LAMELLA_ENGINE", "steam")
    with pytest.raises(UsageError, match="LAMELLA_ENGINE"):
        chosen()


def test_without_device_mapper_there_is_the_user_engine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "kernel_can", lambda: False)
    monkeypatch.delenv("LAMELLA_ENGINE", raising=False)
    with Store.open(root, read_only=True) as store:
        assert store.engine == "user"


def test_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAMELLA_ROOT", str(tmp_path / "here"))
    assert Store.default_root() == tmp_path / "here"
    monkeypatch.delenv("LAMELLA_ROOT")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert str(Store.default_root()) == "/var/lib/lamella"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Store.default_root() == tmp_path / "lamella"
    for name in ("XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", dict[int, object]().__getitem__)  # a user without an entry
    with pytest.raises(UsageError, match="no home directory"):
        Store.default_root()


def test_misuse_is_no_damage(root: Path) -> None:
    """A store that is closed, or is another thread's, is said to be that, and not to be corrupt."""
    with Store.open(root) as store, ThreadPoolExecutor(1) as other:
        with pytest.raises(UsageError, match="thread"):
            other.submit(store.images).result()
        assert store.images()
    with pytest.raises(UsageError, match="closed"):
        store.images()


def test_teardown_removes_what_set_up_made_and_nothing_else(root: Path) -> None:
    (root / "mine").write_text("keep")
    with Store.open(root) as store, pytest.raises(BusyError, match="holds 1 images and 0 containers"):
        store.teardown()
    assert_sound(root)
    Store.open(root).teardown(force=True)
    assert sorted(path.name for path in root.iterdir()) == ["mine"]


def test_teardown_of_an_empty_store(empty_root: Path) -> None:
    store = Store.open(empty_root)
    store.teardown()
    store.close()
    assert not empty_root.exists()


@pytest.mark.loop_lvm
def test_teardown_of_a_broken_store(root: Path) -> None:
    (root / "pool/metadata").unlink()
    with Store.open(root, read_only=True) as store, pytest.raises(NotFoundError, match="metadata is missing"):
        store.info()
    Store.open(root).teardown(force=True)
    assert not root.exists()


@pytest.mark.parametrize("name", ["config.toml", "state.db"])
def test_a_lost_record_never_costs_the_pool(root: Path, mode: str, name: str) -> None:
    before = allocated(root)
    (root / name).unlink()
    with pytest.raises((CorruptError, ExistsError, UsageError), match="missing"):
        Store.setup(root, mode=mode, storage_options=options_for(mode, root))
    with pytest.raises(NotFoundError if name == "config.toml" else CorruptError):
        Store.open(root)
    assert allocated(root) == before


@pytest.mark.parametrize(
    "content", [b"mode = ", b"\xff\xfe", b"version = 1", b"version = 1\nmode = 3\n", b"version = 'x'"]
)
def test_a_damaged_config(root: Path, content: bytes) -> None:
    (root / "config.toml").write_bytes(content)
    with pytest.raises(CorruptError, match=r"config\.toml"):
        Store.open(root)


def test_a_newer_config(root: Path) -> None:
    (root / "config.toml").write_text('version = 9\nmode = "loop-lvm"\n')
    with pytest.raises(UnsupportedError, match="version 9"):
        Store.open(root)


def test_a_different_pool_is_refused_in_dockers_words(root: Path, tmp_path: Path, mode: str) -> None:
    other = tmp_path / "other"
    set_up(other, mode).close()
    take_down(other)
    for theirs, ours in zip(files_of(other), files_of(root), strict=True):
        subprocess.run(["cp", "--sparse=always", theirs, ours], check=True)
    with Store.open(root) as store, pytest.raises(CorruptError) as caught:
        store.info()
    assert caught.value.message.startswith(
        "devmapper: Base Device UUID and Filesystem verification failed: devmapper: Current Base Device UUID:"
    )
    assert "does not match with stored UUID:" in caught.value.message
    assert caught.value.message.endswith("Possibly using a different thin pool than last invocation")
    assert "lamella teardown --force" in str(caught.value.hint)


def test_an_empty_pool_under_an_old_record_is_refused_in_dockers_words(root: Path) -> None:
    with pool_devices(root) as devices:
        devices.metadata.write_zeros(0, devices.metadata.size)
        lamella.Pool.create(devices.metadata, devices.data, chunk_size=65536).close()
    with Store.open(root, read_only=True) as store:
        with pytest.raises(CorruptError) as caught:
            store.info()
        report = store.check()
    assert caught.value.message == (
        "devmapper: Base Device UUID and Filesystem verification failed: "
        "devicemapper: Error running deviceCreate (ActivateDevice) dm_task_run failed"
    )
    assert "the right ones back" in str(caught.value.hint)
    assert report.problems[0] == caught.value.message


def test_a_lost_superblock_is_refused_with_its_repair(root: Path) -> None:
    """The rest of the metadata is there: it is no other pool, and nothing formats it."""
    with pool_devices(root) as devices:
        devices.metadata.write_zeros(0, 4096)
        before = devices.metadata.read(0, 1 << 20)
    with Store.open(root, read_only=True) as store, pytest.raises(CorruptError) as caught:
        store.info()
    assert "begins with zeros" in caught.value.message
    assert "lamella repair" in str(caught.value.hint)
    with pool_devices(root) as devices:
        assert devices.metadata.read(0, 1 << 20) == before


def test_a_pool_at_another_transaction_is_refused(root: Path) -> None:
    with pool_devices(root) as devices, lamella.Pool.open(devices.metadata, devices.data) as pool:
        pool.set_transaction_id(pool.transaction_id, 99)
    with Store.open(root) as store, pytest.raises(CorruptError, match="the pool is at transaction 99"):
        store.create("sample")


def test_unknown_devices_in_the_pool_are_reported_and_left_alone(root: Path) -> None:
    with pool_devices(root) as devices, lamella.Pool.open(devices.metadata, devices.data) as pool:
        pool.create_thin(77)
    with Store.open(root) as store:
        assert any("thin device 77" in problem for problem in store.check().problems)
        store.create("sample")
        assert 77 in store.devices.pool.devices()


def test_a_lost_device_is_reported(root: Path) -> None:
    with Store.open(root) as store:
        made = store.create("sample")
        number = int(store.inspect(made.id)["GraphDriver"]["Data"]["DeviceId"])
    with pool_devices(root) as devices, lamella.Pool.open(devices.metadata, devices.data) as pool:
        pool.delete(number)
    with Store.open(root, read_only=True) as store:
        assert any(
            f"thin device {number} is not in the pool" in problem for problem in store.check().problems
        )


def test_a_store_open_for_reading_is_not_written(root: Path) -> None:
    with Store.open(root, read_only=True) as store:
        for change in (
            lambda: store.create("sample"),
            lambda: store.remove_image("sample"),
            lambda: store.tag("sample", "other"),
            lambda: store.load(root),
            lambda: store.pull("sample"),
            lambda: store.copy_in("x", "y", b"/"),
            lambda: store.commit("x"),
            lambda: store.remove_container("x"),
            store.teardown,
        ):
            with pytest.raises(ReadOnlyError):
                change()


def test_importing_lamella_is_light() -> None:
    code = (
        "import sys, lamella, lamella.store, lamella.cli.main\n"
        "assert not {'numpy', 'urllib3', 'zstandard', 'ctypes.util'} & set(sys.modules), sys.modules.keys()\n"
        "lamella.Pool, lamella.Volume, lamella.Store\n"
        "assert 'numpy' in sys.modules\n"
    )
    subprocess.run([os.sys.executable, "-c", code], check=True)
