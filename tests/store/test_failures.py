# SPDX-License-Identifier: Apache-2.0
"""Damage, missing libraries and other users: one clear error each, and the store as before."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BusyError, CorruptError, LamellaError, MissingError, UnsupportedError
from lamella.fs.ext4 import library
from lamella.store import Store
from tests.support.images import Sample, make_tar, write_oci_layout
from tests.support.stores import SMALL, fails, files_of, pool_devices

if TYPE_CHECKING:
    from pathlib import Path


def test_two_commands_at_once(unchanged: Path) -> None:
    with Store.open(unchanged):
        code = "import sys; from lamella.cli.main import main; sys.exit(main(sys.argv[1:]))"
        for command in (["create", "sample"], ["images"]):
            done = subprocess.run(
                [sys.executable, "-c", code, "--root", unchanged, *command],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == BusyError.exit_code
            assert f"process {os.getpid()} (" in done.stderr
    with Store.open(unchanged, read_only=True), Store.open(unchanged, read_only=True) as second:
        assert second.info().images == 1
        with pytest.raises(BusyError):
            Store.open(unchanged)


def test_another_program_has_the_pool_open(unchanged: Path) -> None:
    from lamella.block import FileDevice

    file = files_of(unchanged)[0]
    with FileDevice(file):
        error = fails(unchanged, BusyError, lambda store: store.create("sample"))
    assert f"{file} is in use by another program" in error.message


def test_a_missing_libext2fs(unchanged: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> object:
        raise MissingError("cannot load libext2fs.so.2", hint="apt install libext2fs2")

    layout = write_oci_layout(tmp_path / "new", [Sample(layers=[make_tar({"x": b""})])])
    monkeypatch.setattr(library, "load", missing)
    for action in (lambda store: store.load(layout), lambda store: store.create("sample", size=128 << 20)):
        error = fails(unchanged, MissingError, action)
        assert "libext2fs" in error.message
    with pytest.raises(MissingError):
        Store.setup(tmp_path / "fresh", storage_options=SMALL)
    assert not Store.exists(tmp_path / "fresh")


@pytest.mark.parametrize("name", ["metadata", "data"])
@pytest.mark.parametrize("size", [0, 4096, 1 << 20])
def test_a_truncated_pool(root: Path, name: str, size: int) -> None:
    metadata, data = files_of(root)
    name = (metadata if name == "metadata" else data).name
    os.truncate(root / "pool" / name if metadata.name == "metadata" else root.with_name(name), size)
    with Store.open(root) as store:
        for action in (store.info, lambda: store.create("sample"), store.df):
            with pytest.raises(LamellaError) as caught:
                action()
            assert name in caught.value.message or "docker" in caught.value.message
        assert store.check().problems


@pytest.mark.parametrize("block", range(0, 30, 3))
def test_damaged_metadata_is_found(root: Path, block: int) -> None:
    with pool_devices(root) as devices:
        was = devices.metadata.read(block * 4096 + 100, 200)
        devices.metadata.write(block * 4096 + 100, os.urandom(200))
        devices.metadata.flush()
        before = devices.metadata.read(0, devices.metadata.size)
    with Store.open(root, read_only=True) as store:
        report = store.check()
        if any(was):
            assert report.problems
        for action in (store.info, store.df, store.images):
            with suppress(CorruptError, UnsupportedError):
                action()
    with pool_devices(root, read_only=True) as devices:
        after = devices.metadata.read(0, devices.metadata.size)
    assert [
        at // 4096 for at in range(0, len(after), 4096) if after[at : at + 4096] != before[at : at + 4096]
    ] == []


@pytest.mark.remote
def test_a_damaged_file_system_is_found(root: Path) -> None:
    with Store.open(root) as store:
        made = store.create("sample")
        with store.devices.volume(made.id, read_only=False) as volume:
            volume.write(1024 + 60, b"garbage")
        problems = store.check().problems
    assert len(problems) == 1
    assert problems[0].startswith(f"container {made.name}: the superblock of the ext4 file system")


def test_a_damaged_tar_split_is_found_when_saving(root: Path) -> None:
    with Store.open(root) as store:
        with store.devices.state.transaction() as database:
            database.execute("UPDATE tar_split SET data = zeroblob(length(data))")
        out = io.BytesIO()
        with pytest.raises(CorruptError):
            store.save(["sample"], out)
        with store.devices.state.transaction() as database:
            database.execute("DELETE FROM tar_split")
        with pytest.raises(CorruptError, match="no complete tar-split record"):
            store.save(["sample"], out)


def test_a_changed_file_is_found_when_saving(root: Path, tmp_path: Path) -> None:
    with Store.open(root) as store:
        device = store.inspect("sample")["GraphDriver"]["Data"]["DeviceName"].rpartition("-")[2]
        with store.devices.volume(device, read_only=False) as volume:
            from lamella.fs.entry import Entry, Kind
            from lamella.fs.ext4.tree import Tree

            with Tree.open(volume) as tree:
                tree.put(Entry(b"new/other", Kind.FILE, 0o644))
        with pytest.raises(CorruptError, match="new/other"):
            store.save(["sample"], tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()
