# SPDX-License-Identifier: Apache-2.0
"""Would the tests notice a lost flush? Take each one out of the code in turn, and run the tests on the rest.

A flush orders writes and makes them durable; without it everything still works until the power fails. Only
tests that drop what was not flushed can tell (``tests/support/recording.py``). mutmut takes out no calls,
so this is done here::

    python -m scripts.lost_flushes            # every flush of MODULES
    python -m scripts.lost_flushes lvm/disks  # those below src/lamella/lvm/disks

Ends with 1 if the tests passed without one of the flushes.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
_LVM = "tests/lvm/operations/test_power_cut.py"
_ENGINE = "tests/thin/engine/test_crash.py"
MODULES: dict[str, tuple[str, ...]] = {
    "lvm/session/commit.py": (_LVM,),
    "lvm/disks/disk.py": (_LVM,),
    "lvm/disks/volume_device.py": (_LVM,),
    "lvm/disks/signatures.py": (_LVM,),
    "lvm/operations/lv_wipe.py": (_LVM,),
    "lvm/operations/pv_orphan.py": (_LVM,),
    "lvm/operations/physical_volumes.py": (_LVM,),
    "lvm/operations/pv_move.py": ("tests/lvm/operations/test_pv_move.py",),
    "thin/engine/live_metadata.py": (_ENGINE,),
    "thin/engine/pool_core.py": (_ENGINE,),
    "thin/tools/metadata_builder.py": ("tests/thin/tools/test_build_crash.py",),
    "thin/tools/leak_repair.py": ("tests/thin/tools/test_leak_repair.py",),
}
"""Modules below ``src/lamella``, and the tests that have to notice."""
_DEVICES = ("device", "target", "writer", "data_device", "metadata_device")
"""What is flushed, as its last name; other flushes are of buffers in memory."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A module's *source* without the flush at *line*, which read *call*."""

    line: int
    call: str
    source: str


def without_each_flush(source: str) -> Iterator[Lost]:
    """*source* with one statement ``….flush()`` replaced by ``pass``, each in turn."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr="flush", value=flushed))):
                call = ast.unparse(node)
                if ast.unparse(flushed).rpartition(".")[2] not in _DEVICES:
                    continue
                line = lines[node.lineno - 1]
                indent = line[: len(line) - len(line.lstrip())]
                rest = lines[node.end_lineno or node.lineno :]
                yield Lost(node.lineno, call, "".join([*lines[: node.lineno - 1], f"{indent}pass\n", *rest]))


def noticed(sources: Path, tests: tuple[str, ...]) -> bool:
    """Whether a test fails with the package in *sources*."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not guest", *tests],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(sources)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode not in (0, 1):
        raise SystemExit(f"the tests {' '.join(tests)} did not run:\n{result.stdout}{result.stderr}")
    return result.returncode == 1


def main(arguments: list[str]) -> int:
    """Try every flush below the given folders or modules (none: all), and print what the tests made of it."""
    chosen = [name for name in MODULES if not arguments or name.startswith(tuple(arguments))]
    total = missed = 0
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder)
        shutil.copytree(
            ROOT / "src/lamella", sources / "lamella", ignore=shutil.ignore_patterns("__pycache__")
        )
        for tests in dict.fromkeys(MODULES[name] for name in chosen):
            if noticed(sources, tests):
                raise SystemExit(f"the tests {' '.join(tests)} fail as the code is")
        for name in chosen:
            module = sources / "lamella" / name
            source = module.read_text()
            for lost in without_each_flush(source):
                total += 1
                module.write_text(lost.source)
                found = noticed(sources, MODULES[name])
                missed += found
                print(f"{'noticed ' if found else 'NOT SEEN'} {name}:{lost.line} {lost.call}", flush=True)
            module.write_text(source)
    print(f"{missed} of {total} lost flushes noticed")
    return 0 if missed == total else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
