# SPDX-License-Identifier: Apache-2.0
"""Images: loaded from every kind of archive, named, shown, saved, removed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BadInputError, BusyError, NotFoundError, UsageError
from lamella.images.chain import chain_ids
from lamella.store import Store
from tests.support.images import (
    Sample,
    make_tar,
    run,
    write_docker_archive,
    write_oci_archive,
    write_oci_layout,
)
from tests.support.registry import running_registry
from tests.support.stores import SMALL, assert_sound, assert_sound_for_real_tools, state_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TREE = {
    b"": "directory",
    b"bin": "directory",
    b"bin/sh": "file",
    b"etc": "directory",
    b"etc/hostname": "file",
    b"new": "directory",
    b"new/other": "file",
}
"""What the sample's three layers come to."""


def tree_of(store: Store, name: str) -> dict[bytes, str]:
    with store.tree(name) as tree:
        return {entry.path: entry.kind.value for entry in tree.walk()}


def content(store: Store, name: str, path: bytes) -> bytes:
    with store.tree(name) as tree:
        return b"".join(tree.read(path))


@pytest.mark.parametrize(
    "kind", ["layout", "oci-archive", "docker-archive", "docker-archive.gz", "standard input"]
)
@pytest.mark.parametrize("compression", ["gzip", "zstd", "plain"])
def test_every_kind_of_archive(empty_root: Path, tmp_path: Path, kind: str, compression: str) -> None:
    sample = Sample(compression=compression)
    path = tmp_path / "image"
    if kind == "layout":
        write_oci_layout(path, [sample])
    elif kind == "oci-archive":
        write_oci_archive(path, [sample])
    else:
        write_docker_archive(path, [sample])
        if kind.endswith(".gz"):
            subprocess.run(["gzip", path], check=True)
            path = path.with_name("image.gz")
    if kind == "standard input":
        code = "import sys; from lamella import Store; print(Store.open(sys.argv[1]).load()[0].id)"
        with path.open("rb") as file:
            shown = run(sys.executable, "-c", code, str(empty_root), stdin=file)
        assert shown.strip() == sample.image_id
    else:
        with Store.open(empty_root) as store:
            (image,) = store.load(path)
        assert image.id == sample.image_id
        assert image.references == ["sample:latest"]
        assert image.layers == 3
    with Store.open(empty_root, read_only=True) as store:
        assert tree_of(store, "sample") == TREE
        assert content(store, "sample", b"/etc/hostname") == b"changed\n"
    assert_sound(empty_root)


@pytest.mark.remote
def test_the_file_systems_are_right_for_the_real_tools(root: Path, tmp_path: Path) -> None:
    assert_sound_for_real_tools(root, tmp_path)


def test_loading_again_takes_no_space(root: Path, sample_archive: Path) -> None:
    before = state_of(root)
    with Store.open(root) as store:
        store.load(sample_archive)
    assert state_of(root) == before


@pytest.mark.remote
def test_layers_are_shared(root: Path, tmp_path: Path) -> None:
    more = Sample(
        layers=[*Sample().layers, make_tar({"more": b"x" * 10})], references=["docker.io/library/more:1"]
    )
    with Store.open(root) as store:
        before = store.info().data_used
        store.load(write_oci_layout(tmp_path / "more", [more]))
        assert store.info().data_used - before < 1 << 20
        assert len(store.devices.state.devices()) == 1 + 4
        usage = {row.name: row for row in store.df()}
        assert usage["sample:latest"].exclusive == 0
        assert 0 < usage["more:1"].exclusive < usage["more:1"].mapped
        removed = store.remove_image("sample")
        assert removed == ["Untagged: sample:latest", f"Deleted: {Sample().image_id}"]
        assert tree_of(store, "more:1")[b"more"] == "file"
        removed = store.remove_image("more:1")
        assert removed[:2] == ["Untagged: more:1", f"Deleted: {more.image_id}"]
        assert len(removed) == 2 + 4
        assert store.images() == []
    assert_sound(root)


@pytest.mark.remote
def test_several_images_in_one_archive(empty_root: Path, tmp_path: Path) -> None:
    samples = [
        Sample(),
        Sample(layers=[make_tar({"a": b"1"})], references=["docker.io/me/b:2", "docker.io/me/c:3"]),
    ]
    with Store.open(empty_root) as store:
        loaded = store.load(write_docker_archive(tmp_path / "two.tar", samples))
        assert sorted(name for image in loaded for name in image.references) == [
            "me/b:2",
            "me/c:3",
            "sample:latest",
        ]
    assert_sound(empty_root)


def test_an_image_without_layers(empty_root: Path, tmp_path: Path) -> None:
    with Store.open(empty_root) as store:
        store.load(write_oci_layout(tmp_path / "none", [Sample(layers=[])]))
        made = store.create("sample")
        assert tree_of(store, made.id) == {b"": "directory"}
        assert store.diff(made.id) == []
        store.remove_image("sample", force=True)
        store.remove_container(made.id)
    assert_sound(empty_root)


def test_pull(tmp_path: Path, empty_root: Path, sample_layout: Path) -> None:
    (tmp_path / "registry").mkdir()
    with running_registry(tmp_path / "registry") as registry, Store.open(empty_root) as store:
        name = registry.push(f"oci:{sample_layout}:latest", "me/sample:1")
        image = store.pull(name, insecure_registry=True)
        assert image.references == [name]
        assert image.digest.startswith("sha256:")
        assert image.digests == [f"{registry.host}/me/sample@{image.digest}"]
        assert tree_of(store, name) == TREE
        # By its digest it is the same image; a pull by digest gives it no name, and it keeps the one it has.
        again = store.pull(image.digests[0], insecure_registry=True)
        assert (again.id, again.references) == (image.id, [])
        assert [each.references for each in store.images()] == [[name]]
        with pytest.raises(NotFoundError):
            store.pull(f"{registry.host}/me/nothing", insecure_registry=True)
        assert store.remove_image(name) == [
            f"Untagged: {name}",
            f"Untagged: {image.digests[0]}",
            f"Deleted: {image.id}",
            *[f"Deleted: {chain}" for chain in reversed(chain_ids(Sample().diff_ids))],
        ]
    assert not (empty_root / "downloads").exists()
    assert_sound(empty_root)


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive", "oci-dir"])
@pytest.mark.remote
def test_what_is_saved_is_what_was_loaded(
    root: Path, tmp_path: Path, format: str, tool: Callable[[str], str]
) -> None:
    target = tmp_path / "saved"
    with Store.open(root, read_only=True) as store:
        store.save(["sample"], target, format=format)
    with Store.setup(tmp_path / "second", storage_options=SMALL) as store:
        (image,) = store.load(target)
        assert image.id == Sample().image_id
        assert image.references == ["sample:latest"]
        assert tree_of(store, "sample") == TREE
    source = {"docker-archive": "docker-archive", "oci-archive": "oci-archive", "oci-dir": "oci"}[format]
    shown = json.loads(run(tool("skopeo"), "inspect", "--config", f"{source}:{target}"))
    assert shown["rootfs"]["diff_ids"] == Sample().diff_ids


def test_saving_to_a_stream_and_by_id(root: Path) -> None:
    out = io.BytesIO()
    with Store.open(root, read_only=True) as store:
        store.save([Sample().image_id[7:19]], out)
        with pytest.raises(UsageError, match="unknown archive format"):
            store.save(["sample"], out, format="zip")
        with pytest.raises(NotFoundError, match="No such image: other:latest"):
            store.save(["sample", "other"], io.BytesIO())
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
    assert not manifest[0].get("RepoTags")


def test_names(store: Store) -> None:
    image = store.images()[0]
    store.tag("sample", "other:2")
    store.tag(image.id[7:20], "localhost:5000/x/y")
    assert store.images()[0].references == ["localhost:5000/x/y:latest", "other:2", "sample:latest"]
    for name in (
        "other:2",
        "docker.io/library/other:2",
        image.id,
        image.id[7:],
        image.id[7:10],
        f"sha256:{image.id[7:12]}",
    ):
        assert store.inspect(name)["Id"] == image.id
    with pytest.raises(UsageError, match="refusing to create a tag with a digest"):
        store.tag("sample", f"x@{image.id}")
    with pytest.raises(UsageError, match="lowercase"):
        store.tag("sample", "UPPER")
    for missing in ("other", "other:3", "f" * 64, "sha256:" + "e" * 64):
        with pytest.raises(NotFoundError):
            store.tag(missing, "a")
    with pytest.raises(NotFoundError, match="No such object: nothing"):
        store.inspect("nothing")
    assert store.remove_image("other:2") == ["Untagged: other:2"]


@pytest.mark.remote
def test_a_name_moves_to_the_image_loaded_last(store: Store, tmp_path: Path) -> None:
    newer = Sample(layers=[make_tar({"newer": b""})])
    store.load(write_oci_layout(tmp_path / "newer", [newer]))
    assert store.inspect("sample")["Id"] == newer.image_id
    assert [image.references for image in store.images() if image.id == Sample().image_id] == [[]]
    assert f"Deleted: {Sample().image_id}" in store.remove_image(Sample().image_id)


@pytest.mark.remote
def test_removing_by_dockers_rules(store: Store) -> None:
    image = store.images()[0]
    short = image.id[7:19]
    container = store.create("sample", name="user")
    with pytest.raises(
        BusyError, match=r'unable to remove repository reference "sample" \(must force\)'
    ) as caught:
        store.remove_image("sample")
    assert container.id[:12] in caught.value.message
    with pytest.raises(
        BusyError, match=rf"unable to delete {short} \(must be forced\) - image is being used"
    ):
        store.remove_image(image.id)
    store.tag("sample", "other")
    with pytest.raises(BusyError, match="image is referenced in multiple repositories"):
        store.remove_image(short)
    assert store.remove_image("other") == ["Untagged: other:latest"]
    assert store.remove_image(short, force=True) == ["Untagged: sample:latest", f"Deleted: {image.id}"]
    # The container still has its layers, and takes them along when it goes.
    assert tree_of(store, "user") == TREE
    assert store.inspect("user")["Image"] == image.id
    store.remove_container("user")
    assert len(store.devices.state.devices()) == 1
    with pytest.raises(NotFoundError):
        store.remove_image("sample")


def test_inspect(store: Store) -> None:
    shown = store.inspect("sample")
    assert shown["RepoTags"] == ["sample:latest"]
    assert shown["RootFS"] == {"Type": "layers", "Layers": Sample().diff_ids}
    assert shown["Config"]["Cmd"] == ["/bin/sh"]
    assert (shown["Os"], shown["Architecture"]) == ("linux", "amd64")
    data = shown["GraphDriver"]["Data"]
    assert shown["GraphDriver"]["Name"] == "devicemapper"
    assert data["DeviceSize"] == str(64 << 20)
    assert data["DeviceId"] == "4"
    where = os.stat(store.root)
    prefix = f"docker-{os.major(where.st_dev)}:{os.minor(where.st_dev)}-{where.st_ino}-"
    assert data["DeviceName"].startswith(prefix)
    assert len(data["DeviceName"]) == len(prefix) + 64
    json.dumps(shown)


@pytest.mark.parametrize(
    "runtime",
    [
        {"Cmd": "sh"},
        {"Env": {"A": "1"}},
        {"Entrypoint": [1]},
        {"Labels": [1]},
        {"ExposedPorts": 3},
        {"Volumes": ["/x"]},
        {"Shell": "sh"},
        {"WorkingDir": []},
        "what",
    ],
    ids=str,
)
def test_a_configuration_that_would_not_do_is_refused(
    root: Path, tmp_path: Path, runtime: dict[str, object]
) -> None:
    before = state_of(root)
    odd = Sample(layers=[make_tar({"x": b""})], runtime=runtime)
    with Store.open(root) as store, pytest.raises(BadInputError):
        store.load(write_oci_layout(tmp_path / "odd", [odd]))
    assert state_of(root) == before


def test_a_layer_known_already_is_not_even_read(root: Path, tmp_path: Path) -> None:
    layout = write_oci_layout(tmp_path / "again", [Sample(references=["docker.io/library/again:1"])])
    for blob in (layout / "blobs/sha256").iterdir():
        if blob.stat().st_size > 1000 or blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.write_bytes(bytes(blob.stat().st_size))
    with Store.open(root) as store:
        (image,) = store.load(layout)
        assert image.references == ["again:1"]  # what the archive gave
        assert [each.references for each in store.images()] == [["again:1", "sample:latest"]]
