# SPDX-License-Identifier: Apache-2.0
"""Pages that show a terminal: every command is run, and its output compared with the page.

With LAMELLA_WRITE_PAGES=1 the outputs are written into the pages instead. ``start/walkthrough.md`` needs a
registry, and has a test of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.pages import BLOCK, commands, fill_in, masked, outputs_of, shell_script
from tests.support.stores import lvm_settings

if TYPE_CHECKING:
    from tests.support.docker_stores import DockerStores

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for folder in ("start", "howto")
    for path in (DOCS / folder).glob("*.md")
    if BLOCK.search(path.read_text()) and path.name != "walkthrough.md"
)
HOME = "/home/visitor"
MASKS = (
    # The quickstart's image is made of this Python's library, so its size is not the page's.
    (r"\b\d+(\.\d+)? ?([kMG]i?B|bytes)\b", "SIZE"),
    (r"\b\d+(\.\d+)?%", "PERCENT"),
    (r"\b\d+ (mappings|nodes|devices)\b", r"N \1"),
    (r"(?m)^(Less than|About) an? \w+ ago|\d+ \w+ ago|Less than a second ago", "SOME TIME ago"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME"),
    (r"\d+[.:]\d+-\d{3,}", "FOLDER"),
    (r"\d{8}T?\d{6}Z?", "TIME"),
    (r'("data_\w+": )\d+', r"\1N"),
    (r"METADATA_FREE_BLOCKS=\d+", "METADATA_FREE_BLOCKS=N"),  # by what libext2fs writes
)


def run_page(page: Path, folder: Path) -> list[str]:
    """What the page's commands print, with places as the page has them."""
    (folder / "bin").mkdir()
    program = folder / "bin/lamella"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lamella.cli.main "$@"\n')
    program.chmod(0o755)
    settings = folder / "lvm"
    (settings / "profile").mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="", dir="/tmp") as home, lvm_settings(settings):
        environment = {
            **os.environ,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "LAMELLA_ROOT": f"{home}/lamella",
            "LAMELLA_ENGINE": "user",
            "TZ": "UTC",
        }
        environment.pop("LAMELLA_DEVICES", None)
        done = subprocess.run(
            ["sh"], input=shell_script(command for command, _ in commands(page.read_text())),
            cwd=home, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    said = done.stdout.replace(str(settings / "profile"), "/etc/lvm/profile")
    said = re.sub(rf"{re.escape(home)}/\w+/lvm/profile", "/etc/lvm/profile", said)
    said = said.replace("  mkdir -p /etc/lvm/profile\n", "").replace(home, HOME)
    return outputs_of(said)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_page_shows_what_is_printed(name: str, tmp_path: Path) -> None:
    page = DOCS / name
    outputs = run_page(page, tmp_path)
    steps = commands(page.read_text())
    assert len(outputs) == len(steps)
    if os.environ.get("LAMELLA_WRITE_PAGES") == "1":
        fill_in(page, outputs)
        return
    for (command, expected), said in zip(steps, outputs, strict=True):
        assert masked(said, MASKS) == masked(expected, MASKS), command
        assert "Traceback" not in said


@pytest.mark.slow
def test_an_old_docker_store_is_read(
    docker_store: DockerStores,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (DOCS / "howto/read-docker-store.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    store = docker_store("loop-lvm", "ext4", "clean")
    code = code.replace("/var/lib/docker", str(store.docker))
    exec(compile(code, "read-docker-store.md", "exec"), {})
    assert "rootfs/etc" in capsys.readouterr().out
    listed = subprocess.run(
        ["tar", "-tf", "container.tar"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "rootfs/etc/" in listed.stdout
