# SPDX-License-Identifier: Apache-2.0
"""containerd's content store, as files: ``blobs/ALGORITHM/HEX`` in the folder of its plugin.

Authority: containerd v2.4.2, ``plugins/content/local/store.go``. What is read there is verified by its
digest, so it does not matter whose store a blob is found in.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lamella.images.content import PathPiece
from lamella.images.digest import check_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

PLUGIN = "io.containerd.content.v1.content"
"""The folder of the content store in the root of a containerd."""
ROOTS = (
    "/var/lib/containerd",
    "/var/lib/docker/containerd/daemon",
    "/var/lib/rancher/k3s/agent/containerd",
    "/var/lib/rancher/rke2/agent/containerd",
)
"""Roots of containerds: its own default, and those that Docker, k3s and RKE2 start it with."""


class Content:
    """The blobs in *folders*, content stores; by default those of :data:`ROOTS`."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._folders = list(folders) or [Path(root) / PLUGIN for root in ROOTS]

    def find(self, digest: str) -> PathPiece | None:
        """The blob with that digest, or None. Raises :class:`BadInputError` for what is no digest."""
        algorithm, _, name = check_digest(digest, "a layer").partition(":")
        for folder in self._folders:
            path = folder / "blobs" / algorithm / name
            if path.is_file():
                return PathPiece(str(path), f"layer {digest}")
        return None
