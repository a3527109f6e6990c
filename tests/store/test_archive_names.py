# SPDX-License-Identifier: Apache-2.0
"""Names of images in archives, ids of every algorithm, and layers that aufs made."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from lamella.cli.main import main
from lamella.images.archive import open_archive
from lamella.images.digest import digest_of
from lamella.images.manifest import REF_NAME_ANNOTATION
from tests.support.images import (
    OCI,
    SAMPLE_LAYERS,
    Sample,
    compact,
    compress,
    make_tar,
    write_docker_archive,
    write_index,
)

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.store import Store

pytestmark = pytest.mark.loop_lvm
DIGEST = "sha256:" + "a" * 64


def archive(folder: Path, tags: list[str]) -> Path:
    """The sample as a docker-archive with *tags* as its RepoTags."""
    sample = Sample()
    layers: dict[str, bytes | None] = {f"{n}/layer.tar": layer for n, layer in enumerate(SAMPLE_LAYERS)}
    name = sample.image_id.partition(":")[2] + ".json"
    manifest = [{"Config": name, "RepoTags": tags, "Layers": list(layers)}]
    path = folder / "archive.tar"
    path.write_bytes(make_tar({**layers, name: sample.config, "manifest.json": compact(manifest)}))
    return path


def test_loaded_names_are_those_of_the_archive(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``docker load`` prints one line for each RepoTag, or the image's id where there is none."""
    root = ["--root", str(store.root)]
    assert store.images()[0].references == ["sample:latest"]
    assert store.load(archive(tmp_path, ["b:2", "a:1"]))[0].references == ["b:2", "a:1"]
    store.close()
    for tags, expected in ((["c:3"], ["Loaded image: c:3"]), ([], [f"Loaded image ID: {Sample().image_id}"])):
        assert main([*root, "--quiet", "load", "-i", str(archive(tmp_path, tags))]) == 0
        assert capsys.readouterr().out.splitlines() == expected


def test_a_digest_is_never_taken_from_an_archive(store: Store, tmp_path: Path) -> None:
    """What a registry has under a digest, an archive cannot say (moby, ``image/tarexport/load.go``)."""
    tags = [f"evil@{DIGEST}", f"evil:1@{DIGEST}", "good:1"]
    assert store.load(archive(tmp_path, tags))[0].references == ["good:1"]
    (image,) = store.images()
    assert image.digests == []
    assert image.references == ["good:1", "sample:latest"]


def test_nor_from_a_layout(tmp_path: Path) -> None:
    sample = Sample()
    described, blobs = sample.manifest()
    for blob in (*blobs, compact(described)):
        put(tmp_path, blob, "sha256")
    body = compact(described)
    entry = {"mediaType": sample.manifest_type(), "digest": digest_of(body), "size": len(body)}
    write_index(tmp_path, [entry | {"annotations": {REF_NAME_ANNOTATION: f"x/evil@{DIGEST}"}}])
    with open_archive(tmp_path) as source:
        assert source.images()[0].references == []


def put(layout: Path, data: bytes, algorithm: str) -> str:
    digest = digest_of(data, algorithm)
    path = layout / "blobs" / algorithm / digest.partition(":")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest


def layout_of(layout: Path, algorithm: str) -> str:
    """The sample with all its digests in *algorithm*; gives the image's id."""
    config = json.loads(Sample().config)
    config["rootfs"]["diff_ids"] = [digest_of(layer, algorithm) for layer in SAMPLE_LAYERS]
    blobs = [compact(config), *(compress(layer, "gzip") for layer in SAMPLE_LAYERS)]
    types = [f"{OCI}.config.v1+json", *[f"{OCI}.layer.v1.tar+gzip"] * 3]
    pieces: list[Any] = [
        {"mediaType": kind, "digest": put(layout, blob, algorithm), "size": len(blob)}
        for kind, blob in zip(types, blobs, strict=True)
    ]
    body = compact({"schemaVersion": 2, "config": pieces[0], "layers": pieces[1:]})
    entry = {
        "mediaType": f"{OCI}.manifest.v1+json",
        "digest": put(layout, body, algorithm),
        "size": len(body),
    }
    write_index(layout, [entry | {"annotations": {REF_NAME_ANNOTATION: "other"}}])
    return str(pieces[0]["digest"])


@pytest.mark.parametrize("algorithm", ["sha512", "sha384", "blake3"])
def test_ids_of_other_algorithms(
    store: Store, tmp_path: Path, algorithm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """OCI image specification, descriptor.md: sha512 and blake3 are registered beside sha256. Wherever an id
    is used."""
    if algorithm == "blake3":
        pytest.importorskip("blake3", reason="blake3 digests need the package blake3")
    identity = layout_of(tmp_path / "layout", algorithm)
    digits = identity.partition(":")[2]
    (loaded,) = store.load(tmp_path / "layout")
    assert loaded.id == identity
    for name in (identity, digits, digits[:12], identity[:20], f"{algorithm}:{digits[:5]}"):
        assert store.inspect(name)["Id"] == identity
    container = store.create(digits[:12], name="of-id")
    assert container.image_id == identity
    store.save([identity], tmp_path / "saved.tar")
    with tarfile.open(tmp_path / "saved.tar") as tar:
        assert json.load(tar.extractfile("manifest.json") or io.BytesIO())[0]["RepoTags"] in (None, [])
    store.remove_container("of-id")
    store.tag(digits[:20], "named:1")
    store.tag(digits[:20], "named:2")
    assert store.remove_image("named:1") == ["Untagged: named:1"]
    store.close()
    root = ["--root", str(store.root)]
    assert main([*root, "images", "-q"]) == 0
    assert digits[:12] in capsys.readouterr().out.split()
    assert main([*root, "rmi", digits[:12]]) == 0
    assert f"Deleted: {identity}" in capsys.readouterr().out


def test_a_repository_means_all_its_tags(store: Store, tmp_path: Path) -> None:
    """docs.docker.com/reference/cli/docker/image/save: "all parent layers, and all tags + versions"."""
    other = Sample(layers=[make_tar({"other": b"o"})], references=[])
    write_docker_archive(tmp_path / "other.tar", [other])
    store.load(tmp_path / "other.tar")
    for name, target in (
        ("sample", "all:1"),
        ("sample", "all:2"),
        (other.image_id, "all:latest"),
        ("sample", "one:1"),
    ):
        store.tag(name, target)

    def saved(*names: str) -> set[str]:
        store.save(list(names), tmp_path / "saved.tar")
        with tarfile.open(tmp_path / "saved.tar") as tar:
            entries = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        return {tag for entry in entries for tag in entry["RepoTags"] or []}

    assert saved("all") == {"all:1", "all:2", "all:latest"}
    assert saved("all:2") == {"all:2"}
    assert saved("one") == {"one:1"}
    assert saved("one", "all:1") == {"one:1", "all:1"}
    store.remove_image("all:latest")
    assert saved("all") == {"all:1", "all:2"}


def test_files_that_aufs_kept_for_their_names(store: Store, tmp_path: Path) -> None:
    """moby, ``pkg/archive/diff.go``: hard links into ``.wh..wh.plnk`` are unpacked, itself is not."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:

        def add(name: str, kind: bytes, link: str = "", data: bytes = b"") -> None:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(data)
            tar.addfile(info, io.BytesIO(data))

        add("c", tarfile.DIRTYPE)
        add(".wh..wh.plnk", tarfile.DIRTYPE)
        add(".wh..wh.plnk/79.1", tarfile.REGTYPE, data=b"linked")
        add(".wh..wh.aufs", tarfile.REGTYPE)
        add("c/x", tarfile.LNKTYPE, ".wh..wh.plnk/79.1")
        add("c/y", tarfile.LNKTYPE, ".wh..wh.plnk/79.1")
    sample = Sample(layers=[out.getvalue()], references=["docker.io/library/plnk:1"])
    store.load(write_docker_archive(tmp_path / "plnk.tar", [sample]))
    with store.tree("plnk:1") as tree:
        found = {entry.path: entry for entry in tree.walk()}
        assert set(found) == {b"", b"c", b"c/x", b"c/y"}
        assert b"".join(tree.read(b"c/x")) == b"".join(tree.read(b"c/y")) == b"linked"
        assert found[b"c/y"].target == b"c/x"
    store.save(["plnk:1"], tmp_path / "saved.tar")
    with open_archive(tmp_path / "saved.tar") as source, source.images()[0].layers[0].open() as stream:
        assert stream.read() == out.getvalue()
