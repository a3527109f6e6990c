# SPDX-License-Identifier: Apache-2.0
"""What a newcomer without a network is told by ``make quickstart``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
OFFLINE = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip._vendor...>: "
    "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')'\n"
    "ERROR: No matching distribution found for numpy"
)


@pytest.mark.parametrize(("said", "shown"), [(OFFLINE, False), ("ERROR: the hashes do not match", True)])
def test_what_pip_says_is_only_shown_where_it_helps(tmp_path: Path, said: str, shown: bool) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    python = venv / "bin" / "python"
    python.write_text(f'#!/bin/sh\ncat >&2 <<"END"\n{said}\nEND\nexit 1\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["sh", PROJECT / "scripts/make-venv.sh", venv],
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (said in done.stderr) == shown
    assert ("PIP_FIND_LINKS" in done.stderr) != shown
    assert said in (venv / "pip.log").read_text()
