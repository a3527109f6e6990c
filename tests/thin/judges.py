# SPDX-License-Identifier: Apache-2.0
"""The version of the installed thin tools, by which their answers are judged."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache


@cache
def since_1() -> bool:
    """Whether they are of the 1.x series: it fails with 64, where 0.9 did with 1, and counts data too."""
    program = shutil.which("thin_check")
    if program is None:
        return False
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[-1].split(".")[0]) >= 1


def failure() -> int:
    """The exit code with which they fail."""
    return 64 if since_1() else 1
