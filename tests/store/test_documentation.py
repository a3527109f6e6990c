# SPDX-License-Identifier: Apache-2.0
"""The examples in docs/reference/library.md run as they stand."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from lamella.store import Store
from lamella.store.open_store import OpenStore
from tests.support.images import Sample, make_tar, write_docker_archive

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("number", [0, 2])
def test_the_examples_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = Sample(layers=[make_tar({"var/": None})], references=["docker.io/library/debian:12"])
    write_docker_archive(tmp_path / "debian.tar", [image])
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("hello")
    codes = re.findall(r"```python\n(.*?)```", (DOCS / "reference/library.md").read_text(), re.DOTALL)
    for code in codes[number : number + 2]:  # the second of each pair goes on with what the first made
        exec(compile(code, "docs/reference/library.md", "exec"), {})


def test_every_member_of_the_store_is_described() -> None:
    page = (DOCS / "reference/library.md").read_text()
    members = [name for each in (Store, OpenStore) for name in vars(each) if not name.startswith("_")]
    assert {"load", "devices"} <= set(members)
    missing = [name for name in members if not re.search(rf"`(?:Store)?\.{name}\b", page)]
    assert not missing


def test_every_argument_of_the_store_is_described() -> None:
    """The signatures in the tables are the methods' own."""
    page = (DOCS / "reference/library.md").read_text()
    tables = page.partition("## Pool and Volume")[0]
    cells = " ".join(line.split(" | ")[0] for line in tables.splitlines() if line.startswith("| `"))
    for name, given in re.findall(r"`(?:Store)?\.(\w+)\(([^`]*)\)`", cells):
        method = getattr(Store, name)
        parameters = [each for each in inspect.signature(method).parameters if each != "self"]
        assert re.findall(r"(?:^|, )(\w+)", given) == parameters, name
