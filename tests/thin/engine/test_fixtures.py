# SPDX-License-Identifier: Apache-2.0
"""Pools made by the real kernel, by thin_restore and by Docker: opened, read, written, and checked again."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from scripts.docker_stores.digests import PIECE, digest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import NoSpaceError, ReadOnlyError
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.tools.check import check
from tests.support.docker_stores import ALL
from tests.support.failing import NowhereDevice
from tests.thin.plain_dumps import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.docker_stores import DockerStores

OPTIONS = PoolOptions(zero=False)


def dump(program: str, metadata: MemoryDevice, folder: Path) -> str:
    path = folder / "dumped"
    path.write_bytes(metadata.content)
    subprocess.run([shutil.which("thin_check") or "thin_check", "-q", str(path)], check=True)
    return plain(subprocess.run([program, str(path)], check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("which", ["thin-a/clean", "thin-a/held", "thin-c/clean", "thin-c/held"])
def test_kernel_made_metadata(
    which: str, fixture_dir: Callable[[str], Path], tool: Callable[[str], str], tmp_path: Path
) -> None:
    name = which.split("/")[0]
    folder = fixture_dir(f"{name}.tar.zst") / name
    info = json.loads((folder / "INFO.json").read_text())
    path = folder / which.split("/")[1] / "meta.bin"
    if not path.exists():
        pytest.skip(f"{which} is not in the fixture")
    metadata = MemoryDevice(content=path.read_bytes(), name=which)
    data = NowhereDevice(info["data_mb"] << 20)
    pool = Pool.open(metadata, data, options=OPTIONS)
    if which.endswith("held"):
        # As the kernel reported it, but for the numbers in use: it went on for a few chunks.
        ours, kernels = pool.status().line().split(), info["status_held"].split("thin-pool ")[1].split()
        assert [ours[0], *ours[3:]] == [kernels[0], *kernels[3:]]
        assert [field.split("/")[1] for field in ours[1:3]] == [field.split("/")[1] for field in kernels[1:3]]
    assert sorted(pool.devices()) == info["devs"]
    for line in (folder / "thin_status.txt").read_text().splitlines():
        device, _, sectors, _, mapped, highest = line.split()
        dev_id = int(device.removeprefix("t").rstrip(":"))
        if dev_id in pool.devices():
            with pool.open_volume(dev_id, int(sectors) * 512) as volume:
                assert volume.status_line() == f"{mapped} {highest}"
    # What the kernel's pool holds is what we say it holds.
    before = dump(tool("thin_dump"), metadata, tmp_path)
    for dev_id in info["devs"]:
        with pool.open_volume(dev_id, 1 << 40) as volume:
            total = 0
            for first, length, block, time in volume.mapped_ranges():
                total += length
                begin = f'origin_begin="{first}" data_begin="{block}" length="{length}" time="{time}"'
                single = f'origin_block="{first}" data_block="{block}" time="{time}"'
                assert begin in before or single in before
            assert total == volume.mapped_chunks
    # Changes that cancel out leave the same mappings, whatever blocks they lie in now.
    pool.create_snap(5000, info["devs"][0])
    pool.create_thin(5001)
    with pool.open_volume(5000, 1 << 30) as one, pool.open_volume(5001, 1 << 30) as two:
        for at in range(0, 1 << 28, 3 << 20):
            one.write(at, b"x" * 4096)
        two.write_many([(at, b"y") for at in range(0, 1 << 28, 5 << 20)])
        one.discard(0, 1 << 27)
    pool.commit()
    report = check(metadata)
    assert report.complete
    assert not report.problems
    during = dump(tool("thin_dump"), metadata, tmp_path)
    assert during.count("<device ") == len(info["devs"]) + 2
    pool.delete(5000)
    pool.delete(5001)
    pool.close()
    report = check(metadata)
    assert not report.problems
    assert report.metadata_leaks == report.data_leaks == 0
    after = dump(tool("thin_dump"), metadata, tmp_path)
    assert without_times(after, info["devs"][0]) == without_times(before, info["devs"][0])


def test_fresh_pool_takes_as_many_blocks_as_the_kernels(tmp_path: Path) -> None:
    """LVM's pool of the direct-lvm walkthrough, right after lvconvert; dmsetup's own line."""
    with FileDevice.create(tmp_path / "metadata", 102 * 4 << 20) as metadata:
        pool = Pool.create(metadata, NowhereDevice(9727 * 4 << 20), chunk_size=512 << 10, options=OPTIONS)
        status = pool.status().line()
        assert status == "0 4115/104448 0/77816 - rw discard_passdown queue_if_no_space - 1024 "
        assert pool.table_line().split(" ", 3)[:3] == ["0", "79683584", "thin-pool"]
        assert pool.table_line().endswith(" 1024 0 1 skip_block_zeroing ")


def without_times(text: str, snapped: int) -> list[str]:
    """The dump's lines, but for the pool's time and that of the device that was snapshotted."""
    return [
        line for line in text.splitlines() if "<superblock" not in line and f'dev_id="{snapped}"' not in line
    ]


def test_deleting_everything_frees_everything(fixture_dir: Callable[[str], Path]) -> None:
    folder = fixture_dir("thin-c.tar.zst") / "thin-c"
    info = json.loads((folder / "INFO.json").read_text())
    metadata = MemoryDevice(content=(folder / "held" / "meta.bin").read_bytes(), name="thin-c")
    pool = Pool.open(metadata, NowhereDevice(info["data_mb"] << 20), options=OPTIONS)
    for dev_id in info["devs"]:
        pool.delete(dev_id)
    pool.commit()
    assert pool.status().used_data > 0  # the held snapshot keeps it
    pool.release_metadata_snap()
    pool.commit()
    assert pool.status().used_data == 0
    assert not check(metadata).problems


def test_pool_that_needs_a_check(fixture_dir: Callable[[str], Path]) -> None:
    folder = fixture_dir("needscheck-real.tar.zst") / "needscheck-real"
    metadata = MemoryDevice(content=(folder / "meta.bin").read_bytes(), name="needs-check")
    before = bytes(metadata.content)
    pool = Pool.open(metadata, NowhereDevice(256 << 20))
    # dmsetup said: 0 114/1024 300/4096 - ro discard_passdown queue_if_no_space needs_check 256
    assert (
        pool.status().line() == "0 114/1024 300/4096 - ro discard_passdown queue_if_no_space needs_check 256 "
    )
    with pytest.raises(ReadOnlyError, match="needs a check"):
        pool.create_thin(7)
    with pool.open_volume(1, 64 << 20) as volume, pytest.raises(ReadOnlyError, match="needs a check"):
        volume.write(0, b"x")
    pool.close()
    assert metadata.content == before


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "fs", "state"), ALL)
def test_docker_devices_read_as_the_kernel_read_them(
    docker_store: DockerStores, mode: str, fs: str, state: str
) -> None:
    store = docker_store(mode, fs, state)
    with store.pool() as pool:
        assert sorted(pool.devices()) == store.devices
        for number in store.devices:
            with pool.open_volume(number, store.size(number), read_only=True) as volume:
                assert volume.status_line() == store.usage(number)
                found = digest(volume.read(at, PIECE) for at in range(0, volume.size, PIECE))
            assert found == store.digest(number), number
        assert sum(length for _, length in pool.differing_ranges(1, 2)) > 0


@pytest.mark.parametrize(("mode", "fs", "state"), ALL)
def test_docker_pool_written_on(
    docker_store: DockerStores, tool: Callable[[str], str], tmp_path: Path, mode: str, fs: str, state: str
) -> None:
    """Opened in the state that the kernel saw, and gone on with; a full one once it has grown."""
    store = docker_store(mode, fs, state)
    paths = store.copied(tmp_path)
    with FileDevice(paths[0]) as metadata, FileDevice(paths[1]) as data:
        options = replace(OPTIONS, error_if_no_space=True)
        pool = Pool.open(metadata, data, options=options)
        assert pool.status().line() == store.status
        origin = max(pool.devices())
        pool.create_snap(1000, origin)
        size = store.size(origin)
        volume = pool.open_volume(1000, size, zero_fresh=True)
        old = volume.read(0, 1 << 20)
        if state == "full":
            with pytest.raises(NoSpaceError):
                volume.write(5000, b"changed")
            data.resize(data.size + (16 << 20))
            pool.resize_data()
        volume.write(5000, b"changed")
        with pool.open_volume(origin, size) as before:
            assert before.read(0, 1 << 20) == old
        chunk = pool.chunk_size
        (hole,) = [at for at in range(0, size, chunk) if not any(volume.data_ranges(at, chunk))][-1:]
        volume.write(hole, b"new")
        assert volume.read(hole, chunk) == b"new".ljust(chunk, b"\0")
        assert volume.read(0, 1 << 20) == old[:5000] + b"changed" + old[5007:]
        volume.close()
        pool.close()
        assert not check(metadata).problems
    subprocess.run([tool("thin_check"), "-q", str(paths[0])], check=True)


def test_restored_by_thin_restore(tool: Callable[[str], str], tmp_path: Path) -> None:
    """thin_restore packs its nodes full; ours go on from there."""
    restore, check_program = tool("thin_restore"), tool("thin_check")
    lines = [
        '<superblock uuid="" time="1" transaction="3" version="2" data_block_size="128" nr_data_blocks="0">'
    ]
    block = 0
    for dev_id, mappings in ((1, 3000), (2, 100), (7, 0)):
        lines.append(
            f'<device dev_id="{dev_id}" mapped_blocks="{mappings}" transaction="0" creation_time="0" '
            'snap_time="1">'
        )
        for key in range(mappings):
            lines.append(f'<single_mapping origin_block="{key * 3}" data_block="{block}" time="0"/>')
            block += 1
        lines.append("</device>")
    lines.append("</superblock>")
    (tmp_path / "xml").write_text(
        "\n".join(lines).replace('nr_data_blocks="0"', f'nr_data_blocks="{block + 500}"')
    )
    with (tmp_path / "metadata").open("wb") as file:
        file.truncate(4 << 20)
    done = subprocess.run(
        [restore, "-i", str(tmp_path / "xml"), "-o", str(tmp_path / "metadata")],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("thin_restore cannot write here: it wants O_DIRECT")
    with FileDevice(tmp_path / "metadata") as metadata:
        pool = Pool.open(metadata, NowhereDevice((block + 1000) << 16), options=OPTIONS)
        assert pool.transaction_id == 3
        with pool.open_volume(1, 1 << 40) as volume:
            assert volume.mapped_chunks == 3000
            volume.write_many([((key * 3 + 1) << 16, b"x") for key in range(0, 3000, 3)])
        pool.delete(2)
        pool.commit()
        with pool.open_volume(7, 1 << 40) as volume:
            volume.write(0, b"y")
        pool.close()
        assert not check(metadata).problems
    subprocess.run([check_program, "-q", str(tmp_path / "metadata")], check=True)
