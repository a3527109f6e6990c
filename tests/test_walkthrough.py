# SPDX-License-Identifier: Apache-2.0
"""``docs/start/walkthrough.md``: every command on the page is run, and its output compared with the page.

With LAMELLA_WRITE_WALKTHROUGH=1 the outputs are written into the page instead.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.images import Sample, make_tar, write_oci_layout
from tests.support.pages import commands, fill_in, masked, outputs_of, shell_script
from tests.support.registry import running_registry
from tests.support.stores import lvm_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path(__file__).parents[1] / "docs" / "start/walkthrough.md"
HOME, PORT, PROFILES = "/home/visitor", "127.0.0.1:5000", "/etc/lvm/profile"


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a path as long as HOME, so that columns are as wide as on the page."""
    with tempfile.TemporaryDirectory(prefix="", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def outputs(tmp_path: Path, tool: Callable[[str], str], home: Path) -> list[str]:
    """What each command really says, with places and ports as the page has them."""
    tool("skopeo")
    tool("docker-registry")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/lamella"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lamella.cli.main "$@"\n')
    program.chmod(0o755)
    settings = tmp_path / "lvm"
    (settings / "profile").mkdir(parents=True)  # as every installation of LVM2 has it
    chance = random.Random(1)
    layers = [make_tar({f"bin/{n}": chance.randbytes(400_000) for n in range(20)}), make_tar({"etc/x": b"1"})]
    layout = write_oci_layout(tmp_path / "layout", [Sample(layers=layers)])
    (tmp_path / "registry").mkdir()
    with lvm_settings(settings), running_registry(tmp_path / "registry") as registry:
        registry.push(f"oci:{layout}", "sample:latest")
        script = shell_script(
            command.replace(PORT, registry.host) for command, _ in commands(PAGE.read_text())
        )
        environment = {
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "LAMELLA_ROOT": str(home / "unset"),
            "TZ": "UTC",
        }
        environment.pop("LAMELLA_DEVICES", None)
        done = subprocess.run(
            ["sh"], input=script, cwd=home, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said = done.stdout.replace(registry.host, PORT)
    for there, shown in (
        (str(settings / "profile"), PROFILES),
        (str(home / "demo2/lvm/profile"), PROFILES),
        (str(home), HOME),
    ):
        said = said.replace(there, shown)
    # Root has LVM2's own folder for profiles; another user's is made with the first store.
    said = said.replace(f"  mkdir -p {PROFILES}\n", "")
    return outputs_of(said)


@pytest.mark.slow
def test_the_page_tells_the_truth(outputs: list[str]) -> None:
    text = PAGE.read_text()
    steps = commands(text)
    assert len(outputs) == len(steps) > 25
    if os.environ.get("LAMELLA_WRITE_WALKTHROUGH") == "1":
        fill_in(PAGE, outputs)
        return
    for (command, expected), said in zip(steps, outputs, strict=True):
        assert masked(said) == masked(expected), command


@pytest.mark.slow
def test_data_rises_and_nothing_fails(outputs: list[str]) -> None:
    """Said once more in plain figures, so that a page written anew cannot hide it."""
    by_command: dict[str, list[str]] = {}
    for (command, _), said in zip(commands(PAGE.read_text()), outputs, strict=True):
        by_command.setdefault(command, []).append(said)
        assert "Traceback" not in said
        assert "error" not in said or "--data-percent 90" in command
    shares = [float(said.splitlines()[1].split()[4]) for said in by_command["lamella lvs"]]
    assert 0 < shares[0] < shares[1]
    assert shares[2] == shares[1]
    for said in by_command["lamella lvs -a -o +seg_pe_ranges,lv_profile,chunk_size,transaction_id"]:
        for run in (":0-9726", ":9727-9828", ":9829-9930", "docker-thinpool", "512.00k"):
            assert run in said
