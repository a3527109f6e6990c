# SPDX-License-Identifier: Apache-2.0
"""A container made in user space, mounted and changed by the kernel, and read in user space again."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

import lamella
from lamella.block import loop
from lamella.images.sample import write_sample
from tests.guest.machine import dmsetup, no_activation_by_events, node, run
from tests.support.stores import MODES, files_of, lvm_settings, set_up

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = ("dm.basesize=256M", "dm.loopdatasize=512M", "dm.loopmetadatasize=8M", "dm.min_free_space=0%")


def test_a_kernel_mounts_what_we_unpacked(tmp_path: Path) -> None:
    archive, exported, root, mounted = (tmp_path / name for name in ("image", "tar", "root", "mounted"))
    write_sample(archive)
    with lamella.Store.setup(root, storage_options=OPTIONS, engine="user") as store:
        image = store.load(archive)[0]
        store.create(image.id, name="box")
        store.export("box", exported)
        facts = store.inspect("box")["GraphDriver"]["Data"]
        sectors = int(facts["DeviceSize"]) // 512
    mounted.mkdir()
    data, metadata = (
        run("losetup", "-f", "--show", str(root / "pool" / name)).strip() for name in ("data", "metadata")
    )
    try:
        dmsetup(
            "create",
            "judge",
            "--table",
            f"0 {(512 << 20) // 512} thin-pool {metadata} {data} 128 0 1 skip_block_zeroing",
        )
        dmsetup("create", "box", "--table", f"0 {sectors} thin {node('judge')} {facts['DeviceId']}")
        run("e2fsck", "-fn", node("box"))
        run("mount", "-t", "ext4", node("box"), str(mounted))
        try:
            same = subprocess.run(
                ["tar", "--compare", "--file", exported, "--directory", mounted],
                capture_output=True,
                text=True,
                check=False,
            )
            assert same.returncode == 0, same.stdout + same.stderr
            (mounted / "srv").mkdir()
            for number in range(300):
                (mounted / "srv" / f"by-the-kernel-{number}").write_text("kernel\n" * number)
            (mounted / "app" / "main.py").unlink()
            (mounted / "etc" / "motd").write_text("changed\n")
        finally:
            run("umount", str(mounted))
        run("e2fsck", "-fn", node("box"))
    finally:
        for name in ("box", "judge"):
            dmsetup("remove", "--retry", name)
        for loop in (data, metadata):
            run("losetup", "-d", loop)
    run("thin_check", "-q", str(root / "pool" / "metadata"))
    with lamella.Store.open(root, engine="user") as store:
        changes = [str(change) for change in store.diff("box")]
        assert changes[:3] == ["C /app", "D /app/main.py", "C /etc"]
        assert "A /srv/by-the-kernel-299" in changes
        with store.tree("box") as tree:
            assert b"".join(tree.read(b"/srv/by-the-kernel-3")) == b"kernel\n" * 3
            assert b"".join(tree.read(b"/etc/motd")) == b"changed\n"
        store.commit("box", "mine:1")
        assert store.check().problems == []


@pytest.mark.parametrize("mode", MODES)
def test_a_loop_device_that_another_process_has_open_is_waited_for(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """udev opens a device for a moment after each change; here it is open for longer."""
    root = tmp_path / "root"
    monkeypatch.setenv("LAMELLA_ENGINE", "kernel")
    with lvm_settings(tmp_path), no_activation_by_events():
        set_up(root, mode).close()
        nodes = [os.open(found.path, os.O_RDONLY) for path in files_of(root) for found in loop.find(path)]
        assert len(nodes) == 2

        def look_away() -> None:
            for node in nodes:
                os.close(node)

        later = threading.Timer(1.5, look_away)
        later.start()
        lamella.Store.deactivate(root=root)
        later.join()
        with lamella.Store.open(root, engine="user") as store:
            assert store.info().filesystem == "ext4"
            store.teardown()
