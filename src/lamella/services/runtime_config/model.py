# SPDX-License-Identifier: Apache-2.0
"""What is known of a store, and what is to be written for a runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lamella.errors import BadInputError

SNAPSHOTTER = "lamella"
"""The name under which containerd, Docker and Kubernetes know it."""

DIFFER = "lamella-diff"
"""The name under which containerd knows its diff service: each proxy plugin has a name of its own."""

Reader = Callable[[Path], str | None]
"""Gives a file's text, None where there is none."""


@dataclass(frozen=True)
class Facts:
    """The store that a runtime is to use."""

    root: Path
    """Its folder: what kubelet watches for space."""
    socket: Path
    """Where its snapshotter listens."""
    containerd_version: int = 2
    """The major version of the installed containerd, which may be newer than its file's version tells."""


@dataclass(frozen=True)
class File:
    """One file to write."""

    path: Path
    snippet: str
    """What it needs, alone."""
    before: str | None
    """Its text now, None where there is none."""
    after: str
    """Its text with the snippet merged into it."""

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return self.before != self.after


@dataclass(frozen=True)
class Plan:
    """Everything that a runtime needs."""

    files: tuple[File, ...]
    warnings: tuple[str, ...] = ()
    """What somebody should know before."""
    next_steps: tuple[str, ...] = ()
    """What to do after, in order."""


def refuse(path: Path, why: str) -> BadInputError:
    """The error for a file that nothing can be merged into."""
    return BadInputError(
        f"{path}: {why}",
        hint="nothing was changed: write the settings into it by hand, as shown without --write",
    )
