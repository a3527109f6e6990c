# SPDX-License-Identifier: Apache-2.0
"""Mounted snapshots outlive a restart of the daemon that serves them, and not its crash."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from lamella.block import loop
from lamella.fs.mounted import mount as kernel
from lamella.services.containerd.protos import snapshots_pb2 as messages
from lamella.services.containerd.protos.snapshots_pb2_grpc import SnapshotsStub
from lamella.services.fuse.connection import available, mounted_number
from lamella.store.hosting import HostedStore
from tests.conftest import missing
from tests.support.daemon import LAMELLA, LONG, environment, served, wait_until
from tests.support.stores import assert_sound, set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.user_engine, pytest.mark.loop_lvm]

TAKEN = "taken over from an earlier server"
HANDED = "handed over to the next server"
"""What the log says."""
PASSING = """
import os, sys
given = int(sys.argv[1])
if given != 3:
    os.dup2(given, 3)
    os.close(given)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="fuse", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, sys.argv[2:])
"""
WRITER = """
import os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
number = 0
while not os.path.exists(sys.argv[2]):
    os.pwrite(file, number.to_bytes(8, "little") * 1024, number * 8192)
    os.fsync(file)
    print(number, flush=True)
    number += 1
"""


class Writer:
    """A process that writes blocks to a file and syncs each, until it is told to end."""

    def __init__(self, folder: Path, end: Path) -> None:
        self.path = folder / "blocks"
        self._end = end
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, self.path, end], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.synced = -1

    def wait_for_more(self, count: int = 5) -> None:
        """Return when *count* more blocks were synced."""
        assert self._process.stdout is not None
        for _ in range(count):
            line = self._process.stdout.readline()
            if not line:
                raise AssertionError(self._process.communicate()[1].decode())
            assert int(line) == self.synced + 1
            self.synced += 1

    def finish(self) -> None:
        """Let it end, and see that it had no error."""
        self._end.touch()
        assert self._process.stdout is not None
        self.synced += len(self._process.stdout.readlines())
        _, errors = self._process.communicate(timeout=LONG)
        assert (self._process.returncode, errors) == (0, b"")

    def check(self) -> None:
        """What was synced is there."""
        data = self.path.read_bytes()
        assert len(data) == (self.synced + 1) * 8192
        for number in range(self.synced + 1):
            assert data[number * 8192 : (number + 1) * 8192] == number.to_bytes(8, "little") * 1024

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Site:
    """A store, the daemons that serve it one after the other, and what they have mounted."""

    def __init__(self, root: Path, folder: str) -> None:
        self.root = root
        self.point = root / "run/fuse"
        self.socket = f"{folder}/containerd.sock"
        self._log = Path(folder) / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, passed: int | None = None, **variables: str) -> None:
        """Start a daemon, with a descriptor of its manager's, and return when it is ready."""
        command = [*LAMELLA, "serve", f"--containerd={self.socket}"]
        if passed is not None:
            command = [sys.executable, "-c", PASSING, str(passed), *command]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                pass_fds=[] if passed is None else [passed],
                env=environment(self.root, PYTHONFAULTHANDLER="1", **variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: "ready, process" in self.logged() or self._process.poll() is not None)
        assert self._process.poll() is None, self.logged()

    def logged(self) -> str:
        return self._log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        try:
            code = self._process.wait(LONG)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)  # it writes down where its threads are
            self._process.wait()
            raise AssertionError(self.logged()) from None
        assert code == (0 if number == signal.SIGTERM else -number), self.logged()

    def restart(self) -> None:
        self.stop()
        assert HANDED in self.logged()
        self.start()
        assert TAKEN in self.logged()

    def prepare(self, key: str) -> str:
        """A new snapshot's block device."""
        with self._client() as stub:
            request = messages.PrepareSnapshotRequest(snapshotter="lamella", key=key)
            return stub.Prepare(request, timeout=LONG).mounts[0].source

    def source(self, key: str) -> str:
        with self._client() as stub:
            request = messages.MountsRequest(snapshotter="lamella", key=key)
            return stub.Mounts(request, timeout=LONG).mounts[0].source

    def remove(self, key: str) -> None:
        with self._client() as stub:
            stub.Remove(messages.RemoveSnapshotRequest(snapshotter="lamella", key=key), timeout=LONG)
            stub.Cleanup(messages.CleanupRequest(snapshotter="lamella"), timeout=LONG)

    @property
    def keepers(self) -> list[int]:
        """The processes that keep the store's file system."""
        found = []
        for folder in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if os.fsencode(self.root / "run/fuse.sock") in words:
                    found.append(int(folder.name))
        return found

    def _client(self) -> _Client:
        return _Client(self.socket)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class _Client(ExitStack):
    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def __enter__(self) -> SnapshotsStub:  # type: ignore[override]
        return SnapshotsStub(self.enter_context(grpc.insecure_channel(f"unix:{self._address}")))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if not loop.available() or not available():
        missing("a FUSE and a loop device that we may use")
    root = tmp_path / "store"
    set_up(root, "loop-lvm").close()
    # Should a process hang in a request that nobody answers, it could not even be killed.
    watchdog = subprocess.Popen(
        ["sh", "-c", 'sleep 240; umount -f -l "$0"', root / "run/fuse"], start_new_session=True
    )
    with tempfile.TemporaryDirectory(prefix="lamella-") as folder:
        found = Site(root, folder)
        try:
            yield found
        finally:
            found.close()
            for _ in range(2):
                subprocess.run(["umount", "-f", "-l", found.point], check=False, stderr=subprocess.DEVNULL)
            os.killpg(watchdog.pid, signal.SIGKILL)
            watchdog.wait()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a block device; gives the folder."""
    folders: list[Path] = []

    def mount(source: str) -> Path:
        folders.append(tmp_path / f"mnt{len(folders)}")
        folders[-1].mkdir()
        kernel.mount(source, folders[-1], "ext4", options=[], read_only=False)
        return folders[-1]

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", folder], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("count", [1, 3])
def test_writers_go_on_while_the_daemon_restarts(
    site: Site, mounted: Callable[[str], Path], tool: Callable[[str], str], tmp_path: Path, count: int
) -> None:
    site.start()
    keys = [f"work {number}" for number in range(count)]
    sources = [site.prepare(key) for key in keys]
    folders = [mounted(source) for source in sources]
    with ExitStack() as stack:
        writers = [Writer(folder, tmp_path / "end") for folder in folders]
        for writer in writers:
            stack.callback(writer.close)
        for _ in range(4):
            for writer in writers:
                writer.wait_for_more()
            site.restart()
            assert [site.source(key) for key in keys] == sources
        for writer in writers:
            writer.wait_for_more()
        for writer in writers:
            writer.finish()
    assert site.keepers == []
    for writer, folder, source in zip(writers, folders, sources, strict=True):
        writer.check()
        kernel.unmount(folder)
        done = subprocess.run([tool("e2fsck"), "-fn", source], check=False, capture_output=True)
        assert done.returncode == 0, done.stdout
        kernel.mount(source, folder, "ext4", options=[], read_only=True)
        writer.check()
        kernel.unmount(folder)
    for key in keys:
        site.remove(key)
    numbers = [Path(source).name for source in sources]
    wait_until(lambda: not any(Path(f"/sys/block/{name}/loop").exists() for name in numbers))
    site.stop()
    assert HANDED not in site.logged()
    assert site.keepers == []
    assert mounted_number(site.point) is None
    assert_sound(site.root)


def changed(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def write_through(path: Path) -> bytes:
    """Write and sync in another process; its error."""
    script = (
        "import os, sys; f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); os.write(f, b'x'); os.fsync(f)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], check=False, capture_output=True)
    return done.stderr.splitlines()[-1] if done.returncode else b""


def is_attached(source: str) -> bool:
    return Path(f"/sys/block/{Path(source).name}/loop").exists()


def test_a_crash_is_not_taken_over(site: Site, mounted: Callable[[str], Path]) -> None:
    """What was answered, but not committed, is lost in a crash: nobody may go on with it."""
    site.start()
    source = site.prepare("work")
    folder = mounted(source)
    assert write_through(folder / "before") == b""
    site.stop(signal.SIGKILL)
    site.start()
    assert TAKEN not in site.logged()
    assert f"{source} is cut off" in site.logged()
    assert write_through(folder / "after") != b""
    fresh = site.source("work")
    assert fresh != source
    kernel.unmount(folder)
    wait_until(lambda: not is_attached(source))
    again = mounted(fresh)
    assert os.listdir(again) == ["before", "lost+found"] or os.listdir(again) == ["before"]
    kernel.unmount(again)
    site.stop()
    assert_sound(site.root)


def test_without_the_keeper_it_is_over(site: Site, mounted: Callable[[str], Path]) -> None:
    """Loop devices that were to stay are detached, also those that nobody has mounted."""
    site.start()
    source, unused = site.prepare("work"), site.prepare("unused")
    folder = mounted(source)
    site.stop()
    (keeper,) = site.keepers
    assert is_attached(unused)
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not site.keepers)
    assert write_through(folder / "file") != b""
    site.start()
    assert TAKEN not in site.logged()
    assert not is_attached(unused)
    kernel.unmount(folder)
    wait_until(lambda: not is_attached(source))
    folder = mounted(site.source("work"))
    assert write_through(folder / "file") == b""
    kernel.unmount(folder)
    site.stop()
    assert_sound(site.root)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: changed(path, token="0" * 32),
        lambda path: changed(path, pool="another"),
        lambda path: changed(path, number=[0, 1]),
    ],
    ids=["missing", "token", "pool", "number"],
)
def test_what_does_not_fit_is_refused(
    site: Site, mounted: Callable[[str], Path], spoil: Callable[[Path], object]
) -> None:
    site.start()
    folder = mounted(site.prepare("work"))
    site.stop()
    spoil(site.root / "run/fuse.json")
    site.start()
    assert TAKEN not in site.logged()
    wait_until(lambda: not site.keepers)
    assert not (site.root / "run/fuse.json").exists()
    assert write_through(folder / "file") != b""
    kernel.unmount(folder)
    again = mounted(site.source("work"))
    assert write_through(again / "file") == b""
    kernel.unmount(again)
    site.stop()


def test_a_daemon_that_does_not_serve_it_ends_it(site: Site, mounted: Callable[[str], Path]) -> None:
    site.start()
    folder = mounted(site.prepare("work"))
    site.stop()
    with served(site.root):
        assert write_through(folder / "file") != b""
        wait_until(lambda: not site.keepers)


def test_loop_devices_can_be_listed_meanwhile(site: Site, mounted: Callable[[str], Path]) -> None:
    site.start()
    source = site.prepare("work")
    folder = mounted(source)
    site.stop()
    assert next(info.backing for info in loop.attached() if info.path == source).startswith(str(site.point))
    site.start()
    kernel.unmount(folder)
    site.stop()


def test_a_device_that_is_gone(site: Site, mounted: Callable[[str], Path]) -> None:
    """Another process has removed the snapshot meanwhile; the others go on."""
    site.start()
    lost, kept = mounted(site.prepare("lost")), mounted(site.prepare("kept"))
    site.stop()
    with HostedStore.open(site.root) as host:
        host.snapshots.remove("lost")
    site.start()
    assert "is gone" in site.logged()
    assert write_through(kept / "file") == b""
    assert write_through(lost / "file") != b""
    site.restart()
    assert write_through(kept / "file") == b""
    assert write_through(lost / "file") != b""
    for folder in lost, kept:
        kernel.unmount(folder)
    site.remove("kept")
    site.stop()
    assert HANDED not in site.logged()
    assert_sound(site.root)


def test_what_was_removed_while_it_is_mounted(site: Site, mounted: Callable[[str], Path]) -> None:
    """Its device does not outlive the daemon, and its loop device goes with the mount."""
    site.start()
    source = site.prepare("work")
    folder = mounted(source)
    site.remove("work")
    assert write_through(folder / "file") == b""
    site.restart()
    assert write_through(folder / "file") != b""
    kernel.unmount(folder)
    wait_until(lambda: not is_attached(source))
    site.stop()
    assert_sound(site.root)


class Manager:
    """Stands for systemd with a store of descriptors."""

    def __init__(self, folder: str) -> None:
        self.path = f"{folder}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self.stored: dict[str, int] = {}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 4)
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            if "END" in fields:
                return
            if "FDSTORE" in fields:
                (self.stored[fields["FDNAME"]],) = descriptors
                continue
            if "FDSTOREREMOVE" in fields and fields["FDNAME"] in self.stored:
                os.close(self.stored.pop(fields["FDNAME"]))
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"END=1", self.path)
        self._thread.join()
        self._socket.close()
        for descriptor in self.stored.values():
            os.close(descriptor)


def test_systemd_keeps_it(site: Site, mounted: Callable[[str], Path], tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="lamella-") as folder, closing(Manager(folder)) as manager:
        site.start(NOTIFY_SOCKET=manager.path)
        source = site.prepare("work")
        point = mounted(source)
        writer = Writer(point, tmp_path / "end")
        with closing(writer):
            for _ in range(2):
                writer.wait_for_more()
                site.stop()
                assert list(manager.stored) == ["fuse"]
                assert site.keepers == []
                site.start(passed=manager.stored["fuse"], NOTIFY_SOCKET=manager.path)
                assert TAKEN in site.logged()
                assert manager.stored == {}  # a crash would end it from now on
                assert site.source("work") == source
            writer.wait_for_more()
            writer.finish()
        writer.check()
        site.stop(signal.SIGKILL)
        assert write_through(point / "file") != b""
        kernel.unmount(point)
        site.start(NOTIFY_SOCKET=manager.path)
        again = mounted(site.source("work"))
        writer.path = again / "blocks"
        writer.check()
        kernel.unmount(again)
        site.stop()
    assert_sound(site.root)


def test_a_manager_that_drops_it(site: Site, mounted: Callable[[str], Path]) -> None:
    """As systemd does without FileDescriptorStoreMax, and when the service is stopped."""
    with tempfile.TemporaryDirectory(prefix="lamella-") as folder, closing(Manager(folder)) as manager:
        site.start(NOTIFY_SOCKET=manager.path)
        point = mounted(site.prepare("work"))
        site.stop()
        os.close(manager.stored.pop("fuse"))
        assert write_through(point / "file") != b""
        site.start(NOTIFY_SOCKET=manager.path)
        kernel.unmount(point)
        again = mounted(site.source("work"))
        assert write_through(again / "file") == b""
        kernel.unmount(again)
        site.stop()
