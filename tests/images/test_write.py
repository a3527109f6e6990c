# SPDX-License-Identifier: Apache-2.0
"""Images written out, read back by us and by the real tools."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from lamella.errors import BadInputError, CorruptError, ExistsError, LamellaError, NoSpaceError, NotFoundError
from lamella.images.archive import open_archive
from lamella.images.digest import digest_of
from lamella.images.reference import Reference
from lamella.images.write import OutImage, OutLayer, write_docker_archive, write_oci_layout
from tests.support.debian import debian_image
from tests.support.images import Sample, make_tar, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST = Sample(references=["docker.io/library/first:1", "quay.io/a/b:2"])
SECOND = Sample(layers=[FIRST.layers[0], make_tar({"x": b"1"})], references=["docker.io/library/second:1"])
NAMELESS = Sample(layers=[], references=[])
FORMS = ["docker-archive", "oci-archive", "oci-dir"]


def out_image(sample: Sample) -> OutImage:
    def writer(data: bytes) -> Callable[[Any], object]:
        return lambda sink: sink.write(data)

    layers = [OutLayer(digest_of(layer), len(layer), writer(layer)) for layer in sample.layers]
    return OutImage([Reference.parse(name) for name in sample.references], sample.config, layers)


def write(form: str, samples: list[Sample], target: Any, **options: Any) -> None:
    images = [out_image(sample) for sample in samples]
    if form == "docker-archive":
        write_docker_archive(images, target)
    else:
        write_oci_layout(images, target, form == "oci-archive", **options)


def check(path: Path, samples: list[Sample]) -> None:
    with open_archive(path) as source:
        images = source.images()
        assert [image.config for image in images] == [sample.config for sample in samples]
        for image, sample in zip(images, samples, strict=True):
            assert [name.canonical() for name in image.references] == sample.references
            for layer, data in zip(image.layers, sample.layers, strict=True):
                with layer.open() as stream:
                    assert stream.read() == data


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_again(tmp_path: Path, form: str) -> None:
    write(form, [FIRST, SECOND, NAMELESS], tmp_path / "out")
    check(tmp_path / "out", [FIRST, SECOND, NAMELESS])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", ["oci-archive", "oci-dir"])
def test_gzip_layers(tmp_path: Path, form: str) -> None:
    write(form, [FIRST, SECOND], tmp_path / "out", compression="gzip")
    check(tmp_path / "out", [FIRST, SECOND])
    with open_archive(tmp_path / "out") as source:
        for image in source.images():
            assert all(layer.media_type.endswith("+gzip") for layer in image.layers)
            assert sum(layer.size for layer in image.layers) < 10_000


@pytest.mark.parametrize("form", FORMS)
def test_the_same_bytes_every_time(tmp_path: Path, form: str) -> None:
    seen = []
    for number in range(2):
        target = tmp_path / f"out{number}"
        write(form, [FIRST, SECOND], target)
        files = sorted(target.rglob("*")) if target.is_dir() else [target]
        seen.append([(path.name, path.read_bytes()) for path in files if path.is_file() and path != target])
        seen[-1] += [("", target.read_bytes())] if target.is_file() else []
    assert seen[0] == seen[1]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_a_stream(tmp_path: Path, form: str) -> None:
    out = io.BytesIO()
    write(form, [FIRST], out)
    write(form, [FIRST], tmp_path / "out")
    assert out.getvalue() == (tmp_path / "out").read_bytes()
    program = (
        "import sys\nfrom tests.images.test_write import FIRST, write\n"
        f"write({form!r}, [FIRST], sys.stdout.buffer)\n"
    )
    run("sh", "-c", f'{sys.executable} -c "$0" | cmp - {tmp_path}/out', program)


@pytest.mark.parametrize("form", FORMS)
def test_skopeo_reads_it(tmp_path: Path, tool: Callable[[str], str], form: str) -> None:
    tool("skopeo")
    path = tmp_path / "out"
    write(form, [FIRST, SECOND], path)
    names = {
        "docker-archive": ["first:1", "quay.io/a/b:2", "second:1"],
        "oci-archive": ["docker.io/library/first:1", "2", "docker.io/library/second:1"],
        "oci-dir": ["docker.io/library/first:1", "2", "docker.io/library/second:1"],
    }[form]
    for name, sample in zip(names, [FIRST, FIRST, SECOND], strict=True):
        source = f"{'oci' if form == 'oci-dir' else form}:{path}:{name}"
        config = run("skopeo", "inspect", "--raw", "--config", source)
        assert config.encode().rstrip(b"\n") == sample.config
        run(
            "skopeo",
            "--insecure-policy",
            "copy",
            "-q",
            source,
            f"dir:{tmp_path}/copied-{name.replace('/', '-')}",
        )


def test_umoci_unpacks_it(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("umoci")
    write("oci-dir", [FIRST], tmp_path / "layout", compression="gzip")
    run("umoci", "raw", "unpack", "--rootless", "--image", f"{tmp_path}/layout:1", tmp_path / "root")
    assert (tmp_path / "root/etc/hostname").read_bytes() == b"changed\n"


def test_what_docker_looks_for(tmp_path: Path) -> None:
    write("docker-archive", [FIRST, NAMELESS], tmp_path / "out")
    with tarfile.open(tmp_path / "out") as tar:
        names = tar.getnames()
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]  # it is there
        repositories = json.load(tar.extractfile("repositories"))  # type: ignore[arg-type]
    assert len(names) == len(set(names))
    assert [entry["RepoTags"] for entry in manifest] == [["first:1", "quay.io/a/b:2"], None]
    for entry in manifest:
        assert {entry["Config"], *entry["Layers"]} <= set(names)
    assert set(repositories) == {"first", "quay.io/a/b"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", ["short", "long", "other", "config", "failing"])
def test_a_wrong_layer_leaves_nothing_behind(tmp_path: Path, form: str, fault: str) -> None:
    image = out_image(FIRST)
    layer = image.layers[1]

    def failing(sink: Any) -> None:
        sink.write(b"some")
        raise NotFoundError("the volume is gone")

    data = FIRST.layers[1]
    wrong = {
        "short": OutLayer(layer.diff_id, layer.size, lambda sink: sink.write(data[:-1])),
        "long": OutLayer(layer.diff_id, layer.size, lambda sink: sink.write(data + b"x")),
        "other": OutLayer(layer.diff_id, layer.size, lambda sink: sink.write(bytes(len(data)))),
        "config": OutLayer(digest_of(b""), 0, lambda sink: None),
        "failing": OutLayer(layer.diff_id, layer.size, failing),
    }[fault]
    image = OutImage(image.references, image.config, [image.layers[0], wrong, image.layers[2]])
    (tmp_path / "out").mkdir() if form == "oci-dir" else (tmp_path / "out").write_bytes(b"the old one")
    expected = NotFoundError if fault == "failing" else CorruptError
    if form == "docker-archive":
        with pytest.raises(expected):
            write_docker_archive([image], tmp_path / "out")
    else:
        with pytest.raises(expected):
            write_oci_layout([image], tmp_path / "out", form == "oci-archive", compression="gzip")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    if form != "oci-dir":
        assert (tmp_path / "out").read_bytes() == b"the old one"


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/something").write_bytes(b"x")
    with pytest.raises(ExistsError, match="something already"):
        write("oci-dir", [FIRST], tmp_path / "full")
    with pytest.raises(ExistsError, match="it is a folder"):
        write("docker-archive", [FIRST], tmp_path)
    for form in FORMS:
        with pytest.raises(LamellaError):
            write(form, [FIRST], tmp_path / "no/such/folder")
        with pytest.raises(BadInputError):
            write_docker_archive([OutImage([], b"rubbish", [])], tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(NoSpaceError, match="No space left"):
        write("docker-archive", [FIRST], full)


def test_a_layer_over_8_gib_has_a_header(tmp_path: Path) -> None:
    from lamella.images.write import _TarTarget

    out = io.BytesIO()
    _TarTarget(out).add_sized("big", (9 << 30) + 5, lambda sink: None)
    (tmp_path / "big.tar").write_bytes(out.getvalue())
    os.truncate(tmp_path / "big.tar", 10 << 30)
    with tarfile.open(tmp_path / "big.tar") as tar:
        assert tar.getmember("big").size == (9 << 30) + 5


@pytest.mark.slow
def test_debian_goes_through_all_forms(tmp_path: Path, tool: Callable[[str], str]) -> None:
    built = debian_image()
    with open_archive(built.docker_archive) as source:
        (image,) = source.images()

        def writer(number: int) -> Callable[[Any], None]:
            def write_to(sink: Any) -> None:
                with image.layers[number].open() as stream:
                    for piece in stream.pieces():
                        sink.write(piece)

            return write_to

        out = OutImage(
            image.references,
            image.config,
            [
                OutLayer(layer.diff_id, layer.size, writer(number))
                for number, layer in enumerate(image.layers)
            ],
        )
        write_docker_archive([out], tmp_path / "docker.tar")
        write_oci_layout([out], tmp_path / "layout", False, compression="gzip")
    copied = f"docker-archive:{tmp_path}/again.tar:debian:2"
    run("skopeo", "--insecure-policy", "copy", "-q", f"docker-archive:{tmp_path}/docker.tar", copied)
    for path in (tmp_path / "layout", tmp_path / "again.tar"):
        with open_archive(path) as source:
            assert source.images()[0].config_digest == built.image_id
            for layer in source.images()[0].layers:
                with layer.open() as stream:
                    stream.verify()
