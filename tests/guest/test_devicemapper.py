# SPDX-License-Identifier: Apache-2.0
"""The device-mapper client, names, cookies and our dmsetup, against the kernel and the real dmsetup."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lamella
from lamella.cli.dmsetup import main_dmsetup
from lamella.devicemapper.client import GONE, DeviceMapper
from lamella.devicemapper.cookies import PRIVATE, QUIET_COOKIE, Cookie, remove_abandoned
from lamella.devicemapper.nodes import (
    Udev,
    drop_name,
    make_name,
    mangled,
    mapper_path,
    udev_cookie,
    udev_runs,
    unmangled,
)
from lamella.devicemapper.table import Error, Linear, Striped, Target, Thin, ThinPool, parse_table
from lamella.errors import BusyError, ExistsError, LamellaError, NotFoundError, UsageError
from lamella.images.sample import write_sample
from tests.guest import machine
from tests.guest.machine import run, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2048
"""Sectors."""
PREFIX = "lamella-t"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The "major:minor" of an empty disk of 64 MiB."""
    path = tmp_path_factory.mktemp("devicemapper") / "disk"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    device = run("losetup", "--find", "--show", path).strip()
    try:
        yield device_number(device)
    finally:
        run("losetup", "--detach", device)


@pytest.fixture
def dm() -> Iterator[DeviceMapper]:
    """A client; devices that a test left are removed, the topmost first."""
    with DeviceMapper() as client:
        try:
            yield client
        finally:
            for _ in range(4):
                for name, _, _ in client.list():
                    if name.startswith(PREFIX):
                        with suppress(LamellaError):
                            client.resume(name, cookie=QUIET_COOKIE)
                        with suppress(LamellaError):
                            client.remove(name, cookie=QUIET_COOKIE)
                            drop_name(name)
            left = [name for name, _, _ in client.list() if name.startswith(PREFIX)]
            assert not left


def made(dm: DeviceMapper, name: str, *table: Target, uuid: str = "", read_only: bool = False) -> str:
    """A device made without udev; gives its "major:minor"."""
    info = dm.create_with_table(PREFIX + name, table, uuid, read_only=read_only, cookie=QUIET_COOKIE)
    return info.number


def semaphores() -> list[str]:
    """The keys of all udev cookies."""
    lines = Path("/proc/sysvipc/sem").read_text().splitlines()[1:]
    return sorted(
        key for key in (f"{int(line.split()[0]) & 0xFFFFFFFF:08x}" for line in lines) if key[:4] == "0d4d"
    )


def real(*arguments: str) -> tuple[int, str, str]:
    """Exit code and output of the real dmsetup."""
    done = subprocess.run(
        ["dmsetup", *arguments], executable="/usr/sbin/dmsetup", capture_output=True, text=True, check=False
    )
    # It warns that the node of a device without a table is missing.
    said = re.sub(r"^/dev/mapper/.*: open failed: .*\n", "", done.stderr, flags=re.MULTILINE)
    return done.returncode, done.stdout, said


def test_a_device_lives_and_dies(dm: DeviceMapper, disk: str) -> None:
    name = PREFIX + "life"
    info = dm.create(name, "LAMELLA-life")
    assert (info.live_table, info.inactive_table, info.target_count) == (False, False, 0)
    assert info.uuid == "LAMELLA-life"
    with pytest.raises(ExistsError, match=name):
        dm.create(name)
    with pytest.raises(UsageError):
        dm.resume(name + "x" * 120)
    first, second = Linear(0, 8, device=disk, offset=0), Linear(0, 16, device=disk, offset=8)
    dm.load(name, [first])
    assert dm.info(name).inactive_table
    assert [line.line for line in dm.table(name, inactive=True)] == [first.line]
    assert dm.table(name) == []
    info = dm.resume(name, cookie=QUIET_COOKIE)
    assert info.live_table
    assert not info.inactive_table
    assert dm.info(uuid="LAMELLA-life") == dm.info(number=(info.major, info.minor)) == dm.info(name)
    assert dm.deps(name) == [tuple(int(part) for part in disk.split(":"))]
    assert (name, info.major, info.minor) in dm.list()
    assert real("table", name)[1] == first.line + "\n"
    dm.load(name, [second])
    assert dm.deps(name, inactive=True) == dm.deps(name)
    dm.clear(name)
    assert not dm.info(name).inactive_table
    with dm.suspended(name):
        assert dm.info(name).suspended
    assert not dm.info(name).suspended
    dm.reload(name, [second])
    assert [line.line for line in dm.table(name)] == [second.line]
    assert [line.line for line in dm.status(name)] == ["0 16 linear "]
    dm.rename(name, name + "2", cookie=QUIET_COOKIE)
    with pytest.raises(NotFoundError, match=name):
        dm.info(name)
    assert dm.find(name) is None
    assert dm.remove(name + "2", cookie=QUIET_COOKIE)
    assert dm.find(uuid="LAMELLA-life") is None


def test_a_failed_creation_leaves_nothing(dm: DeviceMapper, disk: str) -> None:
    with pytest.raises(LamellaError, match=PREFIX):
        made(dm, "failed", Linear(0, 8, device=disk, offset=1 << 40))
    with pytest.raises(UsageError):
        made(dm, "failed", Target(0, 8, "no-such-target", ""))
    assert dm.find(PREFIX + "failed") is None
    late = dm.create(PREFIX + "late")
    dm.set_uuid(PREFIX + "late", "LAMELLA-late")
    assert dm.info(number=(late.major, late.minor)).uuid == "LAMELLA-late"


def test_a_table_of_thousands_of_targets(dm: DeviceMapper, disk: str) -> None:
    table = [Linear(number * 8, 8, device=disk, offset=number % 1000 * 16) for number in range(3000)]
    made(dm, "large", *table)
    assert parse_table("\n".join(line.line for line in dm.table(PREFIX + "large"))) == tuple(table)
    assert len(dm.status(PREFIX + "large")) == 3000
    assert dm.info(PREFIX + "large").target_count == 3000


@contextmanager
def pool(dm: DeviceMapper, disk: str, *, low_water: int = 0) -> Iterator[str]:
    """An empty pool of 16 MiB in chunks of 64 KiB; gives its number."""
    metadata = made(dm, "meta", Linear(0, 4 * MIB, device=disk, offset=0))
    data = made(dm, "data", Linear(0, 16 * MIB, device=disk, offset=8 * MIB))
    with open(dm.info(PREFIX + "meta").node, "r+b", buffering=0) as node:
        node.write(bytes(4096))
    yield made(
        dm, "pool",
        ThinPool(
            0, 16 * MIB, metadata=metadata, data=data, chunk=128, low_water=low_water,
            features=("skip_block_zeroing",),
        ),
    )  # fmt: skip


def test_messages_and_events_of_a_pool(dm: DeviceMapper, disk: str) -> None:
    with pool(dm, disk, low_water=250) as number:
        name = PREFIX + "pool"
        assert dm.message(name, "create_thin 1") == ""
        with pytest.raises(ExistsError):
            dm.message(name, "create_thin 1")
        with pytest.raises(UsageError, match="nonsense"):
            dm.message(name, "nonsense")
        assert dm.message(name, "@stats_list", sector=0) == ""
        made(dm, "thin", Thin(0, 64 * MIB, pool=number, device_id=1))
        assert dm.status(name)[0].line == real("status", name)[1].rstrip("\n")
        before = dm.event_numbers()
        assert before[name] == dm.info(name).event_nr
        started = time.monotonic()
        assert dm.events(before, 0.2) == {}
        assert dm.wait(name, before[name], timeout=0.2).event_nr == before[name]
        assert time.monotonic() - started >= 0.4
        waited: list[int] = []
        sleeper = threading.Thread(target=lambda: waited.append(_wait(name, before[name])))
        sleeper.start()
        with open(dm.info(PREFIX + "thin").node, "r+b", buffering=0) as node:
            node.write(b"x" * (8 << 16))
            os.fsync(node)
        assert dm.events(before, 60)[name] > before[name]
        sleeper.join(60)
        assert waited == [dm.info(name).event_nr]
        assert dm.wait(name, before[name], timeout=60).event_nr > before[name]
        before = dm.event_numbers()
        dm.remove(PREFIX + "thin", cookie=QUIET_COOKIE, retry=5)
        assert dm.events(before, 60) == {PREFIX + "thin": GONE}


def _wait(name: str, event: int) -> int:
    with DeviceMapper() as own:
        return own.wait(name, event).event_nr


def test_a_wait_ends_with_a_signal(dm: DeviceMapper, disk: str) -> None:
    """Control-C interrupts a command that waits in the kernel."""
    made(dm, "signal", Error(0, 8))
    script = (
        "import sys\nfrom lamella.devicemapper.client import DeviceMapper\n"
        "with DeviceMapper() as dm:\n    print('waits', flush=True)\n    dm.wait(sys.argv[1], 0)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, PREFIX + "signal"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        while child.poll() is None:
            child.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.2)
        assert child.stderr is not None
        assert b"KeyboardInterrupt" in child.stderr.read()
    finally:
        child.kill()
        child.communicate()


def test_busy_devices_and_deferred_removal(dm: DeviceMapper, disk: str) -> None:
    name = PREFIX + "busy"
    made(dm, "busy", Linear(0, 8, device=disk, offset=0))
    handle = os.open(dm.info(name).node, os.O_RDONLY)
    try:
        with pytest.raises(BusyError, match=name):
            dm.remove(name)
        assert not dm.remove(name, deferred=True)
        assert dm.info(name).deferred_remove
        assert "DEFERRED REMOVE" in real("info", name)[1]
        dm.cancel_deferred_remove(name)
        assert not dm.info(name).deferred_remove
        closer = threading.Timer(0.3, os.close, [handle])
        closer.start()
        handle = -1
        assert dm.remove(name, retry=30, cookie=QUIET_COOKIE)
        closer.join()
    finally:
        if handle >= 0:
            os.close(handle)
    with pytest.raises(NotFoundError):
        dm.cancel_deferred_remove(name)
    made(dm, "busy", Linear(0, 8, device=disk, offset=0))
    with open(dm.info(name).node, "rb"):
        assert not dm.remove(name, deferred=True, cookie=QUIET_COOKIE)
    # The kernel removes it in the background.
    assert wait_for(lambda: dm.find(name) is None)


def test_udev_makes_names_and_no_semaphore_stays(dm: DeviceMapper, disk: str) -> None:
    if not udev_runs():
        pytest.skip("no udev runs here")
    remove_abandoned()  # of a run of these tests that was killed
    before, name = semaphores(), PREFIX + "udev"
    table = [Linear(0, 8, device=disk, offset=0)]
    with udev_cookie() as cookie:
        assert cookie is not None
        info = dm.create_with_table(name, table, cookie=cookie.value(PRIVATE))
    assert mapper_path(name).stat().st_rdev == os.makedev(info.major, info.minor)
    with udev_cookie() as cookie:
        assert cookie is not None
        dm.rename(name, name + "2", cookie=cookie.value(PRIVATE))
    assert mapper_path(name + "2").exists()
    assert not mapper_path(name).is_symlink()
    with udev_cookie() as cookie:
        assert cookie is not None
        dm.remove(name + "2", cookie=cookie.value(), retry=10)
    assert not mapper_path(name + "2").is_symlink()
    assert semaphores() == before
    with suppress(NotFoundError), udev_cookie() as cookie:
        assert cookie is not None
        dm.remove(name, cookie=cookie.value())
        raise AssertionError("removed what is not there")
    assert semaphores() == before


def test_the_semaphore_of_a_killed_command_is_removed_by_the_next(dm: DeviceMapper) -> None:
    remove_abandoned()
    before = semaphores()
    child = os.fork()
    if child == 0:
        Cookie().value(Udev.NONE)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(semaphores()) == len(before) + 1
    mine = Cookie()
    try:
        assert len(semaphores()) == len(before) + 1
        assert remove_abandoned() == 0, "one that is in use was taken for abandoned"
    finally:
        mine.close()
        mine.close()
    assert semaphores() == before


def test_without_udev_the_names_are_ours(dm: DeviceMapper, disk: str) -> None:
    if not udev_runs():
        pytest.skip("no udev runs here, so that none can be stopped")
    script = "from lamella.devicemapper.nodes import udev_runs; print(udev_runs())"
    assert run("unshare", "--ipc", sys.executable, "-c", script).strip() == "False"
    run("udevadm", "control", "--exit")
    try:
        assert wait_for(lambda: not udev_runs()), run("ps", "-eo", "pid,ppid,stat,wchan:24,args")
        with udev_cookie() as cookie:
            assert cookie is None
            info = dm.create_with_table(PREFIX + "own", [Linear(0, 8, device=disk, offset=0)])
            path = make_name(PREFIX + "own", info.major, info.minor)
        assert path.stat().st_rdev == os.makedev(info.major, info.minor)
        make_name(PREFIX + "own", info.major, info.minor)
        assert real("table", str(path))[0] == 0
        dm.remove(PREFIX + "own")
        drop_name(PREFIX + "own")
        assert not path.is_symlink()
    finally:
        run("/lib/systemd/systemd-udevd", "--daemon")
        run("udevadm", "settle")
    assert udev_runs()


def test_odd_names_are_those_of_dmsetup(dm: DeviceMapper, disk: str) -> None:
    odd = PREFIX + " é#%&"
    assert real("create", "--noudevsync", "--noudevrules", odd, "--table", f"0 8 linear {disk} 0")[0] == 0
    try:
        assert dm.info(mangled(odd)).name == mangled(odd)
        assert unmangled(mangled(odd)) == odd
        assert real("info", "-c", "--noheadings", "-o", "name", odd)[1].strip() == odd
    finally:
        assert real("remove", "--noudevsync", "--noudevrules", odd)[0] == 0
    made_by_us = mangled(PREFIX + " ü")
    dm.create(made_by_us)
    assert PREFIX + " ü\t(" in real("ls")[1]
    with pytest.raises(UsageError):
        dm.create("control")


def test_our_dmsetup_prints_what_the_real_one_prints(
    dm: DeviceMapper, disk: str, capfd: pytest.CaptureFixture[str]
) -> None:
    one = made(dm, "a-1", Linear(0, 8 * MIB, device=disk, offset=0), uuid="LVM-xyz-tdata")
    two = made(
        dm,
        "b",
        Linear(0, MIB, device=disk, offset=8 * MIB),
        Striped(MIB, 32, chunk=16, stripes=((disk, 0), (one, 0))),
        Error(MIB + 32, 8),
        uuid="U-1",
    )
    made(dm, "c", Linear(0, 80, device=one, offset=0), read_only=True)
    dm.load(PREFIX + "b", [Linear(0, 16, device=disk, offset=0)])
    dm.create(PREFIX + "none")
    made(dm, "d" * (80 - len(PREFIX) - len(f" ({two})")), Linear(0, 8, device=two, offset=0))
    made(dm, "e" * (79 - len(PREFIX) - len(f" ({two})")), Linear(0, 8, device=two, offset=8))
    made(dm, mangled(" f"), Error(0, 1))
    dm.suspend(PREFIX + "c")
    a, b, c, none = (PREFIX + name for name in ("a-1", "b", "c", "none"))
    major, minor = two.split(":")
    own = (
        f"table|status|ls|ls --tree|info|info -c|deps|table {b}|table {b} {c}|status {b}|"
        f"status --noflush {a}|"
        f"table --inactive|table --inactive {b}|table {none}|status {none}|deps {none}|deps --inactive {b}|"
        f"table --target linear|status --target striped|table --target nope|ls --target striped|"
        f"table --concise|info {b} {c}|info -c {c} {a}|info -u U-1|table -j {major} -m {minor}|deps -v {b}|"
        f"status -v {b}|table nope|status nope|info nope|info -c nope|deps nope|info {b} nope|"
        f"table {major}:{minor}|ls -o blkdevname|ls -o devname|deps -o blkdevname {b}|deps -o devname|"
        f"ls -o junk|ls --tree -o junk|ls --tree -o inverted|ls --tree -o compact|ls --tree -o ascii|"
        f"ls --tree -o compact,inverted,ascii|ls --tree -o uuid,open,rw,active,blkdevname|"
        f"ls --tree -o notrunc,uuid|ls --tree -o nodevice|ls --tree -o vt100|"
        f"info -c -o name,minor -O -minor|info -c --noheadings -o name,uuid|info -c -o +devno|"
        f"info -c --noheadings --nameprefixes -o name,open|info -c --rows -o name,segments|"
        f"info -c --separator : -o name,attr|info -co name,info_all {a} {b}|info -c -o name,deps_all {b}|"
        f"info -c -o name,splitname_all|info -c -o name,devs_used,device_ref_count,names_using_dev|"
        f"info -c -o name_all|table --manglename none|table -j {major}|table --junk|ls -o|targets|"
        f"info -c -O nosuch {a}"
    )
    different = []
    for command in own.split("|"):
        arguments = command.split()
        expected = real(*arguments)
        capfd.readouterr()
        code = main_dmsetup(arguments)
        out, err = capfd.readouterr()
        if "nosuch" in command:  # ours has fewer fields to choose from
            err = expected[2]
        if (code, out, err) != expected:
            different.append(f"{command}: {(code, out, err)}\ninstead of {expected}\n")
    assert not different, "\n".join(different)
    assert main_dmsetup(["version"]) == 0
    assert real("version")[1].splitlines()[1] in capfd.readouterr().out


@pytest.mark.parametrize("mode", ["loop-lvm", "direct-lvm"])
def test_predicted_devices_are_those_of_the_kernel(
    mode: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A store's devices as the user engine predicts them, and as they are after activation by hand."""
    image, root = tmp_path / "image", tmp_path / "store"
    write_sample(image)
    with ExitStack() as stack:
        options = ["dm.basesize=128M", "dm.min_free_space=0%"]
        if mode == "loop-lvm":
            options += ["dm.loopdatasize=256M", "dm.loopmetadatasize=8M"]
        else:
            disk = stack.enter_context(machine.disk(tmp_path / "disk", 1 << 30, "lamtell"))
            options += [f"dm.directlvm_device={disk.device}", "lamella.vg=lamtell"]
        with lamella.Store.setup(root, mode=mode, storage_options=options, engine="user") as store:
            store.create(store.load(image)[0].id, name="box")

        def predicted(command: str) -> dict[str, list[str]]:
            capfd.readouterr()
            assert main_dmsetup(["--root", str(root), "--engine", "user", *command.split()]) == 0
            return _by_name(capfd.readouterr().out)

        # Before the pool is active, as the user engine does not open it then.
        told = {command: predicted(command) for command in TOLD}
        order = sorted(_devnos(predicted(DEVNO)).items(), key=lambda each: _minor(each[1]))
        tables = told["table"]
        numbers: dict[str, str] = {}
        if mode == "loop-lvm":
            for minor, part in enumerate(("metadata", "data")):
                device = run("losetup", "--find", "--show", root / "pool" / part).strip()
                stack.callback(run, "losetup", "--detach", device)
                numbers[f"7:{minor}"] = device_number(device)
        else:
            disk.lvm("lvchange", "-ay", "lamtell/thinpool")
        # A device uses only devices with lower numbers.
        for name, number in order:
            if real("info", name)[0] != 0:
                machine.dmsetup("create", name, "--table", "\n".join(_translated(tables[name], numbers)))
                stack.callback(machine.dmsetup, "remove", "--retry", name)
            numbers[number] = _devnos(_by_name(real(*DEVNO.split())[1]))[name]
        run("udevadm", "settle")  # which looks at what is new, and has it open while it does
        for command, lines in told.items():
            found = _by_name(real(*command.split())[1])
            for name, expected in lines.items():
                assert found[name] == _translated(expected, numbers), command


DEVNO = "info -c --noheadings --separator | -o name,devno"
TOLD = (
    "table",
    "status",
    "deps",
    "info -c --noheadings --separator | -o name,uuid,attr,open,segments,read_ahead",
)


def _by_name(text: str) -> dict[str, list[str]]:
    """The text of each device, of lines "NAME: TEXT" or "NAME|TEXT"."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, rest = line.partition("|") if "|" in line else line.partition(": ")
        found.setdefault(name, []).append(rest)
    return found


def _devnos(found: dict[str, list[str]]) -> dict[str, str]:
    return {name: lines[0] for name, lines in found.items()}


def _minor(number: str) -> int:
    return int(number.partition(":")[2])


def _translated(lines: list[str], numbers: dict[str, str]) -> list[str]:
    """Replace device numbers by the real ones, in tables ("7:0") and dependencies ("(7, 0)")."""

    def other(match: re.Match[str]) -> str:
        return match[1] + numbers.get(f"{match[2]}:{match[4]}", f"{match[2]}:{match[4]}").replace(
            ":", match[3]
        )

    return [re.sub(r"((?:^|[ (]))(\d+)(:|, )(\d+)(?![\d/])", other, line) for line in lines]


def device_number(path: str) -> str:
    found = os.stat(path).st_rdev
    return f"{os.major(found)}:{os.minor(found)}"
