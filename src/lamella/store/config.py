# SPDX-License-Identifier: Apache-2.0
"""``config.toml``: what the store was set up with."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.atomic_file import replace_file
from lamella.block.system import explain, explaining
from lamella.errors import CorruptError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
_RESTORE = "restore it from a backup, or write it again: mode and storage_options as given to lamella setup"


@dataclass(frozen=True)
class Config:
    """The mode, and the ``dm.*`` options as they were given."""

    mode: str
    storage_options: tuple[str, ...] = ()
    engine: str = ""
    """The engine that was given to set-up; "" leaves the choice to each command."""

    def save(self, path: Path) -> None:
        """Replace the file atomically."""
        options = "".join(f"    {json.dumps(text, ensure_ascii=False)},\n" for text in self.storage_options)
        text = (
            "# What this Lamella store was set up with. Change it with: lamella setup\n"
            f"version = {VERSION}\n"
            f"mode = {json.dumps(self.mode)}\n"
            f"storage_options = [\n{options}]\n"
            + (f"engine = {json.dumps(self.engine)}\n" if self.engine else "")
        )
        with explaining("write", str(path)):
            replace_file(path, text)

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read it. Raises :class:`NotFoundError`, :class:`CorruptError` or :class:`UnsupportedError`."""
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise NotFoundError(
                f"there is no store in {path.parent}",
                hint="make one: lamella setup loop-lvm (or name another folder with --root)",
            ) from error
        except OSError as error:
            raise explain(error, "read", str(path)) from error
        except (ValueError, RecursionError) as error:  # also of bytes that are no UTF-8, and of long numbers
            raise CorruptError(f"{path} is damaged: {str(error)[:500]}", hint=_RESTORE) from error
        version, mode, options, engine = (
            content.get("version"),
            content.get("mode"),
            content.get("storage_options", []),
            content.get("engine", ""),
        )
        if isinstance(version, int) and VERSION < version < 1 << 32:
            raise UnsupportedError(
                f"{path} has version {version}, and this Lamella knows version {VERSION}",
                hint="use the newer Lamella that wrote it",
            )
        right = version == VERSION and isinstance(mode, str) and isinstance(options, list)
        right = right and isinstance(engine, str)
        if not right or not all(isinstance(text, str) for text in options):
            raise CorruptError(f"{path} has no valid version, mode or storage_options", hint=_RESTORE)
        return cls(str(mode), tuple(options), str(engine))
