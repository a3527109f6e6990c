# SPDX-License-Identifier: Apache-2.0
"""The file systems in the devices of real Docker's stores: every file as the kernel saw it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scripts.docker_stores import recipes
from scripts.guest.machine import boot

from lamella.block import FileDevice
from lamella.errors import NotFoundError
from lamella.fs.difference import list_changes
from lamella.fs.ext4.journal import recover_journal
from lamella.fs.ext4.reader import Reader
from lamella.fs.kinds import of_kind
from tests.fs import manifests
from tests.support.docker_stores import copy_sparse

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.docker_stores import DockerStore, DockerStores

EXT4 = of_kind("ext4")
SCRIPT = 'python3 -m tests.fs.trees_in_guest "${GUEST_DISKS}b"\n'
SLOT = 1 << 29
"""Bytes between the devices on a disk for the guest."""


def mounted_when_killed(store: DockerStore) -> set[int]:
    """The devices of containers that ran when Docker was killed."""
    if store.state != "killed":
        return set()
    kept = [json.loads(path.read_text()) for path in store.docker.glob("containers/*/config.v2.json")]
    running = {store.device_name(container["ID"]) for container in kept if container["State"]["Running"]}
    assert running
    return {number for number in store.devices if store.name(number) in running}


@pytest.mark.slow
@pytest.mark.parametrize("state", recipes.STATES)
@pytest.mark.parametrize("mode", recipes.MODES)
def test_ext4(
    mode: str, state: str, docker_store: DockerStores, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Where a journal waits it is replayed first, in a copy."""
    store = docker_store(mode, "ext4", state)
    waiting = set()
    with store.pool() as pool:
        for number in sorted({*store.devices} - {*store.file_systems}):
            with (
                pool.open_volume(number, store.size(number), read_only=True) as volume,
                pytest.raises(NotFoundError),
            ):
                EXT4.condition(volume)
        for number in store.file_systems:
            with pool.open_volume(number, store.size(number), read_only=True) as volume:
                condition = EXT4.condition(volume)
                assert condition.uuid == store.uuid(number)
                if condition.needs_recovery:
                    waiting.add(number)
                    copy_sparse(volume, tmp_path / "copy")
                    with FileDevice(tmp_path / "copy") as copy:
                        assert recover_journal(copy) > 0 or state == "full"
                        rows = manifests.read(Reader.open(copy))
                    if not condition.errors:
                        subprocess.run([tool("e2fsck"), "-fn", str(tmp_path / "copy")], check=True)
                    (tmp_path / "copy").unlink()
                else:
                    rows = manifests.read(Reader.open(volume))
            assert rows == manifests.recorded(store.manifest(number)), number
    check_waiting(store, waiting)


def check_waiting(store: DockerStore, waiting: set[int]) -> None:
    """A log waits where a container was killed at work; or where the pool had no room for the log's end."""
    if store.state == "full":
        assert waiting <= {store.devices[-1]}
    else:
        assert waiting == mounted_when_killed(store)


Trees = dict[str, tuple[bool, str, dict[str, Any]]]


@pytest.fixture(scope="module")
def xfs_trees(docker_store: DockerStores) -> Trees:
    """By store and device, of the youngest devices of each store: whether the log waits, UUID, and rows."""
    plan = []
    with tempfile.TemporaryDirectory(prefix="lamella-xfs-", dir="/var/tmp") as text:
        folder = Path(text)
        disk = folder / "disk"
        disk.touch()
        for mode in recipes.MODES:
            for state in recipes.STATES:
                store = docker_store(mode, "xfs", state)
                with store.pool() as pool:
                    for number in store.file_systems[-3:]:
                        with pool.open_volume(number, store.size(number), read_only=True) as volume:
                            copy_sparse(volume, folder / "copy")
                        plan.append((f"{mode} {state} {number}", len(plan) * SLOT, store.size(number)))
                        append(folder / "copy", disk, plan[-1][1])
        (folder / "plan.json").write_text(json.dumps(plan))
        code, output = boot(SCRIPT, folder, [disk])
        assert code == 0, output
        found: Trees = json.loads((folder / "trees.json").read_text())
    return found


def append(copy: Path, disk: Path, offset: int) -> None:
    """Put a sparse file into a larger one, which is made to end with it."""
    with FileDevice(copy, read_only=True) as source, disk.open("r+b") as target:
        target.truncate(offset + source.size)
        for at, length in source.data_ranges():
            for start in range(at, at + length, 1 << 20):
                target.seek(offset + start)
                target.write(source.read(start, min(1 << 20, at + length - start)))
    copy.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("state", recipes.STATES)
@pytest.mark.parametrize("mode", recipes.MODES)
def test_xfs(mode: str, state: str, docker_store: DockerStores, xfs_trees: Trees) -> None:
    """Read by a kernel, as ours is read; but what Docker has written is found, and a log that waits seen."""
    store = docker_store(mode, "xfs", state)
    waiting = set()
    for number in store.file_systems[-3:]:
        waits, uuid, rows = xfs_trees[f"{mode} {state} {number}"]
        if waits:
            waiting.add(number)
        assert uuid == store.uuid(number)
        assert rows == manifests.recorded(store.manifest(number)), number
    check_waiting(store, waiting)


@pytest.mark.parametrize("state", recipes.STATES)
@pytest.mark.parametrize("mode", recipes.MODES)
def test_docker_diff(mode: str, state: str, docker_store: DockerStores) -> None:
    """What the container web1 has changed."""
    store = docker_store(mode, "ext4", state)
    identity = json.loads(store.text("inspect.web1.json"))[0]["Id"]
    name = store.device_name(identity)
    numbers = {store.name(number): number for number in store.devices}
    said = [line for line in store.text("docker-state.txt").splitlines() if line[:3] in ("A /", "C /", "D /")]
    assert said
    with (
        store.pool() as pool,
        pool.open_volume(numbers[f"{name}-init"], recipes.BASE_SIZE["ext4"], read_only=True) as lower,
        pool.open_volume(numbers[name], recipes.BASE_SIZE["ext4"], read_only=True) as upper,
    ):
        chunks = pool.differing_ranges(numbers[f"{name}-init"], numbers[name])
        ranges = [(first * pool.chunk_size, length * pool.chunk_size) for first, length in chunks]
        for changed in (None, ranges):
            with EXT4.pair(lower, upper, changed) as pair:
                lines = [str(change) for change in list_changes(pair)]
            assert sorted(said) == sorted(
                line.replace("/rootfs/", "/") for line in lines if " /rootfs/" in line
            )
