# SPDX-License-Identifier: Apache-2.0
"""Run the real ``lvm``, or our commands in this process, with a folder of settings (``LVM_SYSTEM_DIR``)."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.cli.lvm import main_lvm
from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERSION = "2.03.16"
"""The LVM2 whose answers ours are to be; others word some of them differently."""
TIMEOUT = 60
"""Seconds for one command."""


@dataclass(frozen=True)
class Answer:
    """What one command ended with and printed. The code is -1 for a traceback."""

    code: int
    out: str
    err: str


def environment(etc: Path, root: Path) -> dict[str, str]:
    """What both programs find in their environment, beside what is there anyway."""
    return {
        "LVM_SYSTEM_DIR": str(etc),
        "LVM_SUPPRESS_FD_WARNINGS": "1",
        "LAMELLA_ROOT": str(root),
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def real_version() -> str:
    """The version of the installed LVM2; "" if there is none."""
    if shutil.which("lvm") is None:
        return ""
    said = real_output(["version"])
    return said.partition("LVM version:")[2].strip().partition("(")[0]


def need_own_version() -> None:
    """Skip the test if LVM2 is not here (which may fail instead), or is not the version that ours follows."""
    version = real_version()
    if not version:
        missing("the program lvm (LVM2)")
    if version != VERSION:
        pytest.skip(f"our messages are those of LVM2 {VERSION}, and {version} is here")


def real_output(words: Sequence[str]) -> str:
    """What the real one prints on standard output, with the settings of the machine."""
    done = subprocess.run(
        ["lvm", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1", "LC_ALL": "C"},
    )
    return done.stdout


OWN_RUN = ("unshare", "-m", "--propagation", "private", "sh", "-c")
"""Runs a command with mounts of its own."""
EMPTY_RUN = 'mkdir -p /run/lvm; mount -t tmpfs none /run/lvm || exit 99; exec lvm "$@"'
"""LVM2 with an empty ``/run/lvm``: whether it looks for devices depends on what any command left there."""


def real(words: Sequence[str], around: dict[str, str]) -> Answer:
    """Run a command of the real one."""
    settings = Path(around["LVM_SYSTEM_DIR"], "lvm.conf")
    listed = settings.is_file() and "use_devicesfile=1" in settings.read_text()
    done = subprocess.run(
        [*OWN_RUN, EMPTY_RUN, "lvm", *words] if listed else ["lvm", *words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        cwd=around["LVM_SYSTEM_DIR"],
        env={**os.environ, **around},
        timeout=TIMEOUT,
    )
    if listed and done.returncode == 99:
        missing(f"a mount of its own for a program ({done.stderr.decode().strip()})")
    return Answer(
        done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    )


def ours(words: Sequence[str], around: dict[str, str]) -> Answer:
    """Run our command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with _environment(around), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        stdin, sys.stdin = sys.stdin, io.StringIO()
        try:
            code = main_lvm(words[0], list(words[1:]))
        except Exception:  # what a user would see as an internal error is a difference like others
            code = -1
            traceback.print_exc()
        finally:
            sys.stdin = stdin
    return Answer(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _environment(around: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in around}
    folder = os.getcwd()
    os.environ.update(around)
    os.chdir(around["LVM_SYSTEM_DIR"])
    try:
        yield
    finally:
        os.chdir(folder)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
