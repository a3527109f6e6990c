# SPDX-License-Identifier: Apache-2.0
"""The two kinds of pool in the guest: Docker's options for each, and copies of its data and metadata."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

from scripts.commands import dmsetup, run
from scripts.docker_stores import recipes
from scripts.docker_stores.daemon import ROOT
from scripts.docker_stores.manual import PROFILE, PROFILE_TEXT, pool_commands

DISK = os.environ.get("GUEST_DISKS", "/dev/ubd") + "c"
"""The physical volume of direct-lvm."""
REPORTS = {
    "lvs": ("lvs", "-a", "-o", "lv_all"),
    "segs": ("lvs", "-a", "--segments", "-o", "lv_name,lv_uuid,seg_all"),
    "vgs": ("vgs", "-o", "vg_all"),
    "pvs": ("pvs", "-o", "pv_all"),
}


class Pool(ABC):
    """A pool for Docker, whose base device has the file system *fs*."""

    def __init__(self, fs: str) -> None:
        self.fs = fs

    @property
    def options(self) -> list[str]:
        """Docker's storage options."""
        mine = [
            f"dm.basesize={recipes.BASE_SIZE[self.fs] >> 20}M",
            f"dm.fs={self.fs}",
            "dm.min_free_space=2%",
        ]
        if self.fs == "xfs":
            mine.append("dm.xfs_nospace_max_retries=0")  # or a full pool holds the mount for ever
        return mine

    @abstractmethod
    def name(self) -> str:
        """Its device-mapper name."""

    @abstractmethod
    def copy(self, folder: Path) -> None:
        """Copy the pool, which nothing writes to meanwhile, to ``data`` and ``metadata`` in *folder*."""

    @abstractmethod
    def describe(self, folder: Path) -> None:
        """Write what only this kind has into the store's *folder*."""


class LoopPool(Pool):
    """Two files in Docker's own folder, which Docker makes and attaches."""

    @property
    def options(self) -> list[str]:
        data, metadata = recipes.DATA_SIZE[self.fs] >> 20, recipes.METADATA_SIZE["loop-lvm"] >> 20
        return [f"dm.loopdatasize={data}M", f"dm.loopmetadatasize={metadata}M", *super().options]

    def name(self) -> str:
        names = [line.split()[0] for line in dmsetup("ls").splitlines()]
        return next(name for name in names if name.startswith("docker-") and name.endswith("-pool"))

    def copy(self, folder: Path) -> None:
        for half in ("data", "metadata"):
            run("cp", "--sparse=always", ROOT / "devicemapper/devicemapper" / half, folder / half)

    def describe(self, folder: Path) -> None:
        pass


class DirectPool(Pool):
    """The pool ``docker/thinpool``, made with the commands of Docker's manual for direct-lvm."""

    @property
    def options(self) -> list[str]:
        deferred = ["dm.use_deferred_removal=true", "dm.use_deferred_deletion=true"]
        # mke2fs gives so small a file system blocks of 1 KiB, which is what loop-lvm's have.
        blocks = ["dm.mkfsarg=-b4096"] if self.fs == "ext4" else []
        return ["dm.thinpooldev=/dev/mapper/docker-thinpool", *super().options, *deferred, *blocks]

    def make(self) -> None:
        """Make the pool, with automatic extension disabled so that it can become full."""
        Path("/etc/lvm/lvmlocal.conf").write_text(
            "global { event_activation=0 }\nactivation { monitoring=0 }\nbackup { backup=0 archive=0 }\n"
        )
        Path(f"/etc/lvm/profile/{PROFILE}.profile").write_text(PROFILE_TEXT)
        sizes = (recipes.DATA_SIZE[self.fs], recipes.METADATA_SIZE["direct-lvm"])
        data, metadata = (f"-L {size >> 20}M" for size in sizes)
        for command in pool_commands(DISK, data=data, metadata=metadata):
            run(*command.split())

    def name(self) -> str:
        return "docker-thinpool"

    def copy(self, folder: Path) -> None:
        image = folder / "pv.img"
        run("dd", f"if={DISK}", f"of={image}", "bs=1M", "iflag=direct", "conv=sparse", "status=none")
        os.truncate(image, recipes.disk_size(self.fs))
        for half in ("data", "metadata"):
            _, sectors, kind, place = dmsetup("table", f"docker-thinpool_t{half[:4]}").split(maxsplit=3)
            assert kind == "linear"
            start, length = int(place.split()[1]) >> 11, int(sectors) >> 11
            run("dd", f"if={image}", f"of={folder / half}", "bs=1M", f"skip={start}", f"count={length}",
                "conv=sparse", "status=none")  # fmt: skip
            os.truncate(folder / half, length << 20)

    def describe(self, folder: Path) -> None:
        for name, words in REPORTS.items():
            (folder / f"{name}.json").write_text(run(*words, "--reportformat", "json"))
        run("vgcfgbackup", "-f", folder / "vgcfg.txt", "docker")


def pool_of(mode: str, fs: str) -> Pool:
    """A pool ready for Docker's first start."""
    if mode == "loop-lvm":
        return LoopPool(fs)
    pool = DirectPool(fs)
    pool.make()
    return pool
