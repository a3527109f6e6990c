# SPDX-License-Identifier: Apache-2.0
"""``direct-lvm.json``: which disks, group and pool a store in direct-lvm mode uses, and what set-up made.

The UUIDs of new physical volumes are chosen and written here before any disk is. So a set-up that was
cut short knows its own work again, and ``teardown`` takes away nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lamella.block.atomic_file import replace_file
from lamella.block.system import explain, explaining
from lamella.errors import CorruptError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "direct-lvm.json"
VERSION = 1


@dataclass
class Record:
    """The content of the file. Paths are absolute; UUIDs are written as LVM prints them."""

    group: str
    pool: str
    made: bool
    """Whether set-up made the group; otherwise it took over a pool made by hand."""
    disks: dict[str, str] = field(default_factory=dict)
    """Path or NBD address to physical volume UUID: in the order of the command line, if set-up made them."""
    group_uuid: str = ""
    pool_uuid: str = ""
    """Of the group and of the pool volume; empty until they are made."""
    profile: str = ""
    """The autoextend profile that set-up wrote."""
    ready: bool = False
    """The pool's devices were handed over to the driver: what is on them may be a store."""
    version: int = VERSION

    def save(self, path: Path) -> None:
        """Write the file so that a crash leaves the old one or the new one."""
        with explaining("write", str(path)):
            replace_file(path, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Record | None:
        """Read it; None where there is none. Raises :class:`CorruptError` for one that is damaged."""
        try:
            content = json.loads(path.read_text("utf-8", "surrogateescape"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explain(error, "read", str(path)) from error
        except (ValueError, RecursionError) as error:
            raise _damaged(path, str(error)) from error
        kinds = {name: type(value) for name, value in asdict(cls("", "", False)).items() if name != "version"}
        if not isinstance(content, dict) or content.pop("version", None) != VERSION:
            raise _damaged(path, f"it is not of version {VERSION}")
        wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
        wrong += [name for name in content if name not in kinds]
        if not wrong and not all(isinstance(each, str) for each in content["disks"].values()):
            wrong = ["disks"]
        if wrong:
            raise _damaged(path, f"{wrong[0]} is missing, unknown or of the wrong kind")
        return cls(**content)


def _damaged(path: Path, why: str) -> CorruptError:
    return CorruptError(
        f"{path} is damaged: {why}",
        hint="restore it from a backup; it names the volume group and the disks of the store",
    )
