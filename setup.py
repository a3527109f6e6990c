# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot express: man pages, generated during the build, and the completion scripts.

The generator imports nothing outside the standard library, so the build needs setuptools alone.
docs/decisions/050-documentation-site.md says why they are not kept in the repository.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "src")]

from scripts.reference.roff import write_all  # noqa: E402 - needs the path above

MAN = Path("build/share/man")
SCRIPTS = "src/lamella/cli/completion"

pages = sorted(write_all(HERE / MAN))
setup(
    data_files=[
        *(
            (f"share/man/{folder}", [str(MAN / folder / page.name) for page in members])
            for folder, members in groupby(pages, lambda page: page.parent.name)
        ),
        ("share/zsh/site-functions", [f"{SCRIPTS}/_lamella"]),
        ("share/fish/vendor_completions.d", [f"{SCRIPTS}/lamella.fish"]),
        ("share/bash-completion/completions", [f"{SCRIPTS}/lamella.bash"]),
    ]
)
