# SPDX-License-Identifier: Apache-2.0
"""What the line on a terminal says: share, total, rate and time left, one line for each layer."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lamella.cli.progress_line import ProgressLine, progress
from lamella.progress import QUIET
from lamella.units import human_size
from tests.support.images import Sample, make_tar, write_docker_archive

if TYPE_CHECKING:
    from pathlib import Path


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def line(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> ProgressLine:
    monkeypatch.setenv("COLUMNS", "100")
    return ProgressLine(clock)


def _last(shown: str) -> str:
    return shown.rpartition("\x1b[K")[2]


def test_share_rate_and_time_left(
    line: ProgressLine, clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    line.start("layer a: downloading", 10_000_000)
    assert _last(capsys.readouterr().err) == f"layer a: downloading [{' ' * 20}]   0% of 10MB"
    clock.now += 2
    line.advance(4_000_000)
    bar = "########".ljust(20)
    assert _last(capsys.readouterr().err) == f"layer a: downloading [{bar}]  40% of 10MB, 2MB/s, 3 s left"
    clock.now += 1
    line.advance(6_000_000)
    assert "left" not in _last(capsys.readouterr().err)
    line.done()
    assert _last(capsys.readouterr().err) == "layer a: 10MB in 3.0 s\n"


def test_what_was_there_before_is_not_part_of_the_rate(
    line: ProgressLine, clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    line.start("layer a: downloading", 1_000_000_000, had=500_000_000)
    clock.now += 1
    line.advance(1_000_000)
    assert "50% of 1GB, 1MB/s, 8:19 min left" in capsys.readouterr().err


def test_the_rate_is_that_of_the_last_seconds(
    line: ProgressLine, clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    line.start("x", None)
    for amount in (1_000_000, *(1000 for _ in range(30))):
        clock.now += 1
        line.advance(amount)
    assert _last(capsys.readouterr().err) == "x 1.03MB, 1kB/s"


def test_stages_of_one_subject_share_a_line(line: ProgressLine, capsys: pytest.CaptureFixture[str]) -> None:
    for subject in ("layer a", "layer b"):
        for stage in ("downloading", "unpacking"):
            line.start(f"{subject}: {stage}", 5)
            line.advance(5)
            line.done()
    shown = capsys.readouterr().err
    assert shown.count("\n") == 4
    assert shown.count("\x1b[1A") == 2


def test_what_is_not_bytes_has_its_own_unit(
    line: ProgressLine, clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    line.start("check: file systems", 5, unit="file systems")
    clock.now += 1
    line.advance(1)
    assert _last(capsys.readouterr().err).endswith(" 20% of 5 file systems, 4 s left")
    line.advance(4)
    line.done()
    assert _last(capsys.readouterr().err) == "check: 5 file systems in 1.0 s\n"


def test_nothing_is_shown_where_nobody_looks() -> None:
    assert progress(quiet=True) is QUIET
    assert progress(quiet=False) is QUIET  # the tests' standard error is no terminal


def test_a_load_on_a_terminal(tmp_path: Path) -> None:
    layers = [make_tar({f"f{number}": os.urandom(300_000) + bytes(900_000)}) for number in range(2)]
    archive = write_docker_archive(tmp_path / "a.tar", [Sample(layers=layers)], whole="gzip")
    bad = tmp_path / "bad.tar"
    bad.write_bytes(archive.read_bytes()[:200_000])
    command = [sys.executable, "-m", "lamella", "--root", str(tmp_path / "root")]
    shown = {}
    for path in (archive, bad):
        control, terminal = pty.openpty()
        environment = {**os.environ, "TERM": "xterm"}
        done = subprocess.Popen(
            [*command, "load", path], stdout=subprocess.PIPE, stderr=terminal, env=environment
        )
        os.close(terminal)
        text = b""
        try:
            while piece := os.read(control, 65536):
                text += piece
        except OSError:  # the terminal's other end is closed
            pass
        os.close(control)
        done.communicate()
        shown[path] = (done.returncode, text.decode())
    code, text = shown[archive]
    assert code == 0
    size = archive.stat().st_size
    assert "archive: reading [" in text
    assert f"of {human_size(size)}" in text
    finished = [line.rpartition("\x1b[K")[2] for line in text.split("\n")]
    assert sum(line.startswith("layer ") for line in finished) == 2
    code, text = shown[bad]
    assert code == 9
    assert "\nlamella: " in text.replace("\x1b[1m", "").replace("\r", "")
