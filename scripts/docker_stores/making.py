# SPDX-License-Identifier: Apache-2.0
"""Stores from the cache; one guest makes the four of a mode and file system."""

from __future__ import annotations

import sys
from pathlib import Path

import zstandard
from scripts.docker_stores import recipes
from scripts.guest.cache import made_once, recipe
from scripts.guest.folders import temporary_folder
from scripts.guest.machine import boot
from scripts.guest.roots import ROOTS

SCRIPT = "python3 -m scripts.docker_stores.in_guest {mode} {fs}\n"
AREA_SIZE = 8 << 30
"""Bytes of the sparse disk for Docker's folder and copies of pools."""
TIMEOUT = 3000.0
"""Seconds; it takes User-mode Linux about thirty, and an emulated machine twenty times as long."""


class MakingFailed(Exception):
    """The guest could not make the stores; the text has its output."""


def store(mode: str, fs: str, state: str) -> Path:
    """The folder of one store, made if it is not in the cache. Raises :class:`MakingFailed`."""
    assert state in recipes.STATES, state
    made = made_once(f"docker-store-{mode}-{fs}", _key(), lambda target: _make(mode, fs, target))
    return made / state


def _key() -> str:
    root = ROOTS["docker20"]
    return recipe(
        root.suite, *root.packages, *(path.read_text() for path in sorted(Path(__file__).parent.glob("*.py")))
    )


def _make(mode: str, fs: str, target: Path) -> None:
    print(f"Making Docker's {mode} stores with {fs}...", file=sys.stderr, flush=True)
    with temporary_folder("docker-disks", "/var/tmp") as folder:
        disks = [folder / "area", folder / "pv"]
        for disk, size in zip(disks, (AREA_SIZE, recipes.disk_size(fs)), strict=True):
            with disk.open("wb") as file:
                file.truncate(size)
        code, output = boot(SCRIPT.format(mode=mode, fs=fs), target, disks, TIMEOUT)
    if code:
        raise MakingFailed(f"Docker's {mode} stores with {fs} could not be made:\n{output}")
    print(output, file=sys.stderr, flush=True)
    for name in ("run.sh", "output", "exit-code", "console"):
        (target / name).unlink()
    for image in target.glob("*/pv.img"):
        _compress(image)


def _compress(image: Path) -> None:
    """Compress *image* on the host: in the guest it takes ten times as long."""
    with image.open("rb") as source, image.with_suffix(".img.zst").open("wb") as out:
        zstandard.ZstdCompressor(level=1).copy_stream(source, out)
    image.unlink()
