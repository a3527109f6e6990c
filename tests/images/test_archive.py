# SPDX-License-Identifier: Apache-2.0
"""Archives and layouts of every kind, made by hand and by the real tools."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lamella.errors import BadInputError, NotFoundError, UnsupportedError
from lamella.images.archive import open_archive
from tests.support.debian import busybox_image, debian_image
from tests.support.images import (
    COMPRESSIONS,
    Sample,
    compact,
    make_tar,
    put_blob,
    run,
    sha256,
    tar_folder,
    write_docker_archive,
    write_index,
    write_oci_archive,
    write_oci_layout,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.images.image_source import ImageSource

OTHER = Sample(layers=[make_tar({"a": b"1"})], references=["ghcr.io/owner/other:1"])


def check(source: ImageSource, *samples: Sample) -> None:
    """*source* holds exactly *samples*, and every layer is right."""
    images = source.images()
    assert [image.config_digest for image in images] == [sample.image_id for sample in samples]
    for image, sample in zip(images, samples, strict=True):
        assert image.config == sample.config
        assert image.diff_ids == sample.diff_ids
        assert [reference.canonical() for reference in image.references] == sample.references
        for layer, data in zip(image.layers, sample.layers, strict=True):
            with layer.open() as stream:
                assert stream.read() == data


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("docker_types", [False, True])
def test_a_layout_folder_and_its_archive(tmp_path: Path, compression: str, docker_types: bool) -> None:
    samples = [Sample(compression=compression, docker_types=docker_types), OTHER]
    write_oci_archive(tmp_path / "image.tar", samples)
    with open_archive(tmp_path / "image.tar") as source:
        assert source.kind == "oci-archive"
        check(source, *samples)
    with open_archive(tmp_path / "image.tar.layout") as source:
        assert source.kind == "oci-dir"
        check(source, *samples)


@pytest.mark.parametrize("style", ["classic", "modern"])
@pytest.mark.parametrize("whole", COMPRESSIONS)
def test_docker_archives(tmp_path: Path, style: str, whole: str) -> None:
    both = Sample(references=["docker.io/library/sample:latest", "docker.io/owner/second:name"])
    write_docker_archive(tmp_path / "image.tar", [both, OTHER], style=style, whole=whole)
    with open_archive(tmp_path / "image.tar", spool_folder=tmp_path / "spool") as source:
        assert source.kind == "docker-archive"
        check(source, both, OTHER)
    assert not (tmp_path / "spool").exists() or not list((tmp_path / "spool").iterdir())


def test_several_images_share_layers_by_links(tmp_path: Path) -> None:
    first = Sample()
    second = Sample(layers=[*first.layers, OTHER.layers[0]], references=["docker.io/library/longer:1"])
    write_docker_archive(tmp_path / "image.tar", [first, second])
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert sum(member.issym() for member in tar) == 3
    with open_archive(tmp_path / "image.tar") as source:
        check(source, first, second)


def test_the_same_image_twice_is_one_with_both_names(tmp_path: Path) -> None:
    twice = [Sample(), Sample(references=["docker.io/library/again:2"])]
    write_docker_archive(tmp_path / "image.tar", twice)
    with open_archive(tmp_path / "image.tar") as source:
        (image,) = source.images()
        assert [str(name) for name in image.references] == ["sample:latest", "again:2"]


def _legacy(path: Path, layers: list[bytes], **top: Any) -> None:
    ids = [sha256(b"%d" % number).partition(":")[2] for number in range(len(layers))]
    files: dict[str, bytes | None] = {}
    for number, layer in enumerate(layers):
        described: dict[str, Any] = {"id": ids[number], "created": "2014-01-01T00:00:00Z"}
        described |= {"container_config": {"Cmd": ["/bin/sh", "-c", "#(nop)"]}}
        if number:
            described["parent"] = ids[number - 1]
        if number == len(layers) - 1:
            described |= {"config": {"Cmd": ["sh"]}, "architecture": "amd64", "os": "linux"} | top
        files[f"{ids[number]}/"] = None
        files[f"{ids[number]}/VERSION"] = b"1.0"
        files[f"{ids[number]}/json"] = compact(described)
        files[f"{ids[number]}/layer.tar"] = layer
    files["repositories"] = compact({"old/name": {"1.0": ids[-1], "latest": ids[-1]}})
    path.write_bytes(make_tar(files))


def test_an_archive_from_before_docker_1_10(tmp_path: Path) -> None:
    _legacy(tmp_path / "old.tar", Sample().layers)
    with open_archive(tmp_path / "old.tar") as source:
        (image,) = source.images()
        assert image.diff_ids == Sample().diff_ids
        assert [str(name) for name in image.references] == ["old/name:1.0", "old/name:latest"]
        config = json.loads(image.config)
        assert config["config"] == {"Cmd": ["sh"]}
        assert [entry["created_by"] for entry in config["history"]] == ["/bin/sh -c #(nop)"] * 3
        for layer, data in zip(image.layers, Sample().layers, strict=True):
            with layer.open() as stream:
                assert stream.read() == data
    _legacy(tmp_path / "circle.tar", Sample().layers[:1], parent=sha256(b"0").partition(":")[2])
    with pytest.raises(BadInputError, match="form a cycle"):
        open_archive(tmp_path / "circle.tar")
    _legacy(tmp_path / "gap.tar", Sample().layers[:1], parent="a" * 64)
    with pytest.raises(BadInputError, match="does not have the layer"):
        open_archive(tmp_path / "gap.tar")


@pytest.mark.parametrize("how", ["plain", "gzip"])
def test_standard_input_a_pipe_or_a_file(tmp_path: Path, how: str) -> None:
    path = write_docker_archive(tmp_path / "image.tar", whole=how)
    program = (
        "from lamella.images.archive import open_archive\n"
        "with open_archive(None) as source:\n"
        "    for layer in source.images()[0].layers:\n"
        "        with layer.open() as stream: print(len(stream.read()))\n"
    )
    expected = "".join(f"{len(layer)}\n" for layer in Sample().layers)
    command = [sys.executable, "-c", program]
    assert (
        subprocess.run(command, input=path.read_bytes(), capture_output=True, check=True).stdout.decode()
        == expected
    )
    with path.open("rb") as file:
        assert (
            subprocess.run(command, stdin=file, capture_output=True, check=True).stdout.decode() == expected
        )


def test_a_named_pipe(tmp_path: Path) -> None:
    data = write_docker_archive(tmp_path / "image.tar").read_bytes()
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(data))
    writer.start()
    with open_archive(tmp_path / "fifo") as source:
        check(source, Sample())
    writer.join()


def _platforms() -> list[Sample]:
    return [
        Sample(architecture="arm64", variant="v8"),
        Sample(architecture="amd64"),
        Sample(architecture="arm", variant="v7"),
        Sample(architecture="arm", variant="v5"),
        Sample(architecture="386"),
    ]


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ("linux/amd64", 1),
        ("linux/arm64", 0),
        ("linux/arm64/v9", 0),
        ("linux/arm/v7", 2),
        ("linux/arm/v6", 3),
        ("linux/386", 4),
    ],
)
def test_a_list_is_chosen_from_by_platform(tmp_path: Path, wanted: str, place: int) -> None:
    samples = _platforms()
    write_oci_layout(tmp_path / "layout", samples, as_index=True)
    with open_archive(tmp_path / "layout", platform=wanted) as source:
        check(source, samples[place])


def test_no_suitable_platform_lists_what_there_is(tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "layout", _platforms(), as_index=True)
    with pytest.raises(NotFoundError, match="no image for linux/s390x") as caught:
        open_archive(tmp_path / "layout", platform="linux/s390x")
    assert "available: linux/386, linux/amd64, linux/arm/v5, linux/arm/v7, linux/arm64" in str(caught.value)


def test_a_list_in_a_list_without_platforms_and_with_gaps(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    samples = _platforms()[:2]
    write_oci_layout(layout, samples)
    index = json.loads((layout / "index.json").read_bytes())
    plain = [{key: entry[key] for key in ("mediaType", "digest", "size")} for entry in index["manifests"]]
    gone = plain[0] | {"digest": sha256(b"gone"), "platform": {"os": "linux", "architecture": "amd64"}}
    attestation = plain[0] | {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    entries = [attestation, gone, *plain]
    for _ in range(3):
        body = compact({"schemaVersion": 2, "manifests": entries})
        digest = put_blob(layout, body)
        kind = "application/vnd.oci.image.index.v1+json"
        entries = [{"mediaType": kind, "digest": digest, "size": len(body)}] * 2
    write_index(layout, entries[:1])
    with open_archive(layout, platform="linux/amd64") as source:
        check(source, Sample(architecture="amd64", references=[]))
    with pytest.raises(NotFoundError, match="no image for linux/riscv64"):
        open_archive(layout, platform="linux/riscv64")


def test_a_single_image_for_another_platform(tmp_path: Path) -> None:
    for number, sample in enumerate(
        [Sample(architecture="s390x"), Sample(architecture="s390x", docker_types=True)]
    ):
        paths = [
            write_oci_archive(tmp_path / f"oci{number}.tar", [sample]),
            write_docker_archive(tmp_path / f"docker{number}.tar", [sample], style="modern"),
            write_docker_archive(tmp_path / f"classic{number}.tar", [sample]),
        ]
        for path in paths:
            with open_archive(path) as source:  # unasked, it is taken as it is
                check(source, sample)
            with open_archive(path, platform="linux/s390x") as source:
                check(source, sample)
            with pytest.raises(NotFoundError, match="linux/amd64 wanted, linux/s390x found"):
                open_archive(path, platform="linux/amd64")
    write_oci_archive(tmp_path / "windows.tar", [Sample(os="windows")])
    with pytest.raises(UnsupportedError, match="an image for windows/amd64"):
        open_archive(tmp_path / "windows.tar")


def test_names_in_an_index(tmp_path: Path) -> None:
    layout = write_oci_layout(tmp_path / "layout")
    index = json.loads((layout / "index.json").read_bytes())
    entry = {key: index["manifests"][0][key] for key in ("mediaType", "digest", "size")}
    for naming, names, tag in (
        ({}, [], ""),
        ({"org.opencontainers.image.ref.name": "v1"}, [], "v1"),
        ({"org.opencontainers.image.ref.name": "quay.io/a/b:1"}, ["quay.io/a/b:1"], ""),
        ({"org.opencontainers.image.ref.name": "a:1"}, ["a:1"], ""),
        (
            {"org.opencontainers.image.ref.name": "1", "io.containerd.image.name": "docker.io/library/a:1"},
            ["a:1"],
            "",
        ),
    ):
        write_index(layout, [entry | {"annotations": naming}])
        with open_archive(layout) as source:
            (image,) = source.images()
            assert ([str(name) for name in image.references], image.tag) == (names, tag)
    write_index(layout, [entry | {"annotations": {"io.containerd.image.name": "Bad:name"}}])
    with pytest.raises(BadInputError, match="must be lowercase"):
        open_archive(layout)


def test_two_images_of_one_name_are_ambiguous(tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "layout", [Sample(), Sample(architecture="arm64")])
    with pytest.raises(BadInputError, match="2 different images have this name"):
        open_archive(tmp_path / "layout")


def test_a_foreign_layer_that_was_left_out(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    sample = Sample()
    manifest, blobs = sample.manifest()
    manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    manifest["layers"][0]["urls"] = ["https://example.com/layer"]
    for blob in blobs:
        put_blob(layout, blob)
    body = compact(manifest)
    write_index(
        layout, [{"mediaType": sample.manifest_type(), "digest": put_blob(layout, body), "size": len(body)}]
    )
    with open_archive(layout) as source:  # it is there, so it serves
        check(source, Sample(references=[]))
    (layout / "blobs/sha256" / sha256(blobs[1]).partition(":")[2]).unlink()
    with open_archive(layout) as source, pytest.raises(UnsupportedError, match="is not distributable"):
        source.images()[0].layers[0].open()


def test_layouts_whose_blobs_are_links(tmp_path: Path) -> None:
    layout = write_oci_layout(tmp_path / "layout")
    (layout / "blobs/sha256").rename(tmp_path / "kept")
    (layout / "blobs/sha256").mkdir()
    for blob in (tmp_path / "kept").iterdir():
        (layout / "blobs/sha256" / blob.name).symlink_to(blob)
    with open_archive(layout) as source:
        check(source, Sample())


@pytest.mark.parametrize("form", ["layout", "oci_archive", "docker_archive"])
def test_busybox_from_the_real_tools(form: str, tool: Callable[[str], str]) -> None:
    built = busybox_image()
    with open_archive(getattr(built, form)) as source:
        (image,) = source.images()
        assert image.config_digest == built.image_id
        for layer in image.layers:
            with layer.open() as stream:
                stream.verify()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["layout", "oci_archive", "docker_archive"])
def test_debian_from_the_real_tools(form: str) -> None:
    built = debian_image()
    with open_archive(getattr(built, form)) as source:
        (image,) = source.images()
        assert image.config_digest == built.image_id
        assert image.diff_ids == built.config()["rootfs"]["diff_ids"]
        for layer in image.layers:
            with layer.open() as stream:
                stream.verify()


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_skopeo_copies_between_all_forms(tmp_path: Path, tool: Callable[[str], str], form: str) -> None:
    tool("skopeo")
    write_oci_layout(tmp_path / "layout", [Sample(references=["docker.io/library/sample:1"])])
    target = tmp_path / "target"
    run("skopeo", "--insecure-policy", "copy", "-q", f"oci:{tmp_path}/layout:1", f"{form}:{target}:sample:2")
    with open_archive(target) as source:
        (image,) = source.images()
        assert image.config_digest == Sample().image_id
        for layer, data in zip(image.layers, Sample().layers, strict=True):
            with layer.open() as stream:
                assert stream.read() == data


def test_umoci_layouts(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("umoci")
    image = f"{tmp_path}/layout:first"
    (tmp_path / "layer.tar").write_bytes(OTHER.layers[0])
    run("umoci", "init", "--layout", tmp_path / "layout")
    run("umoci", "new", "--image", image)
    with open_archive(tmp_path / "layout") as source:
        assert source.images()[0].layers == []
    run("umoci", "raw", "add-layer", "--image", image, tmp_path / "layer.tar")
    run("umoci", "tag", "--image", image, "second")
    with open_archive(tmp_path / "layout") as source:
        (found,) = source.images()
        assert found.tag == "first"
        assert found.diff_ids == OTHER.diff_ids
        with found.layers[0].open() as stream:
            assert stream.read() == OTHER.layers[0]


def test_a_tar_with_dots_and_long_names(tmp_path: Path) -> None:
    layout = write_oci_layout(tmp_path / "layout")
    subprocess.run(["tar", "-C", layout, "-cf", tmp_path / "dots.tar", "."], check=True)
    subprocess.run(["tar", "-C", layout, "--format=pax", "-cf", tmp_path / "pax.tar", "."], check=True)
    subprocess.run(["tar", "-C", layout, "--format=v7", "-cf", tmp_path / "v7.tar", "."], check=True)
    for name in ("dots.tar", "pax.tar", "v7.tar"):
        with open_archive(tmp_path / name) as source:
            check(source, Sample())
    sample = Sample()
    deep = "deep/" * 60 + "layer.tar"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        manifest = [{"Config": "config", "RepoTags": None, "Layers": [deep, "second.tar", "third.tar"]}]
        files = dict(zip([deep, "second.tar", "third.tar"], sample.layers, strict=True))
        files |= {"config": sample.config, "manifest.json": compact(manifest)}
        with tarfile.open(tmp_path / "deep.tar", "w", format=kind) as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        with open_archive(tmp_path / "deep.tar") as source:
            check(source, Sample(references=[]))


def test_the_outer_tar_of_a_folder(tmp_path: Path) -> None:
    layout = write_oci_layout(tmp_path / "layout")
    tar_folder(layout, tmp_path / "image.tar")
    with open_archive(tmp_path / "image.tar") as source:
        check(source, Sample())
