# SPDX-License-Identifier: Apache-2.0
"""Docker 28 and newer on a store of ours, as `lamella setup --for docker` sets it up.

It uses the files and folders of the guest that Docker's and containerd's packages use, as the manual does.
Needs the guest's root "current"; the other one has Docker 20.10, which knows no snapshotters.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.guest.machine import run, wait_for
from tests.guest.test_docker import busybox
from tests.support.images import make_tar, write_docker_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STORE = Path("/var/lib/lamella")
CONFIGURATION = (Path("/etc/containerd/config.toml"), Path("/etc/docker/daemon.json"))
MADE = (STORE, Path("/var/lib/docker"), Path("/var/lib/containerd"))
AT_ONCE = 20
LIMIT = 300.0
"""Seconds for one command or the start of a daemon; a command takes one or two."""


def _version() -> int:
    """Docker's major version; 0 where there is none."""
    if shutil.which("dockerd") is None:
        return 0
    found = re.search(r"version (\d+)\.", run("dockerd", "--version"))
    return int(found[1]) if found else 0


pytestmark = pytest.mark.skipif(
    os.environ.get("LAMELLA_IN_GUEST") == "1" and _version() < 28,
    reason="needs Docker 28, which the guest's root current has",
)


class Engine:
    """The three daemons, started in a boot's order, and their logs in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.times: dict[str, float] = {}
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self) -> None:
        self._spawn("lamella", f"{STORE}/run/containerd.sock", *lamella_command("serve", "--containerd"))
        self._spawn("containerd", "/run/containerd/containerd.sock", "containerd")
        # What the guest's kernel cannot do for a network is left out.
        network = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false")
        docker = ("dockerd", "--containerd=/run/containerd/containerd.sock", *network)
        self._spawn("dockerd", "/run/docker.sock", *docker)

    def _spawn(self, name: str, address: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running.append((name, process))
        wait_for(lambda: answers(address) or process.poll() is not None, LIMIT)
        assert answers(address), self.log(name)

    def stop(self) -> dict[str, int]:
        """Stop them in the other order; gives their exit codes."""
        codes = {}
        while self._running:
            name, process = self._running.pop()
            process.terminate()
            codes[name] = process.wait(LIMIT)
        return codes

    def kill(self, wanted: str) -> None:
        """Kill one of them."""
        for name, process in self._running:
            if name == wanted:
                process.kill()
                process.wait(LIMIT)
        self._running = [each for each in self._running if each[0] != wanted]

    def start_ours(self) -> None:
        """Start ours again."""
        self._spawn("lamella", f"{STORE}/run/containerd.sock", *lamella_command("serve", "--containerd"))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def try_docker(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = ["docker", *(str(word) for word in words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)

    def docker(self, *words: object, step: str = "") -> str:
        """The output of a command, which must succeed; its seconds are kept as those of *step*."""
        begun = time.monotonic()
        done = self.try_docker(*words)
        if step:
            self.times[step] = time.monotonic() - begun
        said = f"{words}: {done.stdout}{done.stderr}\n{self.log('lamella')[-3000:]}"
        assert done.returncode == 0, said
        return done.stdout

    def run(self, *words: object, step: str = "") -> str:
        """What a container says that is removed after it."""
        return self.docker("run", "--rm", "--network=none", *words, step=step)


def answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(address) == 0


def lamella_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "lamella", "--root", str(STORE), *words]


def lamella(*words: str) -> str:
    return run(*lamella_command(*words))


def snapshots() -> list[str]:
    return [each["key"] for each in json.loads(lamella("snapshots", "ls", "--json"))]


def used() -> int:
    """Bytes of the pool's data that are in use."""
    pool = json.loads(lamella("df", "--json"))[0]
    assert pool["kind"] == "pool"
    return int(pool["space"])


@pytest.fixture
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Docker on a new store, whose pool the kernel has, or the engine that the test names."""
    before = {path: path.read_bytes() if path.exists() else None for path in CONFIGURATION}
    made = Engine(tmp_path)
    try:
        sizes = ("dm.basesize=1G", "dm.loopdatasize=8G", "dm.loopmetadatasize=128M")
        options = (word for size in sizes for word in ("--storage-opt", size))
        name = getattr(request, "param", "kernel")
        if name == "user":
            run("modprobe", "fuse")
        lamella("--engine", name, "setup", "loop-lvm", *options)
        lamella("setup", "--for", "docker", "--write", "--yes")
        made.start()
        yield made
        assert made.stop() == {"dockerd": 0, "containerd": 0, "lamella": 0}
    finally:
        made.stop()
        with contextlib.suppress(AssertionError):
            lamella("teardown", "--force")
        for path, content in before.items():
            for copy in path.parent.glob(f"{path.name}.before-lamella-*"):
                copy.unlink()
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        for folder in MADE:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def image(engine: Engine, tmp_path: Path) -> str:
    """An image that is loaded. What the store makes once, for its first snapshot, is there too."""
    sample = busybox()
    sample.layers.append(make_tar({"etc/motd": b"of the second layer\n", "etc/more": b"m" * 3_000_000}))
    write_docker_archive(tmp_path / "image.tar", [sample])
    said = engine.docker("load", "--quiet", "--input", tmp_path / "image.tar", step="load")
    assert said == f"Loaded image: {sample.references[0]}\n"  # an error is told here alone
    return sample.references[0]


def remove_all(engine: Engine) -> None:
    """Remove containers, images and what builds left, by Docker's own commands."""
    for container in engine.docker("ps", "--all", "--quiet").split():
        engine.docker("rm", "--force", container)
    images = engine.docker("images", "--quiet", "--no-trunc").split()
    engine.docker("rmi", "--force", *dict.fromkeys(images), step="rmi of all")
    engine.docker("system", "prune", "--all", "--force", "--volumes", step="system prune")


@pytest.mark.parametrize("engine", ["kernel", "user"], indirect=True)
def test_docker_loads_builds_runs_commits_and_removes(engine: Engine, image: str, tmp_path: Path) -> None:
    """And after that nothing is left in the store, and as much of its pool is in use as before."""
    told = json.loads(engine.docker("info", "--format", "{{json .}}"))
    assert told["Driver"] == "lamella"
    assert told["DriverStatus"] == [["driver-type", "io.containerd.snapshotter.v1"]]
    assert engine.log("lamella").count("unpacking layer sha256:") == 2  # by our writer, and not in a mount
    engine.docker("rmi", image)
    assert snapshots() == []
    before = used()
    engine.docker("load", "--quiet", "--input", tmp_path / "image.tar")
    said = engine.run(image, "/bin/busybox", "cat", "/etc/motd", step="run")
    assert said == "of the second layer\n"

    # BuildKit
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("of the context\n")
    step = "RUN /bin/busybox cat /file /etc/motd > /both"
    (context / "Dockerfile").write_text(f"FROM {image}\nCOPY file /file\n{step}\nVOLUME /etc\n")
    engine.docker("build", "--quiet", "--network=none", "--tag=built:1", context, step="build")
    said = engine.run("built:1", "/bin/busybox", "cat", "/both", "/etc/motd")
    assert said == "of the context\nof the second layer\nof the second layer\n"
    again = engine.docker("build", "--network=none", "--progress=plain", "--tag=built:2", context)
    assert again == ""  # its progress is on standard error

    # A container's own files
    script = "echo made > /made; /bin/busybox rm /etc/more"
    engine.docker("run", "--network=none", "--name=one", image, "/bin/sh", "-c", script)
    assert set(engine.docker("diff", "one").splitlines()) == {"C /etc", "D /etc/more", "A /made"}
    engine.docker("cp", "one:/made", tmp_path / "out", step="cp from it")
    assert (tmp_path / "out").read_text() == "made\n"
    engine.docker("cp", tmp_path / "out", "one:/copied", step="cp into it")
    engine.docker("commit", "one", "committed:1", step="commit")
    said = engine.run("committed:1", "/bin/sh", "-c", "/bin/busybox cat /made /copied; /bin/busybox ls /etc")
    assert said.splitlines()[:2] == ["made", "made"]
    assert "motd" in said
    assert "more" not in said
    size = json.loads(engine.docker("inspect", "--size", "one"))[0]["SizeRw"]
    assert 0 < size < 3_000_000

    engine.docker("save", "--output", tmp_path / "saved.tar", "committed:1", step="save")
    engine.docker("rmi", "committed:1")
    engine.docker("load", "--quiet", "--input", tmp_path / "saved.tar")
    assert engine.run("committed:1", "/bin/busybox", "cat", "/made") == "made\n"

    remove_all(engine)
    assert snapshots() == []
    assert used() == before
    assert engine.times.keys() >= {"load", "run", "build", "commit"}
    print("seconds:", {step: round(seconds, 2) for step, seconds in engine.times.items()})


def test_many_containers_at_once(engine: Engine, image: str) -> None:
    engine.run(image, "/bin/busybox", "true")
    before = used(), len(snapshots())

    def one(number: int) -> str:
        script = f"echo {number} > /mine; /bin/busybox cat /mine"
        return engine.run(image, "/bin/sh", "-c", script)

    begun = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        said = list(threads.map(one, range(AT_ONCE)))
    print(f"{AT_ONCE} at once: {time.monotonic() - begun:.1f} s")
    assert said == [f"{number}\n" for number in range(AT_ONCE)]
    assert (used(), len(snapshots())) == before
    remove_all(engine)
    assert snapshots() == []


def test_containers_outlive_the_snapshotter(engine: Engine, image: str) -> None:
    """A killed one is said to be missing by Docker, and all goes on with the next. What was removed meanwhile
    is removed then."""
    engine.docker("create", "--network=none", "--name=made", image, "/bin/busybox", "true")
    script = "echo before > /file; exec /bin/busybox sleep 100000"
    engine.docker("run", "--detach", "--network=none", "--name=up", image, "/bin/sh", "-c", script)
    engine.kill("lamella")
    assert engine.docker("exec", "up", "/bin/sh", "-c", "echo in > /in; /bin/busybox cat /file") == "before\n"
    refused = engine.try_docker("run", "--rm", "--network=none", image, "/bin/busybox", "true")
    assert refused.returncode != 0
    assert "containerd.sock" in refused.stderr
    engine.docker("rm", "made")
    engine.start_ours()
    # containerd tries to reach it again some seconds after it could not.
    again = ("run", "--rm", "--network=none", image, "/bin/busybox", "true")
    assert wait_for(lambda: engine.try_docker(*again).returncode == 0, LIMIT)
    engine.docker("stop", "--time=0", "up")
    engine.docker("cp", "up:/in", engine.folder / "in")
    assert (engine.folder / "in").read_text() == "in\n"
    remove_all(engine)
    assert snapshots() == []


@contextlib.contextmanager
def registry(folder: Path, tool: Callable[[str], str]) -> Iterator[str]:
    """A real registry in the guest, without a network; gives its host."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    config = folder / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(folder / "registry")}}
    config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": host}}))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([tool("docker-registry"), "serve", config], stdout=log, stderr=log)
    try:
        port = int(host.rpartition(":")[2])

        def there() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        assert wait_for(there, LIMIT)
        yield host
    finally:
        process.kill()
        process.wait()


def test_docker_pushes_and_pulls(
    engine: Engine, image: str, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    with registry(tmp_path, tool) as host:
        name = f"{host}/box:1"
        engine.docker("tag", image, name)
        engine.docker("push", "--quiet", name, step="push")
        engine.docker("rmi", name, image)
        assert snapshots() == []
        engine.docker("pull", "--quiet", name, step="pull")
    assert engine.log("lamella").count("unpacking layer sha256:") == 4
    assert engine.run(name, "/bin/busybox", "cat", "/etc/motd") == "of the second layer\n"
    remove_all(engine)
    assert snapshots() == []
