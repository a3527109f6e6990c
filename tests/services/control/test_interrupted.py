# SPDX-License-Identifier: Apache-2.0
"""A command that is interrupted, or whose client is gone, is rolled back in the daemon as alone."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import LAMELLA, LONG, environment
from tests.support.images import Sample, write_docker_archive
from tests.support.stores import assert_sound, state_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Served


def start(daemon: Served, *words: str, **options: object) -> subprocess.Popen[bytes]:
    """A command at whose standard input nothing arrives yet."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    process = subprocess.Popen([*LAMELLA, *words], env=environment(daemon.root), **streams)  # type: ignore[call-overload]
    daemon.wait_for_log(f"(lamella {' '.join(words)}) begins")
    return process


def ended(daemon: Served, code: int) -> None:
    """Return when the daemon has ended a command with this exit code."""
    daemon.wait_for_log(f"ended with exit code {code} ")


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, b"lamella: interrupted;"),
        (signal.SIGTERM, 143, b"lamella: terminated;"),
        (signal.SIGHUP, 129, b"lamella: terminated;"),
    ],
)
def test_while_it_waits_for_input(daemon: Served, number: int, code: int, said: bytes) -> None:
    process = start(daemon, "load")
    process.send_signal(number)
    assert process.wait(LONG) == code  # its input is still open, so that it does not just end
    ended(daemon, code)
    _, errors = process.communicate(timeout=LONG)
    assert errors.startswith(said)
    assert daemon.lamella("ps", "-q").returncode == 0


@pytest.fixture(scope="session")
def large_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that is unpacked for a while."""
    from tests.support.images import make_tar

    layer = make_tar({f"file-{number}": os.urandom(1 << 14) for number in range(2000)})
    sample = Sample(layers=[layer], references=["docker.io/library/large:latest"])
    return write_docker_archive(tmp_path_factory.mktemp("large") / "large.tar", [sample])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_in_the_middle_of_a_load(root: Path, daemon: Served, large_archive: Path, number: int) -> None:
    for _ in range(3):
        process = start(daemon, "load", "-i", str(large_archive), "--verbose")
        assert process.stderr is not None
        for line in process.stderr:  # it says that it unpacks the layer
            if b"layer" in line:
                break
        process.send_signal(number)
        process.communicate(timeout=LONG)
        assert process.returncode == (130 if number == signal.SIGINT else -9)
        ended(daemon, 130 if number == signal.SIGINT else 129)
        assert b"large" not in daemon.lamella("images").stdout
        daemon.log.write_text("")
    # What is left of it in memory hinders nobody, and the store on disk is whole.
    assert daemon.lamella("load", "-i", str(large_archive)).returncode == 0
    assert daemon.lamella("check").returncode == 0
    assert daemon.lamella("rmi", "large").returncode == 0
    assert daemon.stop() == 0
    assert_sound(root)
    assert len(state_of(root).records["images"]) == 1


def test_a_client_that_is_killed_while_it_waits(daemon: Served) -> None:
    assert daemon.lamella("ps", "-q").returncode == 0
    before = daemon.descriptors()
    for _ in range(5):
        process = start(daemon, "load")
        process.kill()
        process.wait(LONG)
        ended(daemon, 129)
        process.communicate(timeout=LONG)
        daemon.log.write_text("")
    daemon.wait_until_no_more(before)


def test_ignored_signals_stay_ignored(daemon: Served) -> None:
    process = subprocess.Popen(
        ["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh", *LAMELLA, "load"],
        env=environment(daemon.root),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    daemon.wait_for_log("(lamella load) begins")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    process.communicate(b"", LONG)
    assert process.returncode == 9  # it went on, and found an empty archive


def test_a_reader_that_has_stopped(daemon: Served) -> None:
    process = start(daemon, "save", "sample")
    process.send_signal(signal.SIGTERM)  # its pipe is full, and nobody reads
    assert process.wait(LONG) == 143
    process.communicate()


def test_the_daemon_dies(daemon: Served) -> None:
    process = start(daemon, "load")
    daemon.process.kill()
    assert process.wait(LONG) == 1
    _, errors = process.communicate(timeout=LONG)
    assert b"ended before the command did" in errors
    # Its socket is still there, and hinders nobody.
    assert (daemon.root / "run/control.sock").exists()
    assert daemon.lamella("ps", "-q").returncode == 0
