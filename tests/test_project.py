# SPDX-License-Identifier: Apache-2.0
"""The files around the code agree with each other: locks, indexes, links."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[1]
LOCKS = {"run": [], "dev": ["dev"], "docs": ["docs"], "protos": ["protos"], "release": ["release"]}
"""Each file in requirements/ and the dependency groups that it holds, besides what Lamella needs."""


def settings() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


def named(requirements: list[str]) -> set[str]:
    """The names alone, as indexes normalize them."""
    return {
        re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", text, maxsplit=1)[0]).lower() for text in requirements
    }


def members(group: str) -> list[str]:
    found: list[str] = []
    for entry in settings()["dependency-groups"][group]:
        found += [entry] if isinstance(entry, str) else members(entry["include-group"])
    return found


@pytest.mark.parametrize("lock", [*LOCKS, "build"])
def test_a_lock_has_all_and_hashes_and_no_address(lock: str) -> None:
    text = (PROJECT / "requirements" / f"{lock}.txt").read_text()
    locked = re.findall(r"^([\w.-]+)==\S+.*((?:\\\n    --hash=sha256:[0-9a-f]{64} ?)+)", text, re.MULTILINE)
    assert len(locked) == len(re.findall(r"^\w", text, re.MULTILINE))
    if lock == "build":
        wanted = settings()["build-system"]["requires"]
    else:
        wanted = settings()["project"]["dependencies"] + [
            each for name in LOCKS[lock] for each in members(name)
        ]
    assert named(wanted) <= named([name for name, _ in locked]), "run: make lock"
    assert "://" not in text


def test_the_index_of_decisions_is_whole() -> None:
    folder = PROJECT / "docs" / "decisions"
    linked = re.findall(
        r"^\| \[(\d{3})\]\((\d{3}-[\w-]+\.md)\) \| \S", (folder / "README.md").read_text(), re.MULTILINE
    )
    assert [file for _, file in linked] == sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert all(file.startswith(number) for number, file in linked)


def test_the_readme_links_to_nothing_relative() -> None:
    """A package index shows it too, where relative links lead nowhere."""
    targets = re.findall(r"\]\(([^)]+)\)", (PROJECT / "README.md").read_text())
    own = settings()["project"]["urls"]["Homepage"] + "/blob/main/"
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    for target in targets:
        if target.startswith(own):
            assert (PROJECT / target.removeprefix(own).partition("#")[0]).exists(), target


def test_each_action_is_pinned() -> None:
    for path in (PROJECT / ".github" / "workflows").glob("*.yml"):
        used = re.findall(r"uses: (\S+)(.*)", path.read_text())
        assert used
        for action, remark in used:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", remark), action


def test_python_versions_agree() -> None:
    classified = [text.rpartition(" ")[2] for text in settings()["project"]["classifiers"] if ":: 3." in text]
    workflow = (PROJECT / ".github" / "workflows" / "ci.yml").read_text()
    tested = re.search(r"python: \[(.*)\]", workflow)
    assert tested is not None
    assert tested[1].replace('"', "").split(", ") == classified
    assert settings()["project"]["requires-python"] == f">={classified[0]}"
