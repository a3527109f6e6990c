# SPDX-License-Identifier: Apache-2.0
"""The surroundings of a command: closed and full streams, odd names, signals, what -o may not destroy."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lamella.cli.main import main
from tests.support.images import write_docker_archive

LAMELLA = [sys.executable, "-m", "lamella"]
NOTICING = [sys.executable, "-X", "dev", "-W", "ignore", "-m", "lamella"]
"""Errors while something is closed are printed, as Python does by itself from 3.13 on."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of a store with the sample image and the container ``web``; only read from."""
    folder = tmp_path_factory.mktemp("process")
    base = [*LAMELLA, "--root", str(folder / "root")]
    write_docker_archive(folder / "sample.tar")
    subprocess.run([*base, "load", folder / "sample.tar"], check=True, capture_output=True)
    subprocess.run([*base, "create", "--name", "web", "sample"], check=True, capture_output=True)
    return base


def _redirected(command: list[str], redirection: str) -> subprocess.CompletedProcess[str]:
    script = ["bash", "-c", f'"$@" {redirection}', "bash", *command]
    return subprocess.run(script, capture_output=True, text=True, check=False)


OUTPUTS = (
    ["images"],
    ["images", "--help"],
    ["cat", "web:/etc/hostname"],
    ["export", "web"],
    ["save", "sample"],
)


@pytest.mark.parametrize("command", OUTPUTS, ids=" ".join)
@pytest.mark.parametrize(
    ("redirection", "code", "reason"),
    [(">/dev/full", 7, "No space left on device"), (">&-", 13, "Bad file descriptor")],
)
def test_output_that_cannot_be_written(
    base: list[str], command: list[str], redirection: str, code: int, reason: str
) -> None:
    done = _redirected([*NOTICING, *base[len(LAMELLA) :], *command], redirection)
    assert done.returncode == code, done
    assert done.stderr.startswith(f"lamella: error: cannot write to the standard output: {reason}\n")
    assert "Exception" not in done.stderr


STREAMS = (
    "--help",
    "help ps",
    "completion bash",
    "info",
    "info --json",
    "images",
    "images -q",
    "ps",
    "df",
    "map --tree",
    "inspect sample",
    "ls web",
    "ls -lR web",
    "cat web:/etc/hostname",
    "check",
    "setup loop-lvm --plan",
    "activate --print-unit",
    "export web",
    "export web -o /dev/stdout",
    "save sample",
    "save --format oci-archive sample",
    "save -o /dev/stdout sample",
    "cp web:/etc -",
    "tag sample other",
    "lvs --help",
    "dmsetup ls",
)


@pytest.mark.parametrize("line", STREAMS)
def test_a_closed_pipe_ends_a_command_silently(base: list[str], line: str) -> None:
    """As SIGPIPE ends any program: bash reports 141 then, and nobody says anything."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [*NOTICING, *base[len(LAMELLA) :], *line.split()]
    if line.startswith(("lvs", "--help", "help")):
        command = [*NOTICING, *line.split()]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    silent = line.startswith("tag")  # prints nothing, so it never learns of the pipe
    assert (done.returncode, done.stderr) == (0 if silent else 141, "")


def test_errors_that_nobody_reads_keep_their_exit_code(base: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*base, "inspect", "nobody"], stderr=writing, check=False)
    finally:
        os.close(writing)
    assert done.returncode == 3


@pytest.mark.parametrize(("command", "code"), [(["load"], 9), (["cp", "-", "web:/"], 13)])
def test_input_that_is_closed(base: list[str], command: list[str], code: int) -> None:
    done = _redirected([*base, *command], "<&-")
    assert done.returncode == code, done
    assert "internal error" not in done.stderr


def test_no_file_of_a_store_becomes_standard_error(base: list[str]) -> None:
    code = (
        "import os; from lamella.cli.process import prepare; prepare();"
        "descriptor = os.open('/', os.O_RDONLY); os._exit(descriptor)"
    )
    assert _redirected([sys.executable, "-c", code], "<&- >&- 2>&-").returncode >= 3
    assert _redirected([*base, "inspect", "nobody"], "<&- >&- 2>&-").returncode == 3


@pytest.mark.parametrize("command", ["save", "export"])
def test_what_is_no_plain_file_is_written_into(base: list[str], tmp_path: Path, command: str) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes device nodes")
    link, behind = tmp_path / "link", tmp_path / "behind"
    link.symlink_to("behind")
    name = {"save": "sample", "export": "web"}[command]
    for target in (device, link, tmp_path / ("n" * 255)):
        subprocess.run([*base, command, name, "-o", target], check=True, capture_output=True)
    assert stat.S_ISCHR(device.stat().st_mode)
    assert link.is_symlink()
    assert behind.stat().st_size > 0
    assert sorted(found.name[:4] for found in tmp_path.iterdir()) == ["behi", "link", "nnnn", "null"]


def test_names_that_are_no_utf_8(base: list[str], tmp_path: Path) -> None:
    command = [os.fsencode(word) for word in base]
    for arguments in ([b"cat", b"a\xff:/x"], [b"inspect", b"a\xff"], [b"rm", b"a\xff"]):
        done = subprocess.run([*command, *arguments], capture_output=True, check=False)
        assert done.returncode == 3, done
    root = os.fsencode(tmp_path) + b"/a\xff\nb"
    for arguments in ([b"setup"], [b"info"], [b"check"], [b"teardown"]):
        subprocess.run([*command[:-1], root, *arguments], check=True, capture_output=True)
    assert not os.path.exists(root)


def test_paths_without_a_slash_begin_at_the_root(base: list[str], tmp_path: Path) -> None:
    subprocess.run([*base, "cp", "web:etc/hostname", tmp_path / "name"], check=True)
    subprocess.run([*base, "cp", "sample:latest:/etc/hostname", tmp_path / "same"], check=True)
    assert (tmp_path / "name").read_text() == (tmp_path / "same").read_text() == "changed\n"


@pytest.mark.parametrize("arguments", [["--root", "", "setup"], ["--root=", "setup"]])
def test_an_empty_root_is_not_the_current_folder(tmp_path: Path, arguments: list[str]) -> None:
    done = subprocess.run([*LAMELLA, *arguments], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_undo_the_unfinished_step(base: list[str], tmp_path: Path, number: int) -> None:
    """Stopped in the middle of a load from a pipe, all is as before, with no help of a later command."""
    before = subprocess.run([*base, "df", "--json"], check=True, capture_output=True).stdout
    archive = write_docker_archive(tmp_path / "again.tar").read_bytes()
    scratch = Path(base[-1]) / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    process = subprocess.Popen(
        [*base, "load"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever starts the tests in the background of a shell has SIGINT ignored.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert process.stdin
    assert process.stderr
    process.stdin.write(archive[: len(archive) // 2])
    process.stdin.flush()
    while not scratch.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    process.wait(timeout=60)  # with the pipe still open: its end must not be what ends the load
    said = process.stderr.read()
    process.communicate()
    assert process.returncode == 128 + number
    assert b"the interrupted operation was rolled back" in said
    assert not any(scratch.iterdir())
    assert subprocess.run([*base, "df", "--json"], check=True, capture_output=True).stdout == before


INTERRUPTED_AT = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "MODULE":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from lamella.cli.start import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("module", "silent"),
    [
        ("lamella.cli.main", True),
        ("lamella.cli.command_table", True),
        ("lamella.errors", True),
        ("argparse", False),
        ("lamella.cli.commands.df", False),
        ("sqlite3", False),
        ("numpy", False),
    ],
)
def test_an_interrupt_shows_no_traceback(base: list[str], module: str, silent: bool) -> None:
    """However early it comes: bash reports 130 for an exit by SIGINT as for the exit code 130."""
    code = INTERRUPTED_AT.replace("MODULE", module)
    done = subprocess.run(
        [sys.executable, "-c", code, *base[len(LAMELLA) :], "df"], capture_output=True, text=True, check=False
    )
    if silent:
        assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    else:
        assert done.returncode == 130
        assert done.stderr == "lamella: interrupted; the interrupted operation was rolled back\n"


def test_an_ignored_interrupt_stays_ignored() -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import lamella.cli.start;"
        "from lamella.cli.process import prepare; prepare(); print(repr(signal.getsignal(2)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert b"SIG_IGN" in done.stdout


def test_nohup_is_heeded() -> None:
    code = (
        "import signal; from lamella.cli.process import prepare; prepare();print(repr(signal.getsignal(1)))"
    )
    done = subprocess.run(
        ["nohup", sys.executable, "-c", code], check=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    assert b"SIG_IGN" in done.stdout


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [(MemoryError(), 1, "not enough memory"), (ImportError("no numpy"), 10, "cannot be loaded: no numpy")],
    ids=["memory", "library"],
)
def test_too_little_memory_is_no_fault(
    failure: Exception,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(before: list[str], name: str, rest: list[str]) -> int:
        raise failure

    monkeypatch.setattr("lamella.cli.parsing.parse", broken)
    monkeypatch.delenv("LAMELLA_DEBUG", raising=False)
    assert main(["info"]) == code
    assert said in capsys.readouterr().err
