# SPDX-License-Identifier: Apache-2.0
"""What a wheel brings beside the package, built from a source distribution as an index would have it."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from lamella.cli.command_table import COMMANDS, DM_NAMES, LVM_NAMES, LVM_PROGRAM, THIN_TOOL_NAMES
from tests.conftest import SAFELY, missing

PROJECT = Path(__file__).parents[2]
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
BUILD = "from setuptools import build_meta; import sys; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def has_setuptools() -> bool:
    try:
        found = importlib.metadata.version("setuptools").split(".")
    except importlib.metadata.PackageNotFoundError:
        return False
    return (int(found[0]), int(found[1])) >= (70, 1)


def build(what: str, source: Path, folder: Path) -> Path:
    """Build an ``sdist`` or a ``wheel`` from *source*, without a network."""
    folder.mkdir()
    subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{what}", str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (made,) = folder.iterdir()
    return made


@pytest.mark.slow
def test_a_wheel_has_man_pages_and_completion(tmp_path: Path) -> None:
    if not has_setuptools():
        missing("setuptools 70.1 or later, which builds wheels by itself,")
    source = tmp_path / "source"
    source.mkdir()
    for name in FILES:
        shutil.copy(PROJECT / name, source)
    for folder in ("src/lamella", "scripts", "docs"):
        shutil.copytree(PROJECT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    with tarfile.open(build("sdist", source, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", **SAFELY)
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    with zipfile.ZipFile(build("wheel", unpacked, tmp_path / "wheel")) as wheel:
        names = {name.partition(".data/data/")[2] for name in wheel.namelist()}
        (script,) = (name for name in wheel.namelist() if name.endswith("cli/completion/_lamella"))
        assert wheel.read(script).startswith(b"#compdef lamella\n")
    commands = {*COMMANDS, *LVM_NAMES, *LVM_PROGRAM, *DM_NAMES, *THIN_TOOL_NAMES}
    assert names >= {f"share/man/man1/lamella-{name}.1" for name in commands}
    assert names >= {
        "share/man/man1/lamella.1",
        "share/man/man5/lamella-config.5",
        "share/bash-completion/completions/lamella.bash",
        "share/zsh/site-functions/_lamella",
        "share/fish/vendor_completions.d/lamella.fish",
    }
