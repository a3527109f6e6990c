# SPDX-License-Identifier: Apache-2.0
"""The examples in docs/reference/library.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.images import Sample, make_tar, write_docker_archive

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = Sample(layers=[make_tar({"var/": None})], references=["docker.io/library/debian:12"])
    write_docker_archive(tmp_path / "debian.tar", [image])
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("hello")
    code = re.findall(r"```python\n(.*?)```", (DOCS / "reference/library.md").read_text(), re.DOTALL)[number]
    exec(compile(code, "docs/reference/library.md", "exec"), {})
