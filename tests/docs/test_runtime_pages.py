# SPDX-License-Identifier: Apache-2.0
"""The pages about container runtimes show the settings that ``lamella setup --for`` prints."""

from __future__ import annotations

import re
from pathlib import Path

from lamella.services.runtime_config.model import Facts
from lamella.services.runtime_config.targets import TARGETS

HOWTO = Path(__file__).parents[2] / "docs/howto"
FACTS = Facts(Path("/var/lib/lamella"), Path("/var/lib/lamella/run/containerd.sock"))


def test_each_setting_on_a_page_is_one_that_is_printed() -> None:
    printed = {
        file.snippet.strip()
        for target in TARGETS.values()
        for file in target.plan(target.path, FACTS, lambda path: None).files
    }
    shown = []
    for page in ("containerd", "docker", "kubernetes"):
        shown += re.findall(r"```(?:toml|json)\n(.*?)```", (HOWTO / f"{page}.md").read_text(), re.DOTALL)
    assert len(shown) == 2
    assert {text.strip() for text in shown} <= printed


def test_each_runtime_is_on_a_page() -> None:
    pages = "".join((HOWTO / f"{page}.md").read_text() for page in ("containerd", "docker", "kubernetes"))
    for name in TARGETS:
        assert f"lamella setup --for {name}" in pages
