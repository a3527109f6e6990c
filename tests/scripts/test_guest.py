# SPDX-License-Identifier: Apache-2.0
"""The guest of the tests: which monitor runs it, and what is seen of it from outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.guest import machine, roots, uml
from scripts.guest.cache import made_once
from scripts.guest.folders import temporary_folder
from scripts.guest.packages import PROJECT
from scripts.processes import in_group

from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _chosen_anew() -> Iterator[None]:
    machine.user_mode_linux.cache_clear()
    yield
    machine.user_mode_linux.cache_clear()


def _unusable() -> None:
    raise uml.Unusable("the kernel does not start on this processor (exit code 1): ptrace")


def test_qemu_where_user_mode_linux_is_not_usable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LAMELLA_GUEST", raising=False)
    monkeypatch.setattr(uml, "UserModeLinux", _unusable)
    assert machine.user_mode_linux() is None
    said = "guest: QEMU (the kernel does not start on this processor (exit code 1): ptrace)\n"
    assert capsys.readouterr().err == said
    assert machine.user_mode_linux() is None
    assert capsys.readouterr().err == ""


def test_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(uml, "UserModeLinux", _unusable)
    monkeypatch.setenv("LAMELLA_GUEST", "uml")
    with pytest.raises(SystemExit, match="cannot be used: the kernel does not start"):
        machine.user_mode_linux()
    monkeypatch.setenv("LAMELLA_GUEST", "qemu")
    assert machine.user_mode_linux() is None
    assert capsys.readouterr().err == "guest: QEMU (LAMELLA_GUEST=qemu)\n"
    machine.user_mode_linux.cache_clear()
    monkeypatch.setenv("LAMELLA_GUEST", "xen")
    with pytest.raises(SystemExit, match="LAMELLA_GUEST=xen: uml or qemu"):
        machine.user_mode_linux()


def test_what_is_made_is_kept_until_its_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMELLA_GUEST_CACHE", str(tmp_path / "cache"))
    made = []

    def make(target: Path) -> None:
        made.append(target)
        (target / "it").write_text("made")

    first = made_once("thing", "a" * 12, make)
    assert made_once("thing", "a" * 12, make) == first
    assert len(made) == 1
    assert (first / "it").read_text() == "made"
    second = made_once("thing", "b" * 12, make)
    assert first.exists()  # somebody may be using it
    os.utime(first, (0, 0))
    third = made_once("thing", "c" * 12, make)
    assert not first.exists()
    assert second.exists()

    def fail(target: Path) -> None:
        (target / "half").write_text("")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        made_once("thing", "d" * 12, fail)
    left = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert left == [second.name, third.name, "thing.lock"]


def test_a_killed_process_leaves_no_folder_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMELLA_GUEST_CACHE", str(tmp_path / "cache"))
    script = (
        "import sys, time\nfrom scripts.guest.folders import temporary_folder\n"
        "with temporary_folder('thing', sys.argv[1]) as folder:\n"
        "    print(folder, flush=True)\n    time.sleep(1000)\n"
    )
    line = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        with temporary_folder("thing", str(tmp_path)) as ours:
            assert theirs.is_dir()
            other.kill()
            other.wait()
            with temporary_folder("thing", str(tmp_path)):
                assert ours.is_dir()
                assert not theirs.exists()
    assert not list(tmp_path.glob("lamella-thing-*"))


@pytest.fixture(scope="module")
def root() -> machine.Root:
    """The root that most tests use; it takes minutes to make, once."""
    if shutil.which("mmdebstrap") is None:
        missing("the program mmdebstrap")
    if machine.user_mode_linux() is None and shutil.which("qemu-system-x86_64") is None:
        missing("User-mode Linux, and the program qemu-system-x86_64,")
    try:
        return machine.root(machine.DEFAULT_ROOT)
    except roots.NotMade as error:
        missing(f"a guest ({error})")
        raise


def test_a_script_and_its_end(root: machine.Root, tmp_path: Path) -> None:
    share, disk = tmp_path / "a share", tmp_path / "disk"
    share.mkdir()
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    script = (
        "echo to-the-disk | dd of=${GUEST_DISKS}b conv=notrunc,fsync status=none\n"
        "echo to-the-share >/share/made\n"
        "touch /project/new 2>/dev/null && echo the project can be written\n"
        "touch /kept\n"
        "dmsetup targets | grep -q ^thin-pool && echo it has thin pools\n"
        "exit 7\n"
    )
    guest = machine.Machine(root, share, [disk])
    assert guest.run(script, 600) == (7, "it has thin pools\n")
    assert disk.read_bytes()[:12] == b"to-the-disk\n"
    assert (share / "made").read_text() == "to-the-share\n"
    # Another one is fresh.
    assert guest.run("ls /kept", 600)[0] != 0


def test_a_guest_that_takes_too_long_is_ended(root: machine.Root, tmp_path: Path) -> None:
    guest = machine.Machine(root, tmp_path)
    with pytest.raises(TimeoutError, match="the guest took more than 2 s; it had printed:"):
        guest.run("sleep 1000", 2)
    with guest.started() as process:
        assert process.pid in in_group(process.pid)
    assert in_group(process.pid) == []


def test_guests_side_by_side(root: machine.Root, capfd: pytest.CaptureFixture[str]) -> None:
    assert machine.boot_each("echo it is $1; [ $1 = good ]", ["good", "bad"], 600) == 1
    out = capfd.readouterr().out
    assert "== guest good: exit code 0\nit is good\n" in out
    assert "== guest bad: exit code 1\nit is bad\n" in out
