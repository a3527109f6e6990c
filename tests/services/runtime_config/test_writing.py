# SPDX-License-Identifier: Apache-2.0
"""Configuration files are written as a whole, and what was there is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamella.errors import BadInputError, LamellaError
from lamella.services.runtime_config import writing
from lamella.services.runtime_config.model import File
from lamella.services.runtime_config.writing import containerd_version, difference, read, write


def test_a_new_file_is_made_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "etc/x/config.toml"
    assert read(path) is None
    assert write(File(path, "", None, "a = 1\n")) is None
    assert read(path) == "a = 1\n"
    assert path.stat().st_mode & 0o133 == 0


def test_what_was_there_is_kept_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("old\r\n", newline="")
    path.chmod(0o640)
    before = read(path)
    assert before == "old\r\n"
    kept = write(File(path, "", before, "new\n"))
    again = write(File(path, "", "new\n", "newer\n"))
    assert kept is not None
    assert again is not None
    assert kept != again  # in the same second, too
    assert (kept.read_bytes(), again.read_bytes(), path.read_bytes()) == (b"old\r\n", b"new\n", b"newer\n")
    assert kept.parent == path.parent
    assert kept.suffix != ".toml"
    assert {each.stat().st_mode & 0o777 for each in (path, kept, again)} == {0o640}
    assert set(tmp_path.iterdir()) == {path, kept, again}


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real/daemon.json", tmp_path / "daemon.json"
    real.parent.mkdir()
    real.write_text("{}")
    link.symlink_to(real)
    kept = write(File(link, "", "{}", '{"a": 1}'))
    assert link.is_symlink()
    assert real.read_text() == '{"a": 1}'
    assert kept is not None
    assert kept.parent == real.parent


def test_a_file_that_somebody_has_just_changed_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("theirs\n")
    with pytest.raises(BadInputError, match="somebody else"):
        write(File(path, "", "old\n", "new\n"))
    assert [each.name for each in tmp_path.iterdir()] == ["config.toml"]
    assert path.read_text() == "theirs\n"


def test_a_failure_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.toml"
    path.write_text("old\n")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(LamellaError, match=r"config\.toml"):
        write(File(path, "", "old\n", "new\n"))
    assert path.read_text() == "old\n"
    assert not list(tmp_path.glob(".lamella*"))


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(BadInputError, match="UTF-8"):
        read(path)
    with pytest.raises(LamellaError):
        read(path / "below")


def test_the_difference_names_the_file() -> None:
    path = Path("/etc/x")
    assert list(difference(File(path, "", None, "a\n"))) == [
        "--- /dev/null",
        "+++ /etc/x",
        "@@ -0,0 +1 @@",
        "+a",
    ]
    assert list(difference(File(path, "", "a\n", "b\n")))[-2:] == ["-a", "+b"]


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("containerd github.com/containerd/containerd/v2 v2.4.2 0123456789", 2),
        ("containerd containerd.io 1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da", 1),
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", 1),
        ("containerd something", 2),
    ],
)
def test_the_version_of_containerd(
    told: str, version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert containerd_version() == 2  # there is none
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\necho '{told}'\n")
    program.chmod(0o755)
    assert writing.containerd_version() == version
