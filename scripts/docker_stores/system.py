# SPDX-License-Identifier: Apache-2.0
"""Running programs in the guest."""

from __future__ import annotations

import os
import subprocess

ENVIRONMENT = {**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"}


def run(*words: object, timeout: float = 600) -> str:
    """What a program prints; one that fails ends the making, and is shown with what it said."""
    done = attempt(*words, timeout=timeout)
    if done.returncode:
        line = " ".join(map(str, words))
        raise SystemExit(f"{line} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def attempt(*words: object, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run a program that may fail."""
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env=ENVIRONMENT,
    )


def dmsetup(*words: object) -> str:
    """Without udev, whose rules have nothing to do with what is made here."""
    return run("dmsetup", "--noudevrules", "--noudevsync", *words)
