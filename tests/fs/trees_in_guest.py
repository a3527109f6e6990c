# SPDX-License-Identifier: Apache-2.0
"""Run in the guest: what our reader of XFS, which wants a kernel, sees in devices that lie on a disk.

``python3 -m tests.fs.trees_in_guest DISK`` reads ``plan.json`` in the current folder, a list of
[name, offset, size] in bytes, and writes ``trees.json``: by name whether the log waits, and the rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block import FileDevice
from lamella.fs.kinds import of_kind
from tests.fs import manifests

if TYPE_CHECKING:
    from collections.abc import Iterator

XFS = of_kind("xfs")


class LoopVolume(FileDevice):
    """A loop device that the kernel may mount."""

    @contextmanager
    def lent(self) -> Iterator[str]:
        yield self.path


def main() -> None:
    found = {}
    for name, offset, size in json.loads(Path("plan.json").read_text()):
        command = ["losetup", "-f", "--show", "-o", str(offset), "--sizelimit", str(size), sys.argv[1]]
        node = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        with LoopVolume(node, lock=False) as volume:
            condition = XFS.condition(volume)
            with XFS.reader(volume) as reader:
                rows = manifests.read(reader)
            found[name] = [condition.needs_recovery, condition.uuid, rows]
        subprocess.run(["losetup", "-d", node], check=True)
    Path("trees.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
