# SPDX-License-Identifier: Apache-2.0
"""The guest's root images, made by mmdebstrap. Each has Debian's kernel too, for QEMU.

``docker20`` is the last Debian whose Docker has the devicemapper driver; ``current`` is for services that
work with what is current. A root is made when something first wants it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts.guest.apt import AptError, mirror
from scripts.guest.cache import made_once, recipe
from scripts.guest.folders import temporary_folder

STDERR = 2
"""The process's own: a test may have put something without a descriptor in the place of ``sys.stderr``."""
STUB = Path(__file__).with_name("stub.sh")
SYSTEM = (
    *("linux-image-amd64", "udev", "kmod", "busybox-static", "procps", "iproute2", "util-linux", "mount"),
    *("lvm2", "dmsetup", "thin-provisioning-tools", "e2fsprogs", "xfsprogs", "attr", "acl", "zstd"),
    *("docker.io", "containerd", "runc", "ca-certificates", "qemu-utils", "nbdkit", "fio"),
    *("python3", "python3-venv"),
)


class NotMade(Exception):
    """A root cannot be made; mmdebstrap has printed the reason."""


_failed: dict[str, str] = {}
"""Failures in this process by root, so that none is tried twice, for minutes."""


@dataclass(frozen=True)
class Recipe:
    """A root: Debian's suite and what is installed of it."""

    suite: str
    packages: tuple[str, ...]
    python: str
    """The version of its Python, for the wheels that it is given."""


ROOTS = {
    # The rest is for tests of the store: real programs, and servers of blocks and layers; and strace, with
    # which scripts.fixtures records Docker's device-mapper calls.
    "docker20": Recipe(
        "bookworm",
        (*SYSTEM, "umoci", "skopeo", "docker-registry", "libarchive-tools", "openssl", "strace"),
        "3.11",
    ),
    "current": Recipe(
        "testing",
        (*SYSTEM, "docker-cli", "docker-buildx", "docker-registry", "crun", "skopeo", "umoci"),
        "3.14",
    ),
}


@dataclass(frozen=True)
class Root:
    """A root in the cache: ``root.img``, an ext4; ``kernel`` and ``modules``, what QEMU boots it with."""

    name: str
    folder: Path
    python: str

    @property
    def image(self) -> Path:
        return self.folder / "root.img"


def root(name: str) -> Root:
    """The root *name*, made if it is not in the cache. Raises :class:`NotMade`."""
    found = ROOTS[name]
    key = recipe(found.suite, *found.packages, STUB.read_text())
    return Root(name, made_once(f"root-{name}", key, lambda target: _make(name, found, target)), found.python)


def _make(name: str, found: Recipe, target: Path) -> None:
    if name in _failed:
        raise NotMade(_failed[name])
    print(f"Making the guest's root {name} (about two minutes)...", file=sys.stderr, flush=True)
    # mmdebstrap's hooks may run as a user that only its own namespace knows, so they write to places that are
    # open to it, below a folder that nobody else knows the name of.
    with temporary_folder("root-building", "/var/tmp") as work:
        work.chmod(0o711)
        image, boot, tree = work / "root.img", work / "boot.tar", work / "tree"
        for file in (image, boot):
            file.touch()
            file.chmod(0o666)
        tree.mkdir()
        shutil.copy(STUB, work / "stub.sh")
        (work / "stub.sh").chmod(0o755)
        keep = (
            f'cp {work}/stub.sh "$1/sbin/guest-init" && release=$(ls "$1"/lib/modules) && '
            f'tar -C "$1" -cf {boot} "boot/vmlinuz-$release" "lib/modules/$release" bin/busybox && '
            'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*'
        )
        # Through a bind mount, the tree is without the mounts of mmdebstrap.
        mkfs = f"mkfs.ext4 -q -F -O ^has_journal -d {tree} {image} 8G"
        pack = f'mount --bind "$1" {tree} && {mkfs} && umount {tree}'
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        # INITRD=No: the kernel's package makes no initramfs; QEMU is given a small one of ours.
        done = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(found.packages)}",
             '--aptopt=Acquire::Check-Valid-Until "false"',  # a mirror may be some weeks old
             "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
             f"--customize-hook={keep}", f"--customize-hook={pack}",
             "--format=null", found.suite, "-", *_mirror()],
            check=False, stdout=STDERR, env=os.environ | {"PATH": path, "INITRD": "No"},
        )  # fmt: skip
        if done.returncode:
            _failed[name] = f"mmdebstrap cannot make the guest's root {name} (exit code {done.returncode})"
            raise NotMade(_failed[name])
        subprocess.run(["cp", "--sparse=always", image, target / "root.img"], check=True)
        subprocess.run(["tar", "-C", work, "-xf", boot], check=True)
        shutil.move(next((work / "boot").iterdir()), target / "kernel")
        shutil.move(next((work / "lib/modules").iterdir()), target / "modules")
        shutil.move(work / "bin/busybox", target / "busybox")


def _mirror() -> list[str]:
    """The machine's mirror of Debian; none on another system, for mmdebstrap's default."""
    try:
        return [mirror()]
    except AptError:
        return []
