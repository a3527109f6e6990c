# SPDX-License-Identifier: Apache-2.0
"""The real LVM2 on loop devices, and our commands on the same or other ones, to be compared."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.cli.lvm import main_lvm
from tests.conftest import missing
from tests.lvm.later_words import earlier_words, laid_out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOT_ROOT = "  WARNING: Running as a non-root user. Functionality may be unavailable."
"""What the real one says first to anybody else; ours works for everybody."""
ACTIVATION = "  WARNING: Activation disabled. No device-mapper interaction will be attempted."
NOISE = re.compile(
    r"device-mapper|/dev/mapper/control|libdevmapper|Reloading config files|Check that|modprobe"
    r"|NOT backed up|Skipping zeroing and wipping|Failed to check for active volumes"
)
"""What the real one says only because there is no device-mapper, or on -v about itself."""


@dataclass(frozen=True)
class Answer:
    """Exit code, standard output, and the lines of standard error that matter."""

    code: int
    out: str
    err: tuple[str, ...] = ()

    def renamed(self, names: dict[str, str]) -> Answer:
        """The same with other device names."""

        def change(text: str) -> str:
            for old, new in names.items():
                text = re.sub(re.escape(old) + r"(?![0-9])", new, text)
            return text

        return Answer(self.code, change(self.out), tuple(change(line) for line in self.err))

    @property
    def laid_out(self) -> Answer:
        """The same, as the layout of the installed LVM2's version is compared."""
        return Answer(self.code, laid_out(self.out), tuple(laid_out(line) for line in self.err))


def _lines(text: str) -> tuple[str, ...]:
    kept = (line for line in text.split("\n") if line and line not in (ACTIVATION, NOT_ROOT))
    return tuple(line for line in kept if not NOISE.search(line))


def in_order(devices: Sequence[str]) -> list[str]:
    """*devices* by their numbers, as the real one reads them: what it prints first depends on it."""
    return sorted(devices, key=lambda path: [int(part) for part in re.findall("[0-9]+", path)])


def ours(words: Sequence[str], devices: Sequence[str], *, config: str = "global{activation=0}") -> Answer:
    """Run one of our commands in this process, without activation, backups and archives."""
    settings = f'{config} devices{{hints="none"}} backup{{backup=0 archive=0}}'
    out, err = io.StringIO(), io.StringIO()
    stdin, sys.stdin = sys.stdin, io.StringIO()
    argv = ["--config", settings, "--devices", ",".join(in_order(devices)), "--nolocking", *words[1:]]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main_lvm(words[0], argv)
    finally:
        sys.stdin = stdin
    return Answer(code, out.getvalue(), _lines(err.getvalue()))


def real_program() -> str:
    """The path of the real ``lvm``; skips the test if it is missing."""
    path = shutil.which("lvm")
    if path is None:
        missing("the program lvm (LVM2)")
    assert path is not None
    return path


def real(words: Sequence[str], devices: Sequence[str], *, whole: bool = False) -> Answer:
    """Run the real one with the same settings; *whole* keeps all that it says."""
    accept = ",".join(f'"a|^{device}$|"' for device in devices)
    config = (
        f'global{{activation=0}} devices{{filter=[{accept},"r|.*|"] use_devicesfile=0 hints="none"}} '
        "backup{backup=0 archive=0}"
    )
    done = subprocess.run(
        [real_program(), words[0], "--config", config, *words[1:]],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"},
    )
    out, err = earlier_words(done.stdout, done.stderr)
    said = tuple(err.splitlines()) if whole else _lines(err)
    return Answer(done.returncode, out, said)


@dataclass
class Loops:
    """Loop devices over files; detached at the end."""

    devices: list[str] = field(default_factory=list)

    def attach(self, path: Path, *, read_only: bool = False) -> str:
        """The loop device over *path*; skips the test where there can be none."""
        if os.geteuid() != 0 or shutil.which("losetup") is None:
            missing("a loop device (root and losetup)")
        command = ["losetup", "-f", "--show", *(["-r"] if read_only else []), str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            missing(f"a loop device ({done.stderr.strip()})")
        device = done.stdout.strip()
        self.devices.append(device)
        return device

    def make(self, folder: Path, count: int, size: int) -> list[str]:
        """*count* loop devices over new sparse files of *size* bytes."""
        made = []
        for _ in range(count):
            path = folder / f"disk{len(self.devices)}"
            with path.open("wb") as stream:
                stream.truncate(size)
            made.append(self.attach(path))
        # losetup gives any free number when other tests use loop devices too.
        return in_order(made)

    def detach(self) -> None:
        for device in self.devices:
            subprocess.run(["losetup", "-d", device], check=False)
        self.devices.clear()
