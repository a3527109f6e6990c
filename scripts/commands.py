# SPDX-License-Identifier: Apache-2.0
"""Commands that scripts run in the guest."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"}


def run(*words: object, timeout: float = 600) -> str:
    """The standard output of a program; one that fails ends the script, with all its output."""
    done = attempt(*words, timeout=timeout)
    if done.returncode:
        line = " ".join(map(str, words))
        raise SystemExit(f"{line} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def attempt(*words: object, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run a program that may fail; *timeout* in seconds."""
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env=ENVIRONMENT,
    )


def dmsetup(*words: object) -> str:
    """``dmsetup`` without udev, whose rules have no part in what scripts make."""
    return run("dmsetup", "--noudevrules", "--noudevsync", *words)


def shell(command: str, folder: Path | None = None) -> tuple[int, str]:
    """The exit code of a shell's *command* in *folder*, and both its outputs as one text."""
    done = subprocess.run(
        command, shell=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode, done.stdout.decode(errors="replace")
