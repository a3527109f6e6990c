# SPDX-License-Identifier: Apache-2.0
"""Containers: made, named, grown, changed, committed, exported, removed."""

from __future__ import annotations

import io
import json
import re
import tarfile
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BadInputError, BusyError, ExistsError, NoSpaceError, NotFoundError, UsageError
from lamella.store import Store
from tests.support.images import Sample, make_tar
from tests.support.stores import (
    KERNEL,
    allocated,
    assert_sound,
    assert_sound_for_real_tools,
    files_of,
    state_of,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.remote


def put(store: Store, container: str, files: dict[str, bytes | None]) -> None:
    store.copy_in(container, io.BytesIO(make_tar(files)), b"/")


def names(store: Store, name: str) -> set[bytes]:
    with store.tree(name) as tree:
        return {entry.path for entry in tree.walk()}


def test_made_and_listed(store: Store) -> None:
    one = store.create("sample")
    two = store.create(one.image_id[7:19], name="/web")
    assert re.fullmatch("[0-9a-f]{64}", one.id)
    assert re.fullmatch("[a-z]+_[a-z]+[0-9]?", one.name)
    assert (two.name, two.image, one.image) == ("web", one.image_id[7:19], "sample")
    assert one.command == ["/bin/sh"]
    assert [container.id for container in store.containers()] == [two.id, one.id]
    for name in ("web", "/web", two.id, two.id[:8]):
        shown = store.inspect(name)
        assert (shown["Id"], shown["Name"], shown["Image"]) == (two.id, "/web", one.image_id)
    assert shown["Config"]["Hostname"] == two.id[:12]
    assert shown["GraphDriver"]["Data"]["DeviceName"].endswith(two.id)
    json.dumps(shown)
    json.dumps([container.as_dict() for container in store.containers()])


def test_names_that_are_taken_or_impossible(store: Store) -> None:
    web = store.create("sample", name="web")
    with pytest.raises(ExistsError) as caught:
        store.create("sample", name="web")
    assert caught.value.message == (
        f'Conflict. The container name "/web" is already in use by container "{web.id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    with pytest.raises(UsageError, match="Invalid container name"):
        store.create("sample", name="-")
    with pytest.raises(NotFoundError, match="No such image: unknown:latest"):
        store.create("unknown")
    for action in (store.remove_container, store.diff, store.commit):
        with pytest.raises(NotFoundError, match="No such container: nobody"):
            action("nobody")
    store.remove_container("nobody", force=True)


def test_a_container_costs_nothing_until_it_changes(store: Store) -> None:
    before = store.info().data_used
    for _ in range(5):
        store.create("sample")
    assert store.info().data_used == before
    usage = [row for row in store.df() if row.kind == "container"]
    assert [row.exclusive for row in usage] == [0] * 5
    assert all(row.mapped for row in usage)


def test_larger_ones(root: Path, tmp_path: Path) -> None:
    with Store.open(root) as store:
        made = store.create("sample", name="large", size=200 << 20)
        assert made.size == 200 << 20
        assert store.diff("large") == []
        put(store, "large", {"big": bytes(80 << 20)})
        assert [str(change) for change in store.diff("large")] == ["A /big"]
        with pytest.raises(UsageError, match=r"Container size cannot be smaller than 67\.11MB"):
            store.create("sample", size=32 << 20)
        with pytest.raises(UsageError, match="multiple of 512"):
            store.create("sample", size=(200 << 20) + 1)
        image = store.commit("large", "big")
        assert store.inspect(image)["RootFS"]["Layers"][:3] == Sample().diff_ids
    assert_sound(root)
    assert_sound_for_real_tools(root, tmp_path)


def test_the_image_says_how_large_a_container_must_be(store: Store, tmp_path: Path) -> None:
    Store.close(store)
    with Store.setup(store.root, storage_options=["dm.basesize=96M"]) as again:
        assert again.create("sample").size == 64 << 20


def test_diff(store: Store) -> None:
    store.create("sample", name="web")
    assert store.diff("web") == []
    put(store, "web", {"etc/hostname": b"mine\n", "srv/": None, "srv/a": b"1"})
    assert [str(change) for change in store.diff("web")] == [
        "C /etc",
        "C /etc/hostname",
        "A /srv",
        "A /srv/a",
    ]


def test_containers_do_not_see_each_other(store: Store) -> None:
    store.create("sample", name="one")
    store.create("sample", name="two")
    put(store, "one", {"secret": b"s" * 100_000})
    assert b"secret" not in names(store, "two")
    assert b"secret" not in names(store, "sample")
    assert store.diff("two") == []


def test_no_container_sees_anothers_old_bytes(root: Path) -> None:
    """Pools are without zeroing: what a removed container left in its chunks must never show through."""
    mark = b"another's secret" * 4096
    with Store.open(root) as store:
        Store.close(store)
    with Store.setup(root, storage_options=["dm.blkdiscard=false"]) as store:
        store.create("sample", name="old")
        put(store, "old", {f"s{n}": mark for n in range(100)})
        store.remove_container("old")
        assert any(b"another's secret" in path.read_bytes() for path in files_of(root))
        store.create("sample", name="new")
        put(store, "new", {f"n{n}": b"small" for n in range(300)})
        with store.devices.volume(store.inspect("new")["Id"]) as volume:
            for offset, length in volume.data_ranges():
                for start in range(offset, offset + length, 1 << 20):
                    assert b"another's secret" not in volume.read(
                        start, min(1 << 20, offset + length - start)
                    )


def test_removing_gives_the_space_back(root: Path) -> None:
    with Store.open(root) as store:
        before = state_of_open(store)
        store.create("sample", name="web")
        put(store, "web", {"big": b"x" * (20 << 20)})
        full = allocated(root)
        store.remove_container("web")
        assert state_of_open(store) == before
        assert allocated(root) < full - (18 << 20)
    assert_sound(root)


def state_of_open(store: Store) -> tuple[int, int]:
    info = store.info()
    return info.data_used, len(store.devices.pool.devices())


def test_device_numbers_go_round(store: Store) -> None:
    first = store.create("sample")
    store.remove_container(first.id)
    second = store.create("sample")
    ids = [int(store.inspect(one)["GraphDriver"]["Data"]["DeviceId"]) for one in (second.id,)]
    assert ids == [6]
    with store.devices.state.transaction():
        store.devices.state.set_pool(next_device_id=(1 << 24) - 1)
    third = store.create("sample")
    assert store.inspect(third.id)["GraphDriver"]["Data"]["DeviceId"] == "0"
    fourth = store.create("sample")
    assert store.inspect(fourth.id)["GraphDriver"]["Data"]["DeviceId"] == "5"


def test_an_open_device_is_deleted_later(root: Path) -> None:
    with Store.open(root) as store:
        web = store.create("sample", name="web")
        with store.tree("web") as tree:
            store.remove_container("web")
            assert store.containers() == []
            assert store.info().deferred_deleted == 1
            assert tree.ls(b"/etc")
        with pytest.raises(NotFoundError):
            store.devices.get(web.id)
        store.create("sample")
        store.devices.retry_deletions()
        assert store.info().deferred_deleted == 0
    assert_sound(root)


def test_without_deferred_deletion_an_open_device_is_busy(root: Path) -> None:
    with Store.setup(root, storage_options=["dm.use_deferred_deletion=false"]) as store:
        store.create("sample", name="web")
        with store.tree("web"), pytest.raises(BusyError, match=r"is busy|it is in use"):
            store.remove_container("web")
        assert [container.name for container in store.containers()] == ["web"]
        store.remove_container("web")


def test_minimum_free_space_in_dockers_words(root: Path, mode: str) -> None:
    with Store.open(root) as store:
        store.create("sample", name="full")
        put(store, "full", {"big": b"x" * (20 << 20)})
    Store.setup(root, storage_options=["dm.min_free_space=99%"]).close()
    with Store.open(root) as store:
        info = store.info()
        free = (info.data_total - info.data_used) // 65536
        with pytest.raises(NoSpaceError) as caught:
            store.create("sample")
        least = 4096 * 99 // 100
        assert caught.value.message == (
            f"devmapper: Thin Pool has {free} free data blocks which is less than minimum required "
            f"{least} free data blocks. Create more free space in thin pool or use dm.min_free_space "
            "option to change behavior."
        )
        assert ("dm.loopdatasize" if mode == "loop-lvm" else "vgextend docker") in str(caught.value.hint)
        store.remove_container("full")
        with pytest.raises(NoSpaceError, match=r"free metadata blocks\. Create more free metadata") as caught:
            store.create("sample")
        assert ("dm.loopmetadatasize" if mode == "loop-lvm" else "--poolmetadatasize") in str(
            caught.value.hint
        )


def test_commit(root: Path, tmp_path: Path) -> None:
    with Store.open(root) as store:
        store.create("sample", name="web")
        put(store, "web", {"etc/hostname": b"mine\n", "srv/": None, "srv/a": b"1"})
        image = store.commit(
            "web",
            "mine:1",
            message="what I did",
            author="me",
            changes=['CMD ["/bin/serve"]', "ENV A=b", "EXPOSE 80", "LABEL x=y", "USER 1", "WORKDIR /srv"],
        )
        shown = store.inspect("mine:1")
        assert shown["Id"] == image
        assert (shown["Comment"], shown["Author"]) == ("what I did", "me")
        assert shown["Config"] == {
            "Cmd": ["/bin/serve"],
            "Env": ["PATH=/bin", "A=b"],
            "ExposedPorts": {"80/tcp": {}},
            "Labels": {"x": "y"},
            "User": "1",
            "WorkingDir": "/srv",
        }
        assert shown["RootFS"]["Layers"][:3] == Sample().diff_ids
        assert len(shown["RootFS"]["Layers"]) == 4
        assert names(store, "mine:1") == names(store, "web")
        store.create("mine:1", name="again")
        assert store.diff("again") == []
        # It can be saved and loaded like any other.
        store.save(["mine:1"], tmp_path / "mine.tar")
        store.remove_container("again")
        store.remove_image("mine:1")
        assert store.load(tmp_path / "mine.tar")[0].id == image
    assert_sound(root)
    assert_sound_for_real_tools(root, tmp_path)


def test_commit_of_nothing_adds_no_layer(store: Store) -> None:
    store.create("sample", name="web")
    image = store.commit("web", changes=["USER me"])
    assert store.inspect(image)["RootFS"]["Layers"] == Sample().diff_ids
    assert store.inspect(image)["RepoTags"] == []
    assert f"Deleted: {image}" in store.remove_image(image)
    assert store.inspect("sample")["RepoTags"] == ["sample:latest"]


def test_commit_with_deletions_and_of_an_image_that_is_gone(store: Store) -> None:
    store.create("sample", name="web")
    with store.devices.volume(store.inspect("web")["Id"], read_only=False) as volume:
        from lamella.fs.ext4.tree import Tree

        with Tree.open(volume) as tree:
            tree.remove(b"new", recursive=True)
    store.remove_image("sample", force=True)
    image = store.commit("web", "left")
    assert names(store, "left") == {b"", b"bin", b"bin/sh", b"etc", b"etc/hostname"}
    store.remove_container("web")
    assert len(store.inspect(image)["RootFS"]["Layers"]) == 4


def test_commit_that_makes_no_sense_leaves_nothing(root: Path) -> None:
    with Store.open(root) as store:
        store.create("sample", name="web")
        put(store, "web", {"x": b"1"})
    before = state_of(root)
    with Store.open(root) as store:
        for bad in ({"reference": "NO"}, {"changes": ["RUN x"]}, {"reference": "a@sha256:" + "0" * 64}):
            with pytest.raises(UsageError):
                store.commit("web", **bad)  # type: ignore[arg-type]
    assert state_of(root) == before


def test_export(store: Store) -> None:
    store.create("sample", name="web")
    put(store, "web", {"etc/hostname": b"mine\n"})
    out = io.BytesIO()
    store.export("web", out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        found = {member.name.removeprefix("./"): member for member in tar}
        assert {"bin", "bin/sh", "etc", "etc/hostname", "new", "new/other"} <= set(found)
        stream = tar.extractfile(found["etc/hostname"])
        assert stream is not None
        assert stream.read() == b"mine\n"


def test_info_in_dockers_order(store: Store, mode: str) -> None:
    loop = mode == "loop-lvm"
    assert [label for label, _ in store.info().lines()] == [
        "Pool Name",
        "Pool Blocksize",
        "Base Device Size",
        "Backing Filesystem",
        "Udev Sync Supported",
        *(["Data file", "Metadata file", "Data loop file", "Metadata loop file"] if loop else []),
        "Data Space Used",
        "Data Space Total",
        "Data Space Available",
        "Metadata Space Used",
        "Metadata Space Total",
        "Metadata Space Available",
        "Thin Pool Minimum Free Space",
        "Deferred Removal Enabled",
        "Deferred Deletion Enabled",
        "Deferred Deleted Device Count",
        "Library Version",
    ]
    info = store.info()
    shown = dict(info.lines())
    assert shown["Pool Blocksize"] == "65.54kB"
    assert shown["Base Device Size"] == "67.11MB"
    assert shown["Backing Filesystem"] == "ext4"
    assert shown["Data Space Total"] == "268.4MB"
    assert shown["Deferred Deletion Enabled"] == "true"
    assert re.fullmatch(r"docker-\d+:\d+-\d+-pool" if loop else "docker-thinpool", shown["Pool Name"])
    assert info.data_used + info.data_available <= info.data_total
    discouraged = "usage of loopback devices is strongly discouraged for production use"
    assert any(discouraged in warning for warning in info.warnings) == (loop and KERNEL)
    json.dumps(info.as_dict())


def test_a_damaged_tar_changes_nothing(root: Path) -> None:
    with Store.open(root) as store:
        store.create("sample", name="web")
    before = state_of(root)
    whole = make_tar({"a": b"x" * 100_000, "b": b"y" * 100_000})
    with Store.open(root) as store, pytest.raises(BadInputError):
        store.copy_in("web", io.BytesIO(whole[:150_000]), b"/")
    assert state_of(root) == before
    with Store.open(root) as store:
        assert store.diff("web") == []
