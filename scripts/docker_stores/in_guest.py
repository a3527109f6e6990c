# SPDX-License-Identifier: Apache-2.0
"""Run in the guest as ``python3 -m scripts.docker_stores.in_guest MODE FS``: make the stores of one kind.

Each state is a folder in the current one.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.commands import attempt, dmsetup, run
from scripts.docker_stores import recipes, truth
from scripts.docker_stores.daemon import LOG, ROOT, Daemon
from scripts.docker_stores.pools import Pool, pool_of
from scripts.docker_stores.sample_images import write_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT_OF_SPACE = Path("/sys/module/dm_thin_pool/parameters/no_space_timeout")
"""Holds the seconds for which a full pool queues writes."""
AREA = Path("/var/lib/docker-store")
"""Where the disk for Docker's folder and for copies is mounted."""
CHANGES = (
    "echo modified by container > /etc/hello; rm /etc/group; mkdir -p /data/sub; "
    "dd if=/dev/urandom of=/data/sub/blob bs=1000 count=150 2>/dev/null; ln -s ../etc /data/link; "
    "echo unlink > /tmp/x; rm -f /home/rand; touch /data/empty; sync"
)
FILLING = "mkdir /fill; dd if=/dev/zero of=/fill/zeros bs=64k oflag=direct; dd if=/dev/zero of=/fill/rest"
WRITER = (
    "mkdir /busy; n=0; while [ $n -lt 40 ]; do n=$((n+1)); mkdir /busy/$n; echo text $n > /busy/$n/file; "
    "ln /busy/$n/file /busy/$n/again; done; rm -r /busy/7; mv /busy/8 /busy/moved; rm /etc/passwd; sync; "
    "touch /ready; sleep 1000"
)


def docker(*words: object) -> str:
    return run("docker", *words)


class Maker:
    """Makes the states, each from the one before."""

    def __init__(self, mode: str, fs: str) -> None:
        self.mode, self.fs = mode, fs
        self.pool: Pool = pool_of(mode, fs)
        self.daemon = Daemon(self.pool.options)
        self.started = time.monotonic()
        self.diff = self.export = ""

    def clean(self) -> None:
        archive = Path("/tmp/images.tar")
        write_archive(archive, Path("/bin/busybox").read_bytes())
        docker("load", "-i", archive)
        docker("run", "--network=none", "--name=web1", "lab/busybox2", "/bin/sh", "-c", CHANGES)
        docker("create", "--network=none", "--name=never-started", "lab/busybox", "/bin/true")

    def full(self) -> None:
        OUT_OF_SPACE.write_text("1")
        for number in range(1, 9):
            name = f"filler{number}"
            docker("create", "--network=none", f"--name={name}", "lab/busybox", "/bin/sh", "-c", FILLING)
            attempt("docker", "start", "-a", name)
            if self._free() == 0:
                return
        raise SystemExit(f"the pool cannot be filled: {dmsetup('status', self.pool.name())}")

    def _free(self) -> int:
        used, total = dmsetup("status", "--noflush", self.pool.name()).split()[5].split("/")
        return int(total) - int(used)

    def changed(self) -> None:
        for name in docker("ps", "-aq", "--filter", "name=filler").split():
            docker("rm", name)
        docker("commit", "web1", "lab/committed")
        docker("create", "--network=none", "--name=of-commit", "lab/committed", "/bin/true")
        removal = ["/bin/rm", "-r", "/home", "/etc/hello"]
        docker("run", "--network=none", "--name=second", "lab/busybox2", *removal)
        docker("commit", "second", "lab/thrown-away")
        docker("rm", "second", "never-started")
        docker("rmi", "lab/thrown-away")
        docker("start", "-a", "of-commit")

    def killed(self) -> None:
        docker("run", "-d", "--network=none", "--name=busy", "lab/committed", "/bin/sh", "-c", WRITER)
        process = docker("inspect", "-f", "{{.State.Pid}}", "busy").strip()
        while not Path(f"/proc/{process}/root/ready").exists():
            time.sleep(0.02)

    def make(self, state: str) -> None:
        """Bring Docker's store into *state*, and write the folder of that state."""
        folder = Path(state)
        folder.mkdir()
        self.daemon.start()
        getattr(self, state)()
        self._record_docker(folder)
        (folder / "dmsetup.running.txt").write_text(dmsetup("table") + dmsetup("status", "--noflush"))
        if state == "killed":
            self.daemon.kill("busy")
        else:
            self.daemon.stop()
        self._report(f"{state}: made")
        if state != "killed":
            run("sync")
        (folder / "dmsetup.stopped.txt").write_text(dmsetup("table") + dmsetup("status", "--noflush"))
        self.pool.describe(folder)
        work = AREA / "copy"
        work.mkdir()
        with self._at_rest(state):
            self.pool.copy(work)
            self._pack(folder)
        if (work / "pv.img").exists():
            run("cp", "--sparse=always", work / "pv.img", folder / "pv.img")
        self._report(f"{state}: packed")
        dump = self._record_tools(work / "metadata", folder)
        truth.record(work, dump, folder / "truth", self.fs, recipes.BASE_SIZE[self.fs])
        shutil.rmtree(work)
        self._report(f"{state}: recorded")

    @contextmanager
    def _at_rest(self, state: str) -> Iterator[None]:
        """Keep the killed store's mounted file systems from writing to the disk, without freezing them."""
        if state != "killed":
            yield
            return
        name = self.pool.name()
        dmsetup("suspend", "--nolockfs", name)
        try:
            yield
        finally:
            dmsetup("resume", name)

    def _record_docker(self, folder: Path) -> None:
        """Write Docker's own reports."""
        (folder / "cmd.txt").write_text(f"{self.daemon.line}\n")
        (folder / "docker-info.txt").write_text(docker("info"))
        images = docker("images", "--no-trunc")
        numbers = [line.split()[2] for line in images.splitlines()[1:]]
        (folder / "images.json").write_text(docker("image", "inspect", *numbers))
        if not self.diff:
            # Once, as web1 does not change any more: Docker mounts it, for which a full pool may lack space.
            self.diff, self.export = docker("diff", "web1"), run("sh", "-c", "docker export web1 | tar tv")
        (folder / "docker-state.txt").write_text(images + docker("ps", "-a", "--no-trunc") + self.diff)
        (folder / "inspect.web1.json").write_text(docker("inspect", "web1"))
        (folder / "export.web1.tv").write_text(self.export)

    def _pack(self, folder: Path) -> None:
        """Pack Docker's folder, without what is mounted in it."""
        archive = (folder / "docker.tar.zst").resolve()
        command = (
            "tar --sparse --xattrs --xattrs-include='*' --one-file-system --warning=no-file-ignored "
            f"-C / -cf - {str(ROOT)[1:]} | zstd -q -1 -o '{archive}'"
        )
        run("bash", "-o", "pipefail", "-c", command)

    def _record_tools(self, metadata: Path, folder: Path) -> str:
        """Write the output of thin-provisioning-tools; gives that of thin_dump."""
        checked = attempt("thin_check", metadata)
        said = f"{checked.stdout}{checked.stderr}exit code {checked.returncode}\n"
        (folder / "thin_check.txt").write_text(said)
        (folder / "thin_ls.txt").write_text(run("thin_ls", metadata))
        dump = run("thin_dump", metadata)
        (folder / "thin_dump.xml").write_text(dump)
        return dump

    def _report(self, what: str) -> None:
        print(f"{time.monotonic() - self.started:6.1f} s  {self.mode} {self.fs} {what}", flush=True)


def prepare(disk: str) -> None:
    """Mount *disk*, an ext4, for Docker's folder."""
    AREA.mkdir(parents=True)
    run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", disk)
    run("mount", disk, AREA)
    (AREA / "docker").mkdir(mode=0o710)
    ROOT.mkdir(exist_ok=True)
    run("mount", "--bind", AREA / "docker", ROOT)


def main() -> None:
    mode, fs = sys.argv[1:]
    prepare(os.environ["GUEST_DISKS"] + "b")
    maker = Maker(mode, fs)
    try:
        for state in recipes.STATES:
            maker.make(state)
    except BaseException:
        print(LOG.read_text(errors="replace")[-4000:], flush=True)
        raise


if __name__ == "__main__":
    main()
