# SPDX-License-Identifier: Apache-2.0
"""What the server that goes on with a file system has to know, in a file beside its folder.

The file is only good together with the descriptor of ``/dev/fuse`` that was kept when it was written: a token
stands in it that the keeper knows too, and it is removed before it is used.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from lamella import logs
from lamella.block.atomic_file import replacing, unfinished
from lamella.services.fuse.protocol import Agreed, InitFlag

log = logs.logger(__name__)

_VERSION = 1
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file, and the store's device that is below it."""

    name: str
    node: int
    handles: dict[int, int]
    """The thread that opened it, by open handle."""
    device: str
    device_id: int
    size: int
    read_only: bool
    loop: int
    """The number of its loop device."""
    leaving: bool
    """The loop device was detached while it was mounted."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file system without a server."""

    token: str
    point: str
    number: tuple[int, int]
    """The (major, minor) of the mount."""
    pool: str
    """What tells the store's pool from others."""
    agreed: Agreed
    following: int
    """Nodes and handles have had smaller numbers."""
    files: tuple[KeptFile, ...]

    def write(self, path: Path) -> None:
        """Replace the file at *path*, which only its owner may read. Raises ``OSError``."""
        fields = {"version": _VERSION, "boot": _boot(), **asdict(self)}
        with replacing(path, temporary=unfinished(path), mode=0o600) as file:
            file.write(json.dumps(fields, indent=1).encode())


def take(path: Path) -> Table | None:
    """Read the table and remove its file; None if there is none, or one that is not for us."""
    try:
        data = path.read_bytes()
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.info("cannot take over what an earlier server has left: %s", error)
        return None
    try:
        fields = json.loads(data)
        if fields.pop("version") != _VERSION:
            raise ValueError("of another version")
        if fields.pop("boot") != _boot():
            raise ValueError("from before the machine was started")
        return _parse(fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.info("%s is not used: %s", path, error)
        return None


def new_token() -> str:
    """One that nobody can guess."""
    return os.urandom(16).hex()


def _parse(fields: dict[str, object]) -> Table:
    table = Table(**fields)  # type: ignore[arg-type]
    agreed = Agreed(**table.agreed)  # type: ignore[arg-type]
    files = []
    for each in table.files:
        file = KeptFile(**each)  # type: ignore[arg-type]
        handles = {int(handle): thread for handle, thread in file.handles.items()}
        _expect(file, str, "name", "device")
        _expect(file, int, "node", "device_id", "size", "loop")
        files.append(
            KeptFile(
                file.name, file.node, handles, file.device, file.device_id, file.size, bool(file.read_only),
                file.loop, bool(file.leaving),
            )
        )  # fmt: skip
    _expect(table, str, "token", "point", "pool")
    _expect(table, int, "following")
    _expect(agreed, int, "minor", "flags", "max_write")
    major, minor = table.number
    found = Agreed(agreed.minor, InitFlag(agreed.flags), agreed.max_write)
    return Table(table.token, table.point, (major, minor), table.pool, found, table.following, tuple(files))


def _expect(values: object, kind: type, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(values, name), kind):
            raise TypeError(f"{name} is not {kind.__name__}")


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
