# SPDX-License-Identifier: Apache-2.0
"""containerd's snapshots while they are mounted, as the kernel's own devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.store.hosting import HostedStore
from tests.guest.machine import mounted
from tests.guest.stores_in_kernel import kernel_store

if TYPE_CHECKING:
    from pathlib import Path


def test_a_commit_while_it_is_mounted_has_what_was_there(tmp_path: Path) -> None:
    """The device that is mounted stays until it is unmounted, and goes then."""
    with kernel_store(tmp_path) as root, HostedStore.open(root, engine="kernel") as host:
        made, state = host.snapshots, host.devices.state
        (mount,) = made.prepare("a", "", {})
        device = made._catalog.get("a").device
        with mounted(mount.source, tmp_path / "mounted") as folder:
            (folder / "before").write_text("before\n")
            made.commit("A", "a", {})
            (folder / "after").write_text("after\n")
            assert (folder / "before").read_text() == "before\n"
            old = state.device(device)
            assert old is not None
            assert old.deleted
        made.clean_up()
        assert state.device(device) is None
        (view,) = made.view("v", "A", {})
        with mounted(view.source, tmp_path / "view", "-o", ",".join(view.options)) as folder:
            assert [path.name for path in folder.iterdir()] == ["before"]
        made.remove("v")
        made.remove("A")
        assert not state.devices(deleted=True)
