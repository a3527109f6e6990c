# SPDX-License-Identifier: Apache-2.0
"""Disks, LVM commands on them, and the volume group that a store has on them."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from scripts.docker_stores.manual import PROFILE, PROFILE_TEXT, pool_commands

from lamella.cli.lvm import main_lvm
from lamella.driver.direct_lvm.group import Disks
from lamella.lvm.format.group_writer import write_readable
from tests.support.stores import disks_of

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30


def digest(path: Path) -> str:
    """What is in a file, in short."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def lvm(*words: object) -> None:
    assert main_lvm(str(words[0]), [str(word) for word in words[1:]]) == 0, words


def text_of(root: Path, group: str = "docker") -> str:
    """The group's text with identifiers, times, hosts and paths masked."""
    disks = Disks(root)
    session, found = disks.find(group, json.loads((root / "direct-lvm.json").read_text())["disks"])
    with session:
        return masked(write_readable(found.group, disks.environment.header("x")))


def masked(text: str) -> str:
    text = re.sub(r'id = "\w{6}(-\w{4}){5}-\w{6}"', "id", text)
    text = re.sub(r"creation_time = \d+.*|#.*", "", text)
    return re.sub(r'(creation_host|description|device) = ".*"', r"\1", text)


def by_hand(folder: Path, *disks: Path, metadata: str = "1%VG") -> None:
    """The walkthrough's steps, by Lamella's LVM commands."""
    (folder / "profile").mkdir(exist_ok=True)
    (folder / f"profile/{PROFILE}.profile").write_text(PROFILE_TEXT)
    for command in pool_commands(*disks, metadata=f"-l {metadata}"):
        name, *words = command.split()
        lvm(name, "-y", *(word for word in words if word != "-y"))


def digests(root: Path) -> list[str]:
    """What is on the store's disks, in short."""
    return [digest(path) for path in disks_of(root)]
