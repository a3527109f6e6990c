# SPDX-License-Identifier: Apache-2.0
"""lvmconfig, config and dumpconfig, and what is said about bad settings: as LVM2 answers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import missing
from tests.lvm.differential.programs import VERSION, Answer, environment, ours, real, real_version

if TYPE_CHECKING:
    from collections.abc import Sequence

LINES = Path(__file__).with_name("lvmconfig.txt")
PROFILES = {
    "cmd": 'report { headings=0 }\nglobal { units="b" suffix=0 }\n',
    "md": "allocation { thin_pool_zero=1 thin_pool_chunk_size=64 }\n",
    "bad": 'report { headings=0 aligned="x" nosuch=1 }\nglobal { umask=1 }\n'
    "allocation { thin_pool_zero=0 }\n",
}
FILES = {
    "settings without faults": {
        "lvm.conf": """\
config { checks=1 }
devices { scan_lvs=0 }
# a comment
global { units="h" }
backup { retain_min=11 }
allocation { thin_pool_zero=0 physical_extent_size=1024 }
"""
    },
    "unknown settings and wrong types": {
        "lvm.conf": """\
config { checks=1 }
devices { scan_lvs=0 nosuch=1 pv_min_size="a" }
global { units="h" activation=0 }
backup { retain_min=10 }
foo { a=1 b { c="d\\"e" } }
allocation { cache_settings { mq { x = 1 } y=2 } }
"""
    },
    "two files": {
        "lvm.conf": 'global { units="h" activation=0 }\nbackup { backup="yes" retain_days=-5 }\n',
        "lvmlocal.conf": 'local { host_id=4 }\nglobal { units="g" suffix=0 }\ndevices { dir="/dev" }\n'
        "bad { x=1 }\n",
    },
    "settings that are not checked": {
        "lvm.conf": "config { checks=0 }\nfoo { a=1 }\nbackup { nosuch=1 archive=0 }\nlog { level=2 }\n"
    },
    "faults that end a command": {"lvm.conf": "config { abort_on_errors=1 }\nfoo { a=1 }\n"},
    "text that cannot be read": {"lvm.conf": "# a comment\nglobal { units }\n"},
}
EXCEPT = {"settings that are not checked": ("--typeconfig missing --config",)}
"""LVM2 forgets there what the unchecked files have, and calls it missing."""
REMARKS = re.compile(
    r"\s*# (Configuration (section|option) \S+\.|This configuration (section|option) .*"
    r"|Value defined in .*|(Available|Deprecated) since version .*|\w+ ?=.*|\w+ \{|\})"
)
OF_OTHERS = re.compile(r"\s*# \w+ = .*")
"""In the long comments of LVM2: examples."""
DESCRIBING = {
    "--withcomments",
    "--withsummary",
    "--withgeneralpreamble",
    "--withlocalpreamble",
    "-l",
    "--list",
}


def settings(folder: Path, name: str) -> dict[str, str]:
    """The environment of a command with these files of settings, and without disks."""
    etc = folder / "etc"
    (etc / "profile").mkdir(parents=True)
    for profile, text in PROFILES.items():
        (etc / "profile" / f"{profile}.profile").write_text(text)
    for file, text in FILES[name].items():
        (etc / file).write_text(text)
    return {**environment(etc, folder / "root"), "LAMELLA_DEVICES": "/dev/null"}


def masked(answer: Answer, words: Sequence[str]) -> Answer:
    """The answer without descriptions of settings: LVM2 has its own words for them, and we ours."""
    if not DESCRIBING & set(words):
        return answer
    lines = []
    for line in answer.out.splitlines():
        if line.strip().startswith("#") and not REMARKS.fullmatch(line):
            continue
        if OF_OTHERS.fullmatch(line) and "--withspaces" not in words:
            continue
        name = line.split(" - ")[0]
        lines.append(" ".join((name, *re.findall(r" \[[\d.]+\]$", line))) if " - " in line else line)
    return Answer(answer.code, "\n".join(lines), answer.err)


@pytest.mark.parametrize("name", FILES)
def test_lines_are_answered_as_by_lvm2(name: str, tmp_path: Path) -> None:
    if not real_version():
        missing("the program lvm (LVM2)")
    if real_version() != VERSION:
        pytest.skip(f"the settings are those of LVM2 {VERSION}, and {real_version()} is here")
    around = settings(tmp_path, name)
    wrong = []
    for line in LINES.read_text().splitlines():
        if any(part in line for part in EXCEPT.get(name, ())):
            continue
        words = shlex.split(line)
        expected, found = masked(real(words, around), words), masked(ours(words, around), words)
        if expected != found:
            wrong.append(f"{line}\n  LVM2: {expected}\n  ours: {found}")
    assert not wrong, "\n".join(wrong)


def test_a_full_list_without_a_file_of_settings(tmp_path: Path) -> None:
    """LVM2 fails there ("Cannot clone NULL config node."); we print the defaults."""
    around = environment(tmp_path, tmp_path / "root")
    found = ours(["lvmconfig", "--typeconfig", "full", "backup"], around)
    assert found.code == 0
    assert found.out.startswith("backup {\n\tbackup=1\n")


def test_descriptions(tmp_path: Path) -> None:
    around = environment(tmp_path, tmp_path / "root")
    listed = ours(["lvmconfig", "-l", "global/units"], around)
    assert listed.out == "global/units - The units of sizes, as --units. \n"
    shown = ours(["lvmconfig", "--typeconfig", "default", "--withcomments", "backup/retain_min"], around)
    assert shown.out.splitlines() == [
        "",
        "# Configuration option backup/retain_min.",
        "# How many old versions are kept at least.",
        "# This configuration option has an automatic default value.",
        "# retain_min=10",
    ]


def test_it_says_where_the_settings_go(tmp_path: Path) -> None:
    """As LVM2 2.03.16 with ``-v``."""
    around = environment(tmp_path, tmp_path / "root")
    found = ours(["lvmconfig", "-v", "-f", "out", "--typeconfig", "default", "backup/backup"], around)
    assert found == Answer(0, "", "  Dumping configuration to out\n")
    assert (tmp_path / "out").read_text() == "# backup=1\n"
