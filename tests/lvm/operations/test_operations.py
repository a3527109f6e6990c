# SPDX-License-Identifier: Apache-2.0
"""Operations on groups in memory: refusals, backups, thin pools and what is in them."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import (
    BusyError,
    CorruptError,
    ExistsError,
    LamellaError,
    NoSpaceError,
    NotFoundError,
    UnsupportedError,
    UsageError,
)
from lamella.lvm.disks.signatures import find_signatures
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.operations.extent_ranges import parse_pv_ranges
from lamella.lvm.operations.group_changes import GroupChanges, change_group
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv, rename_lv
from lamella.lvm.operations.lv_changes import LvChanges, change_lv
from lamella.lvm.operations.lv_resize import resize_lv
from lamella.lvm.operations.physical_volumes import PvOptions, create_pv, remove_pv
from lamella.lvm.operations.pool_repair import repair_pool, swap_metadata
from lamella.lvm.operations.pool_resize import grow_by_policy, policy_growth, resize_pool
from lamella.lvm.operations.pool_spare import spare_of
from lamella.lvm.operations.thin_messages import opened_pool
from lamella.lvm.operations.thin_pools import PoolRequest, convert_to_pool, create_pool
from lamella.lvm.operations.thin_sizes import pool_sizes
from lamella.lvm.operations.thin_volumes import (
    ThinRequest,
    create_external_snapshot,
    create_snapshot,
    create_thin,
    overprovisioning,
    remove_any,
)
from lamella.lvm.operations.volume_groups import (
    GroupOptions,
    create_group,
    extend_group,
    reduce_group,
    remove_group,
    rename_group,
)
from lamella.lvm.session.backup import list_backups, read_backup
from lamella.lvm.session.session import Session
from tests.lvm.memory_groups import environment, find_lv, group_on, memory_disks, session_on, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.lvm.disks.scan import FoundGroup

    Edit = tuple[Session, FoundGroup]


@pytest.fixture
def edit() -> Iterator[Edit]:
    """A session in the middle of changing a group over three disks of 24 MiB."""
    disks = memory_disks(3, 24 << 20)
    group_on(disks)
    with session_on(disks) as session, session.all_locked(), session.editing("vg") as found:
        yield session, found


# -- refusals ----------------------------------------------------------------------------------------


def refusals() -> list[tuple[str, type[LamellaError], str, Callable[[Session, FoundGroup], object]]]:
    return [
        ("name", UsageError, "invalid hyphen", lambda s, f: create_lv(s, f, LvRequest(1, "-x"))),
        ("reserved", UsageError, "_tmeta", lambda s, f: create_lv(s, f, LvRequest(1, "x_tmeta"))),
        ("twice", ExistsError, "already exists", lambda s, f: create_lv(s, f, LvRequest(1, "lv"))),
        ("empty", UsageError, "no extents", lambda s, f: create_lv(s, f, LvRequest(0, "x"))),
        ("room", NoSpaceError, "insufficient free space", lambda s, f: create_lv(s, f, LvRequest(9999, "x"))),
        (
            "stripes",
            UsageError,
            "must not exceed",
            lambda s, f: create_lv(s, f, LvRequest(8, "x", stripes=4)),
        ),
        (
            "stripe size",
            UsageError,
            "Invalid stripe size",
            lambda s, f: create_lv(s, f, LvRequest(4, "x", stripes=2, stripe_size=5000)),
        ),
        (
            "contiguous",
            NoSpaceError,
            "contiguous",
            lambda s, f: create_lv(s, f, LvRequest(300, "x", policy="contiguous")),
        ),
        ("internal", UsageError, "internal", lambda s, f: resize_lv(s, f, find_lv(f, "pool_tdata"), 99)),
        (
            "shrink pool",
            UsageError,
            "cannot be reduced",
            lambda s, f: resize_pool(s, f, find_lv(f, "pool"), data_extents=1),
        ),
        ("in use", BusyError, "still in use", lambda s, f: reduce_group(s, f, f.group.pvs[0])),
        ("volumes left", BusyError, "still contains 3", lambda s, f: remove_group(s, f)),
        ("unknown", NotFoundError, "Failed to find", lambda s, f: find_lv(f, "nothing")),
        ("pool part", UsageError, "used by a pool", lambda s, f: remove_any(s, f, find_lv(f, "pool_tmeta"))),
        ("not a pool", UsageError, "not a thin pool", lambda s, f: create_thin(s, f, find_lv(f, "lv"), 5)),
        (
            "writable origin",
            UsageError,
            "writable LV",
            lambda s, f: create_external_snapshot(s, f, find_lv(f, "lv"), find_lv(f, "pool")),
        ),
        ("tag", UsageError, "Invalid tag", lambda s, f: change_group(s, f, GroupChanges(add_tags=["a b"]))),
        (
            "already",
            UsageError,
            "already writable",
            lambda s, f: change_lv(s, f, find_lv(f, "lv"), LvChanges(writable=True)),
        ),
        ("same name", UsageError, "must differ", lambda s, f: rename_group(s, f, "vg")),
        ("member", BusyError, "not initialized", lambda s, f: extend_group(s, f, ["disk0"])),
        ("pvcreate member", BusyError, "not initialized", lambda s, f: create_pv(s, "disk0")),
        ("pvremove member", BusyError, "not removed", lambda s, f: remove_pv(s, "disk0")),
        (
            "chunk",
            UsageError,
            "multiple of",
            lambda s, f: create_pool(s, f, "p2", 10, PoolRequest(chunk_size=100 << 10)),
        ),
        (
            "extent size",
            UsageError,
            "not a perfect fit",
            lambda s, f: change_group(s, f, GroupChanges(extent_size=8 << 20)),
        ),
        (
            "profile of none",
            UsageError,
            "not a thin pool",
            lambda s, f: change_lv(s, f, find_lv(f, "lv"), LvChanges(zero=True)),
        ),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "words", "act"), refusals(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_refusals_write_nothing(
    name: str, kind: type[LamellaError], words: str, act: Callable[[Session, FoundGroup], object]
) -> None:
    disks = memory_disks(3, 24 << 20)
    group_on(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        create_lv(session, found, LvRequest(10, "lv"))
        pool = create_pool(session, found, "pool", 40)
        create_thin(session, found, pool, 10, ThinRequest("thin"))
    before = {path: bytes(disk.content) for path, disk in disks.items()}
    with session_on(disks) as session, session.all_locked(), session.editing("vg") as found:
        with pytest.raises(kind) as refusal:
            act(session, found)
        assert words in refusal.value.message
        assert refusal.value.hint
    assert before == {path: bytes(disk.content) for path, disk in disks.items()}


def test_limits_on_numbers() -> None:
    disks = memory_disks(3)
    with session_on(disks) as session, session.creating("vg"):
        create_group(
            session, "vg", ["disk0", "disk1"], GroupOptions(max_lv=1, max_pv=2, extent_size=128 << 10)
        )
    with session_on(disks) as session, session.all_locked(), session.editing("vg") as found:
        create_lv(session, found, LvRequest(1))
        with pytest.raises(NoSpaceError, match="Maximum number of logical volumes"):
            create_lv(session, found, LvRequest(1))
        with pytest.raises(NoSpaceError, match="holds max 2"):
            extend_group(session, found, ["disk2"])


# -- backups -----------------------------------------------------------------------------------------


def test_backups_and_archives(tmp_path: Path) -> None:
    disks = memory_disks(1)
    surroundings = environment(tmp_path)
    with Session([], surroundings, given=disks) as session, session.creating("vg"):
        create_group(session, "vg", ["disk0"], GroupOptions(extent_size=128 << 10))
    assert not (tmp_path / "archive").exists()
    for number in range(12):
        with Session([], surroundings, given=disks) as session, session.editing("vg") as found:
            create_lv(session, found, LvRequest(1, f"lv{number}"))
    kept = list_backups("vg", surroundings)
    assert [archive.number for archive in kept] == [*range(12), -1]
    assert kept[0].description == "Created *before* executing 'test'"
    assert kept[-1].description == "Created *after* executing 'test'"
    assert len(read_backup(kept[3].path).lvs) == 3
    with Session([], surroundings, given=disks) as session:
        assert text_of(read_backup(tmp_path / "backup" / "vg")) == text_of(session.find("vg").group)
    surroundings.retain_days = 0
    with (
        Session([], surroundings, given=disks) as session,
        session.all_locked(),
        session.editing("vg") as found,
    ):
        rename_group(session, found, "other")
    assert len(list_backups("vg", surroundings)) == 10
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == ["other"]
    with (
        Session([], surroundings, given=disks) as session,
        session.all_locked(),
        session.editing("other") as found,
    ):
        remove_group(session, found, force=True)
    assert list((tmp_path / "backup").iterdir()) == []
    assert len(list_backups("other", surroundings)) == 1


def test_a_backup_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_backup(tmp_path / "nothing")
    (tmp_path / "broken").write_bytes(b"vg {\xff")
    with pytest.raises(CorruptError, match="broken"):
        read_backup(tmp_path / "broken")


# -- extents on command lines ------------------------------------------------------------------------


def test_ranges_of_extents(edit: Edit) -> None:
    session, found = edit
    group = found.group
    group.pvs[2].tags.append("fast")
    last = group.pvs[0].pe_count - 1

    def ranges(*arguments: str) -> list[tuple[str, list[tuple[int, int]]]]:
        return [(pv.device, pairs) for pv, pairs in parse_pv_ranges(found, arguments, session.say)]

    assert ranges("disk0") == [("disk0", [(0, last + 1)])]
    assert ranges("disk0:5", "disk1:0-9:20+5") == [("disk0", [(5, 1)]), ("disk1", [(0, 10), (20, 5)])]
    assert ranges("disk0:10-") == [("disk0", [(10, last - 9)])]
    assert ranges("disk0:-9") == [("disk0", [(0, 10)])]
    assert ranges("@fast") == [("disk2", [(0, last + 1)])]
    assert ranges("disk0:0-3", "disk0:7") == [("disk0", [(0, 4), (7, 1)])]
    for wrong in ("disk0:", "disk0::1", "disk0:x", "disk0:9-3", "disk0:0-9999", "disk0:0-5:3"):
        with pytest.raises(UsageError):
            ranges(wrong)
    with pytest.raises(NotFoundError, match='"nothing" not found'):
        ranges("nothing:1-2")
    group.pvs[1].status = []
    with pytest.raises(NoSpaceError, match="No specified PVs"):
        ranges("disk1")
    assert str(session.notices[-1]) == "WARNING: Physical volume disk1 not allocatable."


# -- volumes as devices ------------------------------------------------------------------------------


def test_linear_and_striped_volumes_hold_their_bytes(edit: Edit) -> None:
    session, found = edit
    for name, stripes in (("linear", 1), ("striped", 3)):
        create_lv(session, found, LvRequest(9, name, stripes=stripes, stripe_size=8 << 10))
        create_lv(session, found, LvRequest(1))
        resize_lv(session, found, find_lv(found, name), 18)
        device = open_lv(found, name)
        assert device.size == 18 * (128 << 10)
        content = bytes(number * 7 % 251 for number in range(device.size))
        device.write_many([(at, content[at : at + 100_001]) for at in range(0, device.size, 100_001)])
        device.flush()
        assert device.read(0, device.size) == content
        buffers = [
            (offset, bytearray(5000)) for offset in (0, 3, 8190, 9 * (128 << 10) - 7, device.size - 5000)
        ]
        device.read_many(buffers)
        assert all(bytes(buffer) == content[at : at + 5000] for at, buffer in buffers)
        device.write_zeros(100, 300_000)
        assert device.read(0, device.size) == content[:100] + bytes(300_000) + content[300_100:]
        with pytest.raises(ValueError, match="reach outside"):
            device.read(device.size - 1, 2)
        assert sum(length for _at, length in device.data_ranges()) == device.size
    # Where the extents lie is what the text says.
    lv = find_lv(found, "striped")
    area = lv.segments[0].areas()[1]
    assert area.pv is not None
    disk = found.disks[area.pv.uuid].reader
    place = area.pv.pe_start * 512 + area.extent * (128 << 10)
    assert disk.read(place, 4096) == open_lv(found, "striped").read(8 << 10, 4096)


def test_a_volume_stays_open_while_its_group_changes(tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        paths.append(str(tmp_path / f"disk{number}"))
        FileDevice.create(paths[-1], 16 << 20).close()
    with Session(paths, environment()) as session:
        with session.creating("vg"):
            create_group(session, "vg", paths[:1], GroupOptions(extent_size=1 << 20))
        with session.editing("vg") as found:
            create_lv(session, found, LvRequest(5, "lv"))
        device = open_lv(session.find("vg"), "lv")
        device.write(0, b"before")
        with session.all_locked(), session.editing("vg") as found:
            extend_group(session, found, paths[1:])
            resize_lv(session, found, find_lv(found, "lv"), 20)
        device.write(6, b" and after")
        device.flush()
        grown = open_lv(session.find("vg"), "lv")
        assert grown.size == 20 << 20
        assert grown.read(0, 16) == b"before and after"
        with Session(paths, environment()) as other:
            assert other.find("vg").group.lvs["lv"].extents == 20
            with pytest.raises(BusyError), other.editing("vg") as found:
                create_lv(other, found, LvRequest(1))
    with Session(paths, environment()) as session, session.editing("vg") as found:
        create_lv(session, found, LvRequest(1))


def test_what_cannot_be_opened(edit: Edit) -> None:
    session, found = edit
    create_pool(session, found, "pool", 20)
    with pytest.raises(UnsupportedError, match="thin-pool"):
        open_lv(found, "pool")
    with pytest.raises(NotFoundError):
        open_lv(found, "nothing")
    lv = create_lv(session, found, LvRequest(3, "lost"))
    pv = lv.segments[0].areas()[0].pv
    assert pv is not None
    del found.disks[pv.uuid]
    with pytest.raises(CorruptError, match="missing disk"):
        open_lv(found, "lost")


# -- signatures --------------------------------------------------------------------------------------


def test_signatures_are_found_asked_about_and_wiped(tool: Callable[[str], str], tmp_path: Path) -> None:
    mkfs = tool("mkfs.ext4")
    path = tmp_path / "disk"
    FileDevice.create(path, 24 << 20).close()
    subprocess.run([mkfs, "-q", str(path)], check=True)
    with FileDevice(path, read_only=True) as disk:
        (signature,) = find_signatures(disk)
    assert (signature.type, signature.offset, signature.length) == ("ext4", 1080, 2)
    before = path.read_bytes()
    asked: list[str] = []

    def refuse(question: str) -> bool:
        asked.append(question)
        return False

    with (
        Session([str(path)], environment()) as session,
        session.all_locked(),
        pytest.raises(BusyError, match="not initialized"),
    ):
        create_pv(session, str(path), confirm=refuse)
    assert asked == [f"WARNING: ext4 signature detected on {path} at offset 1080. Wipe it? [y/n]: "]
    assert path.read_bytes() == before
    with Session([str(path)], environment()) as session, session.all_locked():
        create_pv(session, str(path), confirm=lambda question: True)
        assert str(session.notices[-1]) == f"Wiping ext4 signature on {path}."
    with FileDevice(path, read_only=True) as disk:
        assert [found.type for found in find_signatures(disk)] == ["LVM2_member"]


def test_an_old_file_system_in_a_new_volume(tool: Callable[[str], str], edit: Edit, tmp_path: Path) -> None:
    mkfs = tool("mkfs.ext4")
    session, found = edit
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(20 * (128 << 10))
    subprocess.run([mkfs, "-q", str(image)], check=True)
    lv = create_lv(session, found, LvRequest(20, "old", stripes=2))
    open_lv(found, "old").write(0, image.read_bytes())
    remove_any(session, found, lv)
    create_lv(session, found, LvRequest(20, "new", stripes=2, zero=False), confirm=lambda question: True)
    assert "Wiping ext4 signature on /dev/vg/new." in [str(notice) for notice in session.notices]
    assert find_signatures(open_lv(found, "new")) == []


def test_a_disk_over_the_network(tool: Callable[[str], str], tmp_path: Path) -> None:
    nbdkit = tool("nbdkit")
    socket, image = tmp_path / "socket", tmp_path / "image"
    FileDevice.create(image, 32 << 20).close()
    uri = f"nbd+unix:///?socket={socket}"
    server = subprocess.Popen([nbdkit, "-f", "-U", str(socket), "file", str(image)])
    try:
        while not socket.exists():
            assert server.poll() is None
            time.sleep(0.01)
        local = tmp_path / "local"
        FileDevice.create(local, 32 << 20).close()
        with Session([uri, str(local)], environment()) as session, session.creating("vg"):
            create_group(session, "vg", [uri, str(local)], GroupOptions(extent_size=1 << 20))
        with Session([uri, str(local)], environment()) as session, session.editing("vg") as found:
            ranges = parse_pv_ranges(found, [f"{uri}:2-9"], session.say)
            create_lv(session, found, LvRequest(8, "far", ranges=ranges))
            create_lv(session, found, LvRequest(8, "both", stripes=2))
            device = open_lv(found, "both")
            device.write(1000, b"x" * 200_000)
            device.flush()
            assert device.read(999, 200_002) == b"\0" + b"x" * 200_000 + b"\0"
    finally:
        server.terminate()
        server.wait()
    with Session([str(image), str(local)], environment()) as session:
        group = session.find("vg").group
        assert [area.extent for area in group.lvs["far"].segments[0].areas()] == [2]
        assert {pv.device for pv in group.pvs} == {str(image), str(local)}


# -- thin --------------------------------------------------------------------------------------------


def test_sizes_that_lvm_chooses() -> None:
    """Chunk and metadata for data of several sizes, worked out by LVM2 2.03.16's rules."""
    expected = {
        1 << 30: (64 << 10, 4 << 20),
        100 << 30: (64 << 10, 100 << 20),
        1 << 40: (512 << 10, 128 << 20),
        16 << 40: (8 << 20, 128 << 20),
    }
    for data, (chunk, metadata) in expected.items():
        sizes = pool_sizes(data >> 22, 8192, lambda notice: None)
        assert (sizes.chunk_sectors * 512, sizes.metadata_extents << 22) == (chunk, metadata)
    said: list[str] = []
    pool_sizes(9727, 8192, lambda notice: said.append(str(notice)), chunk_sectors=1024, metadata_extents=102)
    assert said == [
        "Thin pool volume with chunk size 512.00 KiB can address at most 127.00 TiB of data.",
        "WARNING: Pool zeroing and 512.00 KiB large chunk size slows down thin provisioning.",
        "WARNING: Consider disabling zeroing (-Zn) or using smaller chunk size (<512.00 KiB).",
    ]


def test_thin_volumes_are_in_the_pool_too(edit: Edit, tool: Callable[[str], str], tmp_path: Path) -> None:
    thin_check = tool("thin_check")
    session, found = edit
    pool = create_pool(session, found, "pool", 64)
    thin = create_thin(session, found, pool, 80, ThinRequest("thin"))
    with opened_pool(found, pool) as engine, engine.open_volume(1, found.group.size_of(thin)) as volume:
        volume.write(0, b"hello" * 100_000)
    snap = create_snapshot(session, found, thin, ThinRequest("snap"))
    assert "ACTIVATION_SKIP" in snap.flags
    with opened_pool(found, pool) as engine:
        assert engine.transaction_id == 2
        assert sorted(engine.devices()) == [1, 2]
        assert engine.devices()[2].mapped_blocks == engine.devices()[1].mapped_blocks > 0
        with engine.open_volume(2, found.group.size_of(thin), read_only=True) as volume:
            assert volume.read(0, 10) == b"hellohello"
    remove_any(session, found, thin)
    assert found.group.lvs["snap"].thin is not None
    assert found.group.lvs["snap"].thin.origin == ""
    third = create_thin(session, found, pool, 10, ThinRequest("third"))
    assert third.thin is not None
    assert third.thin.device_id == 3
    metadata = tmp_path / "metadata"
    metadata.write_bytes(open_lv(found, "pool_tmeta").read(0, open_lv(found, "pool_tmeta").size))
    subprocess.run([thin_check, "-q", str(metadata)], check=True)
    remove_any(session, found, pool)
    assert found.group.lvs == {}


def test_messages_can_be_left_to_lvm(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 64)
    segment = pool.thin_pool
    assert segment is not None
    create_thin(session, found, pool, 10, ThinRequest("one", apply=False))
    two = create_thin(session, found, pool, 10, ThinRequest("two", apply=False))
    assert segment.messages == [("create", "one"), ("create", "two")]
    assert segment.transaction_id == 1
    remove_any(session, found, two, apply=False)
    assert segment.messages == [("create", "one")]
    create_thin(session, found, pool, 10, ThinRequest("three"))
    assert segment.messages == []
    assert segment.transaction_id == 2
    with opened_pool(found, pool) as engine:
        assert sorted(engine.devices()) == [1, 2]


def test_a_pool_of_somebody_else_is_left_alone(edit: Edit) -> None:
    session, found = edit
    data = create_lv(session, found, LvRequest(40, "data"))
    metadata = create_lv(session, found, LvRequest(16, "metadata"))
    pool = convert_to_pool(session, found, data, metadata, PoolRequest(zero=False))
    with opened_pool(found, pool) as engine:
        engine.create_thin(1)
        engine.set_transaction_id(0, 1)
    with pytest.raises(BusyError, match="managed by another program"):
        create_thin(session, found, pool, 10)
    resize_pool(session, found, pool, data_extents=60)
    with opened_pool(found, pool) as engine:
        assert engine.status().total_data == 60 * 2
        assert sorted(engine.devices()) == [1]


def test_a_pool_that_does_not_belong_to_the_text(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 64)
    create_thin(session, found, pool, 10)
    with opened_pool(found, pool) as engine:
        engine.set_transaction_id(1, 5)
    with pytest.raises(CorruptError, match="transaction_id is 5, while expected 1"):
        create_thin(session, found, pool, 10)


def test_growing_by_policy() -> None:
    """The sizes that a real pool went through, written to in steps of 60 MiB: 200, 240, 300, 376, 452."""
    size = 200
    for used, following in ((180, 240), (240, 300), (300, 376), (360, 452)):
        extents = size // 4
        extents += -(-extents * policy_growth(used, size, 80, 20) // 100)
        size = extents * 4
        assert size == following
    assert policy_growth(80, 100, 80, 20) == 0
    assert policy_growth(81, 100, 80, 20) == 20
    assert policy_growth(100, 100, 80, 20) == 25
    assert policy_growth(99, 100, 100, 20) == 0
    assert policy_growth(60, 100, 10, 20) == 20


def test_policies_grow_data_metadata_and_spare(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 40)
    before = spare_of(found.group)
    assert before is not None
    spare = before.extents
    nothing = grow_by_policy(
        session, found, pool, used_data=(50, 100), used_metadata=(10, 100), threshold=80, percent=20
    )
    assert not nothing
    grow_by_policy(
        session, found, pool, used_data=(90, 100), used_metadata=(10, 100), threshold=80, percent=20
    )
    assert found.group.lvs["pool_tdata"].extents == pool.extents == 48
    grow_by_policy(
        session, found, pool, used_data=(10, 100), used_metadata=(90, 100), threshold=80, percent=20
    )
    assert found.group.lvs["pool_tmeta"].extents > spare
    assert before.extents == found.group.lvs["pool_tmeta"].extents


def test_promising_more_than_there_is(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 40)
    small = create_thin(session, found, pool, 30)
    assert overprovisioning(found.group, small, lambda pool: (100, 20)) == []
    large = create_thin(session, found, pool, 5000)
    said = [str(notice) for notice in overprovisioning(found.group, large, lambda pool: (100, 20))]
    assert said[0].startswith(
        "WARNING: Sum of all thin volume sizes (628.75 MiB) exceeds the size of thin pool vg/pool"
    )
    assert "protection against thin pools" in said[1]
    assert len(overprovisioning(found.group, large, lambda pool: (80, 20))) == 1


def test_mending_metadata_into_the_spare(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 40)
    create_thin(session, found, pool, 10)

    def copy(old: BlockDevice, new: BlockDevice) -> None:
        new.write(0, old.read(0, old.size))

    was = found.group.lvs["pool_tmeta"].uuid
    old = repair_pool(session, found, pool, copy)
    assert (old.name, old.uuid, old.visible) == ("pool_meta0", was, True)
    assert found.group.lvs["pool_tmeta"].uuid != was
    assert spare_of(found.group) is not None
    with opened_pool(found, pool) as engine:
        assert sorted(engine.devices()) == [1]
    swap_metadata(session, found, pool, old)
    assert found.group.lvs["pool_tmeta"].uuid == was
    assert not found.group.lvs["pool_tmeta"].visible
    assert found.group.lvs["pool_meta0"].visible


def test_renaming_takes_the_hidden_parts_along(edit: Edit) -> None:
    session, found = edit
    pool = create_pool(session, found, "pool", 40)
    thin = create_thin(session, found, pool, 10, ThinRequest("thin"))
    rename_lv(session, found, pool, "new")
    assert set(found.group.lvs) == {"new", "thin", "new_tmeta", "new_tdata", "lvol0_pmspare"}
    assert thin.thin is not None
    assert thin.thin.pool == "new"
    with pytest.raises(UsageError, match="internal"):
        rename_lv(session, found, found.group.lvs["new_tmeta"], "x")


def test_a_pool_needs_no_spare(edit: Edit) -> None:
    session, found = edit
    create_pool(session, found, "pool", 40, PoolRequest(spare=False))
    assert spare_of(found.group) is None
    said = "WARNING: recovery of pools without pool metadata spare LV is not automated."
    assert said in [str(notice) for notice in session.notices]


def test_pv_options_that_make_no_sense() -> None:
    disks = {"disk": MemoryDevice(8 << 20, name="disk"), "tiny": MemoryDevice(4096, name="tiny")}
    with session_on(disks) as session, session.all_locked():
        for options, words in (
            (PvOptions(uuid="x"), "Invalid uuid"),
            (PvOptions(metadata_copies=3), "may only be 0, 1 or 2"),
            (PvOptions(label_sector=4), "labelsector"),
            (PvOptions(data_alignment=16 << 20), "must not exceed device size"),
        ):
            with pytest.raises(UsageError, match=words):
                create_pv(session, "disk", options)
        with pytest.raises(UsageError, match="too small"):
            create_pv(session, "tiny")
    assert not any(disks["disk"].content)
