# SPDX-License-Identifier: Apache-2.0
"""Mounting, activating and resizing, as far as it needs no device-mapper; ``tests/guest`` shows the rest.

So the store here is the user engine's also where the kernel's is tested, and the kernel's part is played.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.block.mountinfo import Mount
from lamella.cli.main import main
from lamella.driver import active_devices
from lamella.driver.active_devices import Present
from lamella.driver.device_names import device_prefix
from lamella.errors import BusyError, NotFoundError, UsageError
from lamella.store import Store, umount
from lamella.store.systemd_unit import unit
from tests.support.images import Sample, write_oci_layout
from tests.support.stores import SMALL, assert_sound_for_real_tools

if TYPE_CHECKING:
    from collections.abc import Callable

UNIT = Path(__file__).parents[2] / "contrib" / "systemd" / "lamella-activate.service"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a container "box", on the user engine."""
    root = tmp_path / "root"
    with Store.setup(root, storage_options=SMALL, engine="user") as store:
        store.load(write_oci_layout(tmp_path / "layout", [Sample()]))
        store.create("sample", name="box")
    return root


def pretend(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hash_: str, *points: str, suspended: int = 0
) -> None:
    """Let ``/sys`` and mountinfo tell of an active device of the store, mounted at *points*."""
    folder = tmp_path / "sys" / "block" / "dm-7"
    (folder / "dm").mkdir(parents=True, exist_ok=True)
    (folder / "dm" / "name").write_text(f"{device_prefix(root)}-{hash_}\n")
    (folder / "dm" / "suspended").write_text(f"{suspended}\n")
    (folder / "dev").write_text("253:7\n")
    other = tmp_path / "sys" / "block" / "dm-8" / "dm"
    other.mkdir(parents=True, exist_ok=True)
    (other / "name").write_text("vg-lv\n")
    lines = [Mount(40 + n, 1, 253, 7, "/", at, "rw", "ext4", "x", "rw", False) for n, at in enumerate(points)]
    monkeypatch.setattr(active_devices, "SYS", tmp_path / "sys")
    monkeypatch.setattr("lamella.block.mountinfo.mounts", lambda process="self": lines)


def test_what_is_mounted_is_shown(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(root, engine="user") as store:
        [summary] = store.containers()
        assert summary.mounted == []
        assert store.inspect("box")["GraphDriver"]["State"] == {
            "Active": False,
            "Suspended": False,
            "Mounted": [],
        }
        pretend(root, tmp_path, monkeypatch, summary.id, "/srv/a", "/srv/b")
        assert active_devices.present(root) == {
            summary.id: Present(
                summary.id,
                f"{device_prefix(root)}-{summary.id}",
                253,
                7,
                False,
                active_devices.present(root)[summary.id].mounts,
            )
        }
        assert store.containers()[0].mounted == ["/srv/a", "/srv/b"]
        assert store.inspect("box")["GraphDriver"]["State"]["Mounted"] == ["/srv/a", "/srv/b"]
        assert store.info().mounted == 1
    assert main(["ps", "--root", str(root), "--engine", "user"]) == 0
    assert "/srv/a, /srv/b" in capsys.readouterr().out
    assert main(["info", "--root", str(root), "--engine", "user"]) == 0
    assert "Containers: 1\n Mounted: 1\n" in capsys.readouterr().out


def test_what_is_mounted_is_not_removed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(root, engine="user") as store:
        hash_ = store.containers()[0].id
        pretend(root, tmp_path, monkeypatch, hash_, "/srv/a")
        monkeypatch.setattr(umount.holders, "mounted", lambda *_: [])
        with pytest.raises(BusyError, match="container box is"):
            store.remove_container("box")
        assert len(store.containers()) == 1


def test_several_mount_points_are_distinguished(root: Path, tmp_path: Path) -> None:
    lines = tuple(Mount(4, 1, 253, 7, "/", at, "rw", "ext4", "x", "rw", False) for at in ("/a", "/b"))
    with pytest.raises(UsageError, match="mounted at /a, /b"):
        umount.unmount_device(
            mounting_root(root),
            Present("x", "n", 253, 7, False, lines),
            "box",
            lazy=False,
            deferred_removal=True,
        )
    with pytest.raises(NotFoundError, match="box is not mounted here"):
        umount.unmount_device(
            mounting_root(root),
            Present("x", "n", 259, 4000, False, ()),
            "box",
            lazy=False,
            deferred_removal=True,
        )


def test_an_image_with_slashes_in_its_name(root: Path, tmp_path: Path) -> None:
    for name in ("docker.io/library/sample:latest", "library/sample"):
        with pytest.raises(NotFoundError, match=f"{name} is not mounted"):
            Store.unmount(name, root=root)
    for name in ("ghcr.io/some/other:1", f"{tmp_path}/nowhere", "./nowhere"):
        with pytest.raises(NotFoundError, match=f"store is called {name}, or mounted there"):
            Store.unmount(name, root=root)


def mounting_root(path: Path) -> umount.Root:
    from lamella.store.root import Root

    return Root.at(path)


def test_without_the_kernel(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--root", str(root)]
    assert main(["mount", *shared, "--engine", "user", "box"]) == UsageError.exit_code
    assert "has no device nodes" in capsys.readouterr().err
    assert main(["umount", *shared, "box"]) == NotFoundError.exit_code
    assert "box is not mounted" in capsys.readouterr().err
    assert main(["umount", *shared, str(tmp_path)]) == NotFoundError.exit_code
    assert main(["umount", *shared, "nobody"]) == NotFoundError.exit_code
    assert main(["umount", *shared, f"{tmp_path}/nowhere"]) == NotFoundError.exit_code
    assert main(["deactivate", *shared, "--all"]) == 0
    assert "Nothing" in capsys.readouterr().out
    assert main(["deactivate", *shared, "box"]) == 0
    assert capsys.readouterr().out == "box was not active.\n"


def test_resize(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the engine that is tested."""
    shared = ["--root", str(root)]
    assert main(["resize", *shared, "box", "96M"]) == 0
    assert capsys.readouterr().out == "box has 100.7MB now.\n"
    assert main(["resize", *shared, "box", "+32M"]) == 0
    with Store.open(root) as store:
        assert store.containers()[0].size == 128 << 20
        with store.tree("box") as tree:
            assert b"".join(tree.read(b"/etc/hostname")) == b"changed\n"
        assert store.check().problems == []
        with store.devices.volume(store.containers()[0].id) as volume:
            assert volume.size == 128 << 20
    capsys.readouterr()
    assert main(["resize", *shared, "box", "64M"]) == UsageError.exit_code
    assert "cannot be reduced" in capsys.readouterr().err
    assert main(["resize", *shared, "box", "999T"]) == UsageError.exit_code
    assert main(["resize", *shared, "nobody", "1G"]) == NotFoundError.exit_code
    assert_sound_for_real_tools(root, tmp_path)


ODD = r'/srv/100% of "a\b" $HOME'


def test_the_unit(capsys: pytest.CaptureFixture[str]) -> None:
    assert UNIT.read_text() == unit(["/usr/bin/lamella"], Path("/var/lib/lamella"))
    assert main(["activate", "--print-unit", "--root", ODD]) == 0
    shown = capsys.readouterr().out
    # What systemd does with each is told by: SYSTEMD_LOG_LEVEL=debug systemd-analyze verify
    assert r'RequiresMountsFor="/srv/100%% of \"a\\b\" $HOME"' + "\n" in shown
    assert r'ConditionPathExists=/srv/100%% of "a\b" $HOME/config.toml' + "\n" in shown
    assert r'--root "/srv/100%% of \"a\\b\" $$HOME" --wait 60 activate' + "\n" in shown
    with pytest.raises(UsageError, match="systemd"):
        unit(["lamella"], Path("/srv/a\nExecStart=/bin/sh"))


@pytest.mark.user_engine  # nothing of an engine is in it, and the guest has no systemd to ask
def test_the_unit_pleases_systemd(tmp_path: Path, tool: Callable[[str], str]) -> None:
    path = tmp_path / "lamella-activate.service"
    path.write_text(unit(["true", "-m", "lamella"], Path(ODD)))
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", path], capture_output=True, text=True, check=False
    )
    # It also tells what it thinks of units that ours only comes before or after.
    ours = [line for line in done.stderr.splitlines() if path.name in line]
    assert (done.returncode, ours) == (0, [])
