# SPDX-License-Identifier: Apache-2.0
"""The runtimes that files can be written for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lamella.services.runtime_config import containerd, docker, k3s

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.services.runtime_config.model import Facts, Plan, Reader


class Target(NamedTuple):
    """A runtime."""

    path: Path
    """Its file (of k3s: the folder of its templates), where no other is named."""
    plan: Callable[[Path, Facts, Reader], Plan]


TARGETS = {
    "containerd": Target(docker.CONTAINERD, containerd.for_containerd),
    "docker": Target(Path("/etc/docker/daemon.json"), docker.for_docker),
    "k3s": Target(k3s.FOLDER, k3s.for_k3s),
    "kata": Target(docker.CONTAINERD, containerd.for_kata),
    "firecracker": Target(Path("/etc/firecracker-containerd/config.toml"), containerd.for_firecracker),
}
