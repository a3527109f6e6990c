# SPDX-License-Identifier: Apache-2.0
"""The real containerd with our snapshotter: on this machine with the user engine, FUSE and loop devices, and
in the guest (``LAMELLA_TEST_ENGINE=kernel``) with device-mapper.

``LAMELLA_KILLS`` says how many times daemons are killed; the random moments come from its number.
"""

from __future__ import annotations

import os
import random
import shutil
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts import conformance
from tests.conftest import missing
from tests.support.containerd import IMAGE, Containerd, box_image
from tests.support.daemon import wait_until
from tests.support.stores import KERNEL

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = int(os.environ.get("LAMELLA_KILLS", "6"))
AT_ONCE = 8


@pytest.fixture(scope="module")
def programs() -> Path:
    if os.getuid():
        missing("the right to mount")
    for device in () if KERNEL else ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            missing(device)
    for program in ("runc", "busybox"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            missing(f"the program {program}")
    built = os.environ.get("LAMELLA_CONTAINERD")
    if built:
        return Path(built)
    try:
        return conformance.build_containerd(conformance.CONTAINERD)
    except conformance.GoError as error:
        missing(f"a Go that builds containerd ({error})")
    raise AssertionError


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="lc-", dir="/var/tmp"))  # sockets are below it: short
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(params=[True, False], ids=["our differ", "walking"])
def containerd(request: pytest.FixtureRequest, folder: Path, programs: Path) -> Iterator[Containerd]:
    found = Containerd(folder, programs, ours=request.param)
    found.start()
    yield found
    with suppress(AssertionError):
        found.remove_all()
    found.stop()


def test_import_run_commit_and_remove(containerd: Containerd) -> None:
    """What `ctr` does with an image and containers; the pool ends as it began."""
    before = containerd.used()
    containerd.ctr("images", "import", "--snapshotter", "lamella", box_image(containerd.folder / "box.tar"))
    if not containerd.snapshots():  # the transfer service of this ctr has not unpacked it
        containerd.ctr("images", "unpack", "--snapshotter", "lamella", IMAGE)
    assert [kind for _, _, kind in containerd.snapshots()] == ["Committed"] * 3
    assert containerd.run("one", "sh", "-c", "cat /etc/hostname; ls /data; ls /") == (
        "second\nsmall\nbin\ndata\ndev\netc\nproc\nrun\nsys\ntmp\n"
    )
    # A container that stays, whose changes become a layer of a new image.
    containerd.ctr(
        *("run", "-d", "--snapshotter", "lamella", IMAGE, "stays"),
        *("sh", "-c", "echo more > /data/more; sync; echo ready > /tmp/ready; sleep 3600"),
    )
    ready = ("tasks", "exec", "--exec-id", "look", "stays", "cat", "/tmp/ready")
    wait_until(lambda: containerd.try_ctr(*ready).stdout == "ready\n")
    usage = containerd.ctr("snapshots", "--snapshotter", "lamella", "usage", "stays").splitlines()[-1]
    assert usage.split()[0] == "stays"
    assert usage.split()[1] != "0"
    mounts = containerd.ctr("snapshots", "--snapshotter", "lamella", "mounts", "/mnt", "stays")
    assert mounts.split()[:3] == ["mount", "-t", "ext4"]
    # containerd mounts it once more, read-only, which the kernel refuses for what is mounted writable.
    containerd.ctr("tasks", "rm", "-f", "stays")
    changes = containerd.folder / "changes"
    containerd.ctr("snapshots", "--snapshotter", "lamella", "diff", "--keep", "stays", out=changes)
    with tarfile.open(changes, "r|*") as tar:
        assert {"data/more", "tmp/ready"} <= {member.name for member in tar}
    listed = containerd.lamella("snapshots", "ls", "--no-trunc")
    assert "default/" in listed
    assert "stays active" in " ".join(listed.split())
    containerd.remove_all()
    assert containerd.snapshots() == []
    wait_until(lambda: containerd.used() == before)
    assert "clean" in containerd.lamella("check")
    assert containerd.stop() == 0


def test_many_at_once(containerd: Containerd) -> None:
    containerd.ctr(
        "images", "import", "--local", "--snapshotter", "lamella", box_image(containerd.folder / "box.tar")
    )
    before = containerd.used()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = list(
            pool.map(lambda number: containerd.run(f"n{number}", "cat", "/etc/hostname"), range(3 * AT_ONCE))
        )
    assert said == ["second\n"] * (3 * AT_ONCE)
    wait_until(lambda: containerd.used() == before)  # containerd's collector removes them


def test_killed_at_any_moment(folder: Path, programs: Path) -> None:
    """Our daemon, containerd, or both, while images are imported and containers run.

    Afterwards all goes on; what was acknowledged is there; and when everything is removed, the pool is as it
    was at the start.
    """
    containerd = Containerd(folder, programs)
    containerd.start()
    image = box_image(folder / "box.tar")
    before = containerd.used()
    chance = random.Random(KILLS)
    try:
        for turn in range(KILLS):
            _work_and_kill(containerd, image, turn, chance)
            containerd.start()
            # It goes on: the image is imported, whatever is left of it, and runs.
            containerd.ctr("images", "import", "--local", "--snapshotter", "lamella", image)
            assert containerd.run(f"after-{turn}", "cat", "/etc/hostname") == "second\n"
            containerd.remove_all()
            wait_until(lambda: containerd.used() == before)
        assert "clean" in containerd.lamella("check")
    finally:
        containerd.stop()


def _work_and_kill(containerd: Containerd, image: Path, turn: int, chance: random.Random) -> None:
    stop = threading.Event()

    def work(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            containerd.try_ctr("images", "import", "--local", "--snapshotter", "lamella", image)
            containerd.try_ctr(
                *("run", "--rm", "--snapshotter", "lamella", IMAGE, f"t{turn}-{number}-{count}"),
                *("sh", "-c", "echo x > /data/x; sync"),
            )
            if number == 0:
                containerd.try_ctr("images", "rm", IMAGE)

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, number) for number in range(3)]
        time.sleep(chance.uniform(0.1, 3.0))  # the moment is what is tested; none is expected of it
        victims = chance.choice([(True, False), (False, True), (True, True)])
        containerd.kill(ours=victims[0], theirs=victims[1])
        stop.set()
        containerd.kill()
        while not all(worker.done() for worker in workers):
            containerd.kill_clients()
            time.sleep(0.02)
        for worker in workers:
            worker.result()
