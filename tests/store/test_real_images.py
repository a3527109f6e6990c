# SPDX-License-Identifier: Apache-2.0
"""Real images, Debian and busybox, by every way into the store; the judges are the real tools."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice
from lamella.fs.entry import Kind
from lamella.store import Store
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.dump import dump
from tests.fs.trees import by_path, host_entries, plain
from tests.support.debian import Built, busybox_image, debian_image
from tests.support.images import run
from tests.support.registry import running_registry
from tests.support.stores import assert_sound, assert_sound_for_real_tools, metadata_file
from tests.thin.plain_dumps import plain as without_shared_runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.fs.entry import Entry

IMAGES = {"debian": debian_image, "busybox": busybox_image}


@pytest.fixture(scope="module", params=["busybox", pytest.param("debian", marks=pytest.mark.slow)])
def built(request: pytest.FixtureRequest) -> Built:
    return IMAGES[request.param]()


@pytest.fixture(scope="module")
def unpacked(
    built: Built, tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]
) -> dict[bytes, Entry]:
    """What ``umoci unpack`` makes of the image, with a digest of each file's bytes in ``target``."""
    if os.getuid() != 0:
        pytest.skip("umoci keeps owners and device nodes only as root")
    bundle = tmp_path_factory.mktemp("umoci") / "bundle"
    run(tool("umoci"), "unpack", "--image", f"{built.layout}:{built.tag}", bundle)
    found = described(bundle / "rootfs")
    shutil.rmtree(bundle)
    return found


def described(top: Path) -> dict[bytes, Entry]:
    entries = by_path(plain(host_entries(top)))
    for path, entry in entries.items():
        if entry.kind is Kind.FILE:
            with open(os.path.join(os.fsencode(top), path), "rb") as file:
                entry.target = hashlib.file_digest(file, "sha256").digest()
    return entries


def in_store(store: Store, name: str) -> dict[bytes, Entry]:
    with store.tree(name) as tree:
        entries = by_path(plain(tree.walk()))
        for path, entry in entries.items():
            if entry.kind is Kind.FILE:
                digest = hashlib.sha256()
                for piece in tree.read(path):
                    digest.update(piece)
                entry.target = digest.digest()
    return entries


@pytest.mark.parametrize("way", ["docker_archive", "oci_archive", "layout", "registry"])
def test_by_every_way(
    built: Built, unpacked: dict[bytes, Entry], way: str, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    root = tmp_path / "root"
    with Store.setup(root) as store:
        if way == "registry":
            (tmp_path / "registry").mkdir()
            with running_registry(tmp_path / "registry") as registry:
                name = registry.push(f"oci:{built.layout}:{built.tag}", f"{built.name}:1")
                image = store.pull(name, insecure_registry=True)
        else:
            (image,) = store.load(getattr(built, way))
        assert image.id == built.image_id
        assert in_store(store, image.id) == unpacked
        made = store.create(image.id)
        assert store.diff(made.id) == []
    assert_sound(root)
    assert_sound_for_real_tools(root, tmp_path)
    with metadata_file(root, tmp_path) as metadata:
        _compare_with_thin_dump(metadata, tool("thin_dump"))


def _compare_with_thin_dump(metadata: Path, program: str) -> None:
    """Both dumps as the mappings that they say, however each of them cuts these into ranges."""
    theirs = mappings(run(program, metadata))
    ours: list[bytes] = []
    with FileDevice(metadata, read_only=True) as device:
        dump(Metadata.open(device), ours.append)
    assert mappings(b"".join(ours).decode()) == theirs


def mappings(xml: str) -> dict[str, list[tuple[int, int, int]]]:
    found: dict[str, list[tuple[int, int, int]]] = {}
    for device in ElementTree.fromstring(without_shared_runs(xml)):
        lines = found.setdefault(device.attrib["dev_id"], [])
        for one in device:
            length = int(one.attrib.get("length", 1))
            start = int(one.attrib.get("origin_begin", one.attrib.get("origin_block", 0)))
            data = int(one.attrib.get("data_begin", one.attrib.get("data_block", 0)))
            lines += [(start + n, data + n, int(one.attrib["time"])) for n in range(length)]
    return found


def test_exported_and_saved(
    built: Built, unpacked: dict[bytes, Entry], tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """The exported tree, unpacked by GNU tar, is umoci's; and what is saved is what came, for skopeo too."""
    with Store.setup(tmp_path / "root") as store:
        store.load(built.layout)
        store.export(built.image_id, tmp_path / "tree.tar")
        store.save([built.image_id], tmp_path / "saved.tar")
    (tmp_path / "tree").mkdir()
    command = [
        tool("tar"),
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "-xpf",
        tmp_path / "tree.tar",
    ]
    subprocess.run([*command, "-C", tmp_path / "tree"], check=True)
    assert described(tmp_path / "tree") == unpacked
    copied = tmp_path / "copied"
    run(
        tool("skopeo"),
        "--insecure-policy",
        "copy",
        "-q",
        f"docker-archive:{tmp_path}/saved.tar",
        f"oci:{copied}:x",
    )
    shown = run(tool("skopeo"), "inspect", "--raw", "--config", f"docker-archive:{tmp_path}/saved.tar")
    assert "sha256:" + hashlib.sha256(shown.encode()).hexdigest() == built.image_id
    shutil.rmtree(tmp_path / "tree")
