# SPDX-License-Identifier: Apache-2.0
"""Docker 20.10's own devicemapper driver on a pool that `lamella setup direct-lvm --pool-only` made."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.driver.direct_lvm.group import Disks
from lamella.driver.direct_lvm.record import NAME, Record
from lamella.driver.state import BASE, Device, State
from lamella.errors import ExistsError
from lamella.fs.ext4.reader import Reader
from lamella.store import Store, schema
from lamella.store.config import Config
from lamella.store.pool_only import make_pool
from tests.guest.machine import Disk, disk, dmsetup, run
from tests.images.fake_registry import fake_registry
from tests.support.images import Sample, make_tar, write_docker_archive
from tests.support.stores import metadata_file

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = "docker"
POOL = "docker-thinpool"
OPTIONS = ("dm.basesize=256M", "dm.min_free_space=5%", "dm.use_deferred_removal=true")
"""Options for both Docker and Lamella."""


class Daemon:
    """A dockerd with its own containerd."""

    def __init__(self, folder: Path, *storage_options: str) -> None:
        folder.mkdir(exist_ok=True)
        self.root, self.log, self.socket = folder / "docker", folder / "dockerd.log", folder / "docker.sock"
        self.storage_options = storage_options
        self.command: list[str | Path] = [
            *("dockerd", "--data-root", self.root, "--exec-root", folder / "exec"),
            *("--pidfile", folder / "docker.pid", "--host", f"unix://{self.socket}"),
            *("--bridge=none", "--iptables=false", "--ip-masq=false", "--storage-driver=devicemapper"),
            *(word for option in storage_options for word in ("--storage-opt", option)),
        ]

    def refusal(self) -> str:
        """Start dockerd, which has to refuse; gives its log."""
        with self.log.open("w") as log:
            done = subprocess.run(self.command, stdout=log, stderr=log, timeout=200, check=False)
        assert done.returncode == 1, self.log.read_text()
        return self.log.read_text()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run dockerd for the block, from its readiness to its end."""
        notify = self.log.with_name("notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.log.open("w") as log:
            ready.bind(os.fspath(notify))
            ready.settimeout(200)
            process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": os.fspath(notify)}
            )
            try:
                try:
                    while b"READY=1" not in ready.recv(4096):
                        pass
                except TimeoutError:
                    raise AssertionError(f"dockerd did not start:\n{self.log.read_text()}") from None
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=200)
                notify.unlink()

    def docker(self, *words: object) -> str:
        return run("docker", "--host", f"unix://{self.socket}", *words)

    def device_of_container(self) -> str:
        """The name of the one container's device."""
        mounts = self.root / "image/devicemapper/layerdb/mounts"
        return (next(mounts.iterdir()) / "mount-id").read_text()

    def status(self) -> list[list[str]]:
        """The storage driver's lines of ``docker info``."""
        found: list[list[str]] = json.loads(self.docker("info", "--format", "{{json .DriverStatus}}"))
        return found

    def device(self, name: str) -> Device:
        """Docker's record of a thin device."""
        kept = json.loads((self.root / "devicemapper/metadata" / name).read_text())
        numbers = (kept["device_id"], kept["size"], kept["transaction_id"])
        return Device(name, *numbers, kept["initialized"], kept["deleted"])


def busybox() -> Sample:
    """An image of the guest's static busybox."""
    program, shell = tarfile.TarInfo("bin/busybox"), tarfile.TarInfo("bin/sh")
    content = Path("/bin/busybox").read_bytes()
    program.size, program.mode = len(content), 0o755
    shell.type, shell.linkname = tarfile.SYMTYPE, "busybox"
    layer = make_tar({"etc/motd": b"of the image\n"}, members=[(program, content), (shell, b"")])
    return Sample(layers=[layer], references=["busybox:ours"])


def adopt(root: Path, place: Disk, daemon: Daemon) -> None:
    """A store of ours that knows the base device of Docker's pool: the same pool in the same state, to us."""
    facts = json.loads((daemon.root / "devicemapper/metadata/deviceset-metadata").read_text())
    transaction = json.loads((daemon.root / "devicemapper/metadata/transaction-metadata").read_text())
    root.mkdir()
    (root / "run").mkdir()
    Config("direct-lvm", (f"dm.thinpooldev={POOL}", *OPTIONS)).save(root / "config.toml")
    session, found = Disks(root).find(GROUP, [place.device])
    with session:
        disks = {each.path: uuid for uuid, each in found.disks.items()}
        pool = found.group.lvs["thinpool"].uuid
        Record(GROUP, "thinpool", False, disks, found.group.uuid, pool, ready=True).save(root / NAME)
    state = State.create(root / "state.db", schema)
    with state.transaction():
        state.set_pool(
            transaction_id=transaction["open_transaction_id"],
            next_device_id=facts["next_device_id"],
            base_uuid=facts["BaseDeviceUUID"],
            base_filesystem=facts["BaseDeviceFilesystem"],
        )
        state.put_device(daemon.device(BASE))
    state.close()


def test_docker_runs_on_our_pool(tmp_path: Path) -> None:
    """It takes the pool for its own, pulls, loads and runs; `docker info` and `lamella info` say the same."""
    sample = busybox()
    with disk(tmp_path / "disk", 2 << 30, GROUP) as place, contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, tmp_path / "docker", ignore_errors=True)
        pool_options = [
            f"dm.directlvm_device={place.device}",
            "dm.thinp_percent=90",
            "dm.thinp_metapercent=2",
        ]
        assert make_pool(tmp_path / "made", storage_options=pool_options) == POOL
        place.lvm("lvchange", "-ay", f"{GROUP}/thinpool")
        fresh = dmsetup("status", POOL).split()
        assert (fresh[3], fresh[5].split("/")[0]) == ("0", "0")  # Docker's conditions

        daemon = Daemon(tmp_path, f"dm.thinpooldev=/dev/mapper/{POOL}", "dm.fs=ext4", *OPTIONS)
        with daemon.running(), fake_registry() as registry:
            registry.behaviour.add(sample)
            daemon.docker("pull", "--quiet", f"{registry.host}/library/busybox:1")
            write_docker_archive(tmp_path / "image.tar", [sample])
            daemon.docker("load", "--quiet", "--input", tmp_path / "image.tar")
            inspected = json.loads(daemon.docker("image", "inspect", "busybox:ours"))[0]
            assert inspected["Id"] == sample.image_id  # of both: one image, two names
            assert len(inspected["RepoTags"]) == 2
            script = "/bin/busybox cat /etc/motd; echo of the container > /made"
            said = daemon.docker(
                "run", "--network=none", "--name=one", "busybox:ours", "/bin/sh", "-c", script
            )
            assert said == "of the image\n"
            assert daemon.docker("diff", "one").split() == ["A", "/made"]
            theirs = daemon.status()
            assert theirs[0] == ["Pool Name", POOL]
            devices = {name: daemon.device(name) for name in (BASE, daemon.device_of_container())}
        transaction = int(dmsetup("status", POOL).split()[3])
        place.lvm("lvchange", "-an", f"{GROUP}/thinpool")

        adopt(tmp_path / "store", place, daemon)
        with Store.open(tmp_path / "store", engine="user", read_only=True) as store:
            ours = [list(line) for line in store.info().lines()]
            assert ours[:-1] == theirs[:-1]
            assert ours[-1][0] == theirs[-1][0] == "Library Version"
            pool = store.devices.pool
            assert pool.transaction_id == transaction
            container = devices.popitem()[1]
            with pool.open_volume(container.device_id, container.size, read_only=True) as volume:
                reader = Reader.open(volume)
                for path, content in (("etc/motd", "of the image"), ("made", "of the container")):
                    assert b"".join(reader.read(f"rootfs/{path}".encode())) == f"{content}\n".encode()
        with metadata_file(tmp_path / "store", tmp_path) as metadata:
            run("thin_check", metadata)

        # The pool is in use now: both refuse it for a new store, with the same message.
        words = f"Unable to take ownership of thin-pool ({POOL}) that already has used data blocks"
        with pytest.raises(ExistsError, match=re.escape(words)):
            Store.setup(tmp_path / "other", storage_options=[f"dm.thinpooldev={POOL}"], engine="user")
        place.lvm("lvchange", "-ay", f"{GROUP}/thinpool")
        assert words in Daemon(tmp_path / "other-docker", *daemon.storage_options).refusal()
