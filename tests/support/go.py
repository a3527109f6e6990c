# SPDX-License-Identifier: Apache-2.0
"""Programs in Go that use containerd's own code: ``tests/conformance`` has their module."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

MODULE = Path(__file__).parents[1] / "conformance"
_PLACES = f"{os.environ.get('PATH', '')}:/usr/local/go/bin:/usr/lib/go/bin"


def build(target: Path, how: Sequence[str], package: str) -> Path:
    """Make the program *target* of *package* (``build``, ``test -c``), or skip and say what is missing."""
    go = shutil.which("go", path=_PLACES)
    if go is None:
        missing("the program go")
    assert go is not None
    # Linked to no library, so that it runs in the guest too.
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    got = subprocess.run([go, "mod", "download"], cwd=MODULE, env=environment, capture_output=True, text=True)
    if got.returncode:
        missing(f"a module that tests/conformance/go.mod names ({got.stderr.strip()[-300:]})")
    subprocess.run([go, *how, "-o", target, package], cwd=MODULE, env=environment, check=True)
    return target
