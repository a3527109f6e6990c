# SPDX-License-Identifier: Apache-2.0
"""The reference of metrics is that of the table."""

from __future__ import annotations

import re
from pathlib import Path

from lamella.services.metrics.table import TABLE

PAGE = Path(__file__).parents[3] / "docs/reference/metrics.md"


def test_the_reference_has_each_metric() -> None:
    text = PAGE.read_text()
    row = r"^\| `(lamella_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \| ([^|]+) \|$"
    written = {
        name: (kind, re.findall(r"`(\w+)`", labels), unit, says)
        for name, kind, labels, unit, says in re.findall(row, text, re.MULTILINE)
    }
    wanted = {}
    for name, metric in TABLE.items():
        shown = f"{name}_info" if metric.type == "info" else name
        units = re.search(r"_(bytes|seconds|ratio)$", name)
        wanted[shown] = (metric.type, list(metric.labels), units[1] if units else "", metric.help)
    assert written == wanted
