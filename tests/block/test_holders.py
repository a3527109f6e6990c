# SPDX-License-Identifier: Apache-2.0
"""Who holds a block device: found on this machine's own kernel, over a loop device."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from lamella.block import holders, loop, mountinfo
from lamella.block.holders import Holder, Kind, describe
from lamella.errors import BusyError, LamellaError
from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def device(tmp_path: Path, tool: Callable[[str], str]) -> Iterator[loop.LoopDevice]:
    """A loop device with an ext4, held only by the descriptor in this process."""
    if not loop.available():
        missing("a loop device that we may use")
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run([tool("mkfs.ext4"), "-q", "-O", "^has_journal", path], check=True)
    try:
        made = loop.attach(path)
    except LamellaError as error:
        missing(f"a usable loop device ({error})")
    with made:
        yield made
    with suppress(LamellaError):
        for info in loop.find(path):
            loop.detach(info)


def seen(found: list[Holder]) -> list[Holder]:
    """Without what could not be inspected: these tests may run in a container."""
    return [each for each in found if each.kind is not Kind.UNSEEN]


@contextmanager
def helper(program: str, *arguments: str, namespace: bool = False) -> Iterator[int]:
    """A process that runs *program* and then waits until we are done with it; gives its id."""
    command = [sys.executable, "-c", program + "\nprint('ready', flush=True)\nsys.stdin.read()", *arguments]
    before = ["unshare", "-m", "--propagation", "private"] if namespace else []
    process = subprocess.Popen([*before, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            missing("a helper process with the rights to mount")
        yield process.pid
    finally:
        process.communicate()


def mount(path: str, point: Path) -> None:
    if subprocess.run(["mount", path, point], check=False, capture_output=True).returncode:
        missing("the right to mount")


def test_a_process_that_has_it_open(device: loop.LoopDevice) -> None:
    numbers = device.device
    [me] = seen(holders.holders(*numbers))
    assert (me.kind, me.process) == (Kind.OPEN, os.getpid())
    assert describe([me]) == f"open in this process ({os.getpid()})"
    with helper("import sys; device = open(sys.argv[1], 'rb')", device.path) as process:
        found = [each for each in holders.holders(*numbers) if each.process == process]
        assert len(found) == 1
        assert describe(found).startswith(f"open in process {process} (")
        assert str(process) in str(holders.advice(found))


def test_a_node_of_another_name(device: loop.LoopDevice, tmp_path: Path) -> None:
    """A process that opened it by a node outside of any /dev is found where nothing else was."""
    numbers = device.device
    node = tmp_path / "node"
    os.mknod(node, 0o060600, os.makedev(*numbers))
    with helper("import sys; device = open(sys.argv[1], 'rb')", str(node)) as process:
        backing = loop.find(tmp_path / "file")
        assert len(backing) == 1
        device.close()
        assert [each.process for each in holders.holders(*numbers) if each.kind is Kind.OPEN] == [process]


def test_mounts_here_and_elsewhere(device: loop.LoopDevice, tmp_path: Path) -> None:
    numbers = device.device
    here, there = tmp_path / "a b", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    program = "import subprocess, sys; subprocess.run(['mount', *sys.argv[1:3]], check=True)"
    mount(device.path, here)
    try:
        found = [each for each in holders.holders(*numbers) if each.kind is Kind.MOUNT]
        assert f"mounted at {here}" in describe(found)
        assert not found[0].elsewhere
        assert holders.advice(found) == f"unmount it: umount '{here}'"
        [line] = [each for each in mountinfo.mounts() if (each.major, each.minor) == numbers]
        assert (line.point, line.root, line.filesystem, line.source) == (str(here), "/", "ext4", device.path)
        assert not line.read_only
        with helper("import os, sys; os.chdir(sys.argv[1])", str(here)) as process:
            assert describe(each for each in holders.users(*numbers) if each.process == process) == (
                f"process {process} ({name_of(process)}) uses {here}"
            )
    finally:
        subprocess.run(["umount", here], check=True)
    with helper(program, device.path, str(there), namespace=True) as process:
        device.close()
        found = [each for each in holders.holders(*numbers) if each.kind is Kind.MOUNT]
        assert describe(found) == (
            f"mounted at {there} by process {process} ({name_of(process)}), in another mount namespace"
        )
        assert f"nsenter -t {process} -m umount {there}" in str(holders.advice(found))
        assert [each.process for each in holders.mounted(*numbers)] == [process]


def name_of(process: int) -> str:
    with open(f"/proc/{process}/comm") as file:
        return file.read().strip()


def test_a_namespace_without_processes(device: loop.LoopDevice, tmp_path: Path) -> None:
    """Kept by an open file only: its mounts cannot be listed, but its keeper can be named."""
    numbers = device.device
    mounting = "import subprocess, sys; subprocess.run(['mount', *sys.argv[1:3]], check=True)"
    point = tmp_path / "there"
    point.mkdir()
    with helper(mounting, device.path, str(point), namespace=True) as process:
        space = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY)
    device.close()
    try:
        [found] = [each for each in holders.holders(*numbers) if each.process == os.getpid()]
        assert found.kind is Kind.NAMESPACE
        assert "keeps a mount namespace open" in str(found)
    finally:
        os.close(space)


def test_swap_and_devices_above(
    device: loop.LoopDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Laid out as the kernel does; the real ones are looked at in the guest."""
    major, minor = device.device
    proc, sys_ = tmp_path / "proc", tmp_path / "sys"
    proc.mkdir()
    (proc / "self" / "ns").mkdir(parents=True)
    (proc / "swaps").write_text(f"Filename Type Size Used Priority\n{device.path} partition 100 0 -2\n")
    above = sys_ / "dev" / "block" / f"{major}:{minor}" / "holders"
    above.mkdir(parents=True)
    (above / "dm-3").mkdir()
    (above / "md0").mkdir()
    (sys_ / "block" / "dm-3" / "dm").mkdir(parents=True)
    (sys_ / "block" / "dm-3" / "dm" / "name").write_text("docker-pool\n")
    (sys_ / "block" / "loop9" / "loop").mkdir(parents=True)
    (sys_ / "block" / "loop9" / "loop" / "backing_file").write_text(device.path + "\n")
    monkeypatch.setattr(holders, "PROC", proc)
    monkeypatch.setattr(holders, "SYS", sys_)
    found = seen(holders.holders(major, minor))
    assert describe(found) == (
        f"swap area {device.path}; device docker-pool is stacked on it; device md0 is stacked on it; "
        "device loop9 is stacked on it"
    )
    assert holders.advice(found) == f"turn it off: swapoff {device.path}"


def test_an_error_that_names_them(device: loop.LoopDevice) -> None:
    error = BusyError("cannot remove x: Device or resource busy", hint="try again")
    error.__cause__ = OSError(16, "busy")
    told = holders.explained(error, *device.device)
    expected = f"cannot remove x: Device or resource busy: open in this process ({os.getpid()})"
    assert told.message.startswith(expected)
    assert told.__cause__ is error.__cause__
    nobody = holders.explained(error, 259, 1 << 19)
    assert "held by something that cannot be seen" in nobody.message
    assert nobody.hint == "try again"


def test_an_ordinary_user_is_reported_what_it_cannot_see(device: loop.LoopDevice) -> None:
    program = (
        "import os, sys\n"
        "from lamella.block.holders import describe, holders\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(describe(holders(*map(int, sys.argv[1:]))))\n"
    )
    numbers = [str(number) for number in device.device]
    done = subprocess.run(
        [sys.executable, "-c", program, *numbers], capture_output=True, text=True, check=True
    )
    assert "held by something that cannot be seen; " in done.stdout
    assert "could not be inspected: run it as root" in done.stdout


def test_many_are_counted() -> None:
    found = [Holder(Kind.OPEN, "/dev/x", number, "sh") for number in range(1, 9)]
    assert describe(found).endswith("open in process 5 (sh); and 3 more of this kind")
    assert describe([]) == "held by something that cannot be seen"
    assert describe([Holder(Kind.SWAP, "/dev/x")]) == "swap area /dev/x"


def test_odd_bytes_of_others_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process's name, a mount point and a loop device's file are anybody's choice."""
    proc, sys_ = tmp_path / "proc", tmp_path / "sys"
    (proc / "self" / "ns").mkdir(parents=True)
    (proc / "swaps").write_bytes(b"Filename Type Size Used Priority\n/srv/\xff file 100 0 -2\n")
    (sys_ / "block" / "loop9" / "loop").mkdir(parents=True)
    (sys_ / "block" / "loop9" / "loop" / "backing_file").write_bytes(b"/srv/\xff\n")
    monkeypatch.setattr(holders, "PROC", proc)
    monkeypatch.setattr(holders, "SYS", sys_)
    assert seen(holders.holders(259, 1 << 19)) == []
    told = describe(
        [
            Holder(Kind.MOUNT, "/a\n\x1b[2Jb\udcff", 7, "x\x1b]0;", elsewhere=True),
            Holder(Kind.SWAP, "/s\rw"),
            Holder(Kind.UNSEEN, "some"),
        ]
    )
    assert told == (
        "mounted at /a\\n\\x1b[2Jb\\udcff by process 7 (x\\x1b]0;), in another mount namespace; "
        "swap area /s\\rw; some"
    )
    hostile = Holder(Kind.MOUNT, "/a b;reboot\x1b")
    assert holders.advice([hostile]) == "unmount it: umount '/a b;reboot\\x1b'"


def test_mountinfo_of_odd_names() -> None:
    text = (
        rb"36 35 98:0 /sub\040dir /mnt/a\134b\012c rw,noatime shared:1 master:2 - ext3 /dev/root rw,stripe=1"
        b"\n37 35 0:5 / /p ro - tmpfs none rw\nno such line\n"
    )
    first, second = mountinfo.parse(text)
    assert (first.root, first.point, first.shared) == ("/sub dir", "/mnt/a\\b\nc", True)
    assert (first.major, first.minor, first.options) == (98, 0, "rw,noatime")
    assert (second.point, second.read_only, second.shared) == ("/p", True, False)
