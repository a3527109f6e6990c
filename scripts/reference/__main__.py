# SPDX-License-Identifier: Apache-2.0
"""``python -m scripts.reference docs|man FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.reference import markdown, roff

if len(sys.argv) != 3 or sys.argv[1] not in ("docs", "man"):
    sys.exit(__doc__)
{"docs": markdown, "man": roff}[sys.argv[1]].write_all(Path(sys.argv[2]))
