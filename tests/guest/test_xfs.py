# SPDX-License-Identifier: Apache-2.0
"""A store with dm.fs=xfs and one with ext4 in the kernel: the same images, changes, layers and trees."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.errors import UnsupportedError
from lamella.fs.tar.read import read_tar
from lamella.images.sample import write_sample
from lamella.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
OPTIONS = ("dm.basesize=320M", "dm.loopdatasize=2G", "dm.loopmetadatasize=8M", "dm.min_free_space=0%")
XFS = ("dm.fs=xfs", "dm.xfs_nospace_max_retries=3", "dm.mountopt=nodiscard")


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Folders for two stores, whose pools are deactivated at the end."""
    found = tmp_path / "xfs", tmp_path / "ext4"
    try:
        yield found
    finally:
        for root in found:
            if Store.exists(root):
                for point in (root / "mnt").glob("*"):
                    subprocess.run(["umount", str(point)], check=False)
                with Store.open(root, engine="kernel") as store:
                    store.teardown(force=True)


def _tree(store: Store, name: str) -> dict[bytes, object]:
    """Everything in a tree: attributes and digests of files."""
    out = io.BytesIO()
    store.export(name, out)
    out.seek(0)
    found: dict[bytes, object] = {}
    for entry, payload in read_tar(out):
        digest = hashlib.sha256(payload.read() if payload.size else b"").hexdigest()
        # The root was made with the store; a directory that was only implied, with its layer.
        found[entry.path] = (
            entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.target, entry.xattrs, digest,
        )  # fmt: skip
    return found


def _used(store: Store, image: str, source: Path) -> tuple[list[str], list[str], dict[bytes, object]]:
    """The results of the commands in a store: the diff, the committed layers, the container's tree."""
    store.create(image, name="box")
    store.copy_in("box", str(source), b"/srv")
    store.copy_in("box", str(source / "one"), b"/etc/motd")
    diff = [str(change) for change in store.diff("box")]
    store.commit("box", "made:1")
    layers = store.inspect("made:1")["RootFS"]["Layers"]
    return diff, layers, _tree(store, "box")


def test_as_in_an_ext4_store(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    archive, source, saved = tmp_path / "sample.tar", tmp_path / "source", tmp_path / "saved.tar"
    write_sample(archive)
    (source / "below").mkdir(parents=True)
    for path in (source / "one", source / "below/two"):
        path.write_text("text\n" * 5000)
        os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    for path in (source / "below", source):
        os.utime(path, ns=(1, 1_600_000_000_987_654_321))
    root = roots[0]
    results = []
    with Store.setup(root, storage_options=(*OPTIONS, *XFS), engine="kernel") as store:
        image = store.load(archive)[0]
        results.append(_used(store, image.id, source))
        store.save(["made:1"], saved)
        lines = dict(store.info().lines())
        assert lines["Backing Filesystem"] == "xfs"
        assert not store.check().problems
        assert Path("/proc/self/mountinfo").read_text().count(" xfs ") == 0
    _mounted(root)
    with Store.setup(roots[1], storage_options=OPTIONS, engine="kernel") as store:
        results.append(_used(store, store.load(archive)[0].id, source))
        again = store.load(saved)  # every digest is verified
        assert store.inspect(again[0].id)["RootFS"]["Layers"] == results[0][1]
    assert results[0][0] == results[1][0]
    assert results[0][1] == results[1][1]
    assert results[0][2] == results[1][2]
    _without_the_kernel(root)


def _mounted(root: Path) -> None:
    """Read and extend a mounted container."""
    with Store.open(root, engine="kernel") as store:
        _use_mounted(store, store.mount("box"))
    Store.unmount("box", root=root)


def _use_mounted(store: Store, point: Path) -> None:
    number = os.stat(point).st_dev
    node = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    retries = Path(f"/sys/fs/xfs/{node}/error/metadata/ENOSPC/max_retries")
    assert retries.read_text().strip() == "3"
    (point / "while-mounted").write_text("by the kernel")
    (point / "etc/motd").write_text("changed")
    with store.tree("box") as tree:
        assert b"".join(tree.read(b"/while-mounted")) == b"by the kernel"
    assert "A /while-mounted" in [str(change) for change in store.diff("box")]
    before = os.statvfs(point)
    store.resize("box", 640 * MIB)
    after = os.statvfs(point)
    assert after.f_blocks * after.f_frsize > before.f_blocks * before.f_frsize + 300 * MIB


def _without_the_kernel(root: Path) -> None:
    """xfs_repair finds no problem; the user engine lists and checks, and explains why it reads no files."""
    with Store.open(root, engine="kernel") as store:
        node = str(store.activate(["box"])[1])
        done = subprocess.run(["xfs_repair", "-n", node], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with store.tree("box") as tree:
            assert b"".join(tree.read(b"/etc/motd")) == b"changed"
    Store.deactivate(root=root)
    with Store.open(root, engine="user") as store:
        assert len(store.images()) == 2
        assert store.containers()[0].size == 640 * MIB
        assert not store.check().problems
        store.create("made:1", name="other")
        with pytest.raises(UnsupportedError, match="only the kernel"):
            store.tree("other")
        with pytest.raises(UnsupportedError, match="only the kernel"):
            store.diff("other")
    with Store.open(root, engine="kernel") as store, store.tree("other") as tree:
        assert b"".join(tree.read(b"/srv/one")) == b"text\n" * 5000
