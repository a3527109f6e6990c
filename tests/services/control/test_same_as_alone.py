# SPDX-License-Identifier: Apache-2.0
"""A command gives the same output and exit code in the daemon as alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lamella.cli import hosted
from lamella.cli.command_table import COMMANDS
from lamella.store.default_root import default_root
from tests.support.daemon import LAMELLA, LONG, Served, environment, lamella, served
from tests.support.stores import copy_store

READING = (
    "images",
    "images -q",
    "images --json",
    "images --no-trunc --format {{.ID}}",
    "ps -q",
    "ps --json",
    "ps --format {{.Names}}",
    "ps --filter nonsense=1",
    "info",
    "info --json",
    "df",
    "df --json",
    "map",
    "map --tree",
    "inspect web",
    "inspect nothing",
    "history sample",
    "history sample --json",
    "ls -l web:/",
    "ls web /etc",
    "ls web:/nowhere",
    "cat web:/nowhere",
    "diff web",
    "check",
    "check --json",
    "export web",
    "save sample",
    "save nothing",
    "--engine user ps -q",
    "ps --engine",
    "ps --no-such-option",
    "no-such-command",
    "ps --help",
    "prune",
    "grow",
    "__complete lamella inspect ''",
)
WRITING = (
    "create --name db sample",
    "create --name web sample",
    "tag sample other:1",
    "tag nothing other:1",
    "rename web www",
    "commit -m hello web made:1",
    "resize web +16M",
    "rm web",
    "rmi sample",
    "rm nothing",
    "prune --force",
    "prune --all --force",
    "grow --data +10%",
    "setup loop-lvm --storage-opt dm.basesize=1M",
    "teardown",
    "teardown --force",
)
POOL = ("info", "df", "map", "check")
_NUMBER = re.compile(rb"[\d.]+ *[kMG]?B?")
_ID = re.compile(rb"[0-9a-f]{64}|\b[0-9a-f]{12}\b")


def told(done: subprocess.CompletedProcess[bytes], root: Path) -> tuple[int, bytes, bytes]:
    """What a command has told, with IDs that it has made left out, and the store's place."""

    def plain(text: bytes) -> bytes:
        return _ID.sub(b"ID", text).replace(os.fsencode(root), b"ROOT")

    return done.returncode, plain(done.stdout), plain(done.stderr)


def test_commands_of_a_daemon_are_all_that_open_a_store() -> None:
    assert set(hosted.COMMANDS) == {*COMMANDS, "__complete"} - {"serve", "completion"}


@pytest.fixture(scope="module")
def alone_and_there(control_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same store: what the commands told alone, and then its daemon."""
    root = copy_store(control_template, tmp_path_factory.mktemp("shared") / "store")
    alone = {line: lamella(root, *words_of(line)) for line in READING}
    with served(root) as daemon:
        yield alone, daemon


def words_of(line: str) -> list[str]:
    return [word.strip("'") for word in line.split()]


@pytest.mark.parametrize("line", READING)
def test_reading(alone_and_there: Any, line: str) -> None:
    every, daemon = alone_and_there
    alone, there = every[line], daemon.lamella(*words_of(line))
    if line in ("export web", "save sample"):
        assert len(alone.stdout) > 1024
    assert (there.returncode, there.stderr) == (alone.returncode, alone.stderr)
    # The pool counts a few blocks of its metadata as used while it is open.
    out, expected = (
        re.sub(rb" +", b" ", _NUMBER.sub(b"N", done.stdout) if line.split()[0] in POOL else done.stdout)
        for done in (there, alone)
    )
    assert out == expected


@pytest.mark.parametrize("line", WRITING)
def test_writing(root: Path, daemon: Served, control_template: Path, tmp_path: Path, line: str) -> None:
    copy = copy_store(control_template, tmp_path / "alone")
    alone = lamella(copy, *line.split())
    there = daemon.lamella(*line.split())
    if line.startswith("teardown") and there.returncode == 5:
        assert str(daemon.process.pid).encode() in there.stderr  # and how to stop it
        return
    assert told(there, root) == told(alone, copy)
    assert f"(lamella {line})" in daemon.logged()


def test_an_archive_through_a_pipe(daemon: Served, control_archive: Path) -> None:
    data = control_archive.read_bytes()
    assert daemon.lamella("rm", "web").returncode == 0
    assert daemon.lamella("rmi", "sample").returncode == 0
    done = daemon.lamella("load", input=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Loaded image: sample:latest\n", b"")
    with control_archive.open("rb") as file:  # of the client, whose path means nothing in the daemon
        assert daemon.lamella("load", "-i", "/dev/stdin", stdin=file).returncode == 0
    done = daemon.lamella("load", input=b"no archive")
    assert done.returncode == 9
    assert b"standard input" in done.stderr


def test_paths_begin_at_the_clients_folder(daemon: Served, tmp_path: Path) -> None:
    place = tmp_path / "here"
    place.mkdir()
    (place / "file").write_text("of the client\n")
    assert daemon.lamella("cp", "file", "web:/copied", cwd=place).returncode == 0
    assert daemon.lamella("cat", "web:/copied").stdout == b"of the client\n"
    old = os.umask(0o027)
    try:
        assert daemon.lamella("export", "web", "-o", "web.tar", cwd=place).returncode == 0
    finally:
        os.umask(old)
    assert (place / "web.tar").stat().st_mode & 0o777 == 0o640
    assert daemon.lamella("cp", "web:/copied", ".", cwd=place).returncode == 0
    assert (place / "copied").read_text() == "of the client\n"


def test_a_folder_that_was_deleted(daemon: Served, tmp_path: Path) -> None:
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", script, "sh", gone, *LAMELLA, "ps", "-q"],
        env=environment(daemon.root),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "(lamella ps -q)" in daemon.logged()


def test_a_relative_root(daemon: Served) -> None:
    variables = environment(daemon.root)
    del variables["LAMELLA_ROOT"]
    done = daemon.lamella(
        "--root", "store", "ps", "--format", "{{.Names}}", cwd=daemon.root.parent, env=variables
    )
    assert done.stdout == b"web\n"
    assert "command 1 " in daemon.logged()


def test_variables_are_the_clients(daemon: Served) -> None:
    done = daemon.lamella("ps", env=environment(daemon.root, LAMELLA_WAIT="soon"))
    assert done.returncode == 2
    assert b"LAMELLA_WAIT" in done.stderr
    assert daemon.lamella("ps").returncode == 0


def test_logging_is_the_commands_own(daemon: Served, tmp_path: Path) -> None:
    quiet = subprocess.Popen(
        [*LAMELLA, "load"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(daemon.root)
    )
    log = tmp_path / "log"
    done = daemon.lamella("ps", "-q", "--debug", env=environment(daemon.root, LAMELLA_LOG=f"debug:{log}"))
    assert b" INFO lamella." in done.stderr
    assert " INFO lamella." in log.read_text()
    _, errors = quiet.communicate(b"", LONG)
    assert b"INFO" not in errors


def on_terminal(arguments: list[str], variables: dict[str, str], typed: bytes = b"") -> tuple[int, bytes]:
    """Exit code and output of a program whose three streams are a terminal of 40 columns."""
    import fcntl
    import pty
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, 40, 0, 0))
    process = subprocess.Popen(
        arguments, stdin=follower, stdout=follower, stderr=follower, env=variables, start_new_session=True
    )
    os.close(follower)
    os.write(leader, typed)
    shown = b""
    while True:
        try:
            data = os.read(leader, 4096)
        except OSError:  # EIO: nobody has the other side open any more
            break
        shown += data
    os.close(leader)
    return process.wait(LONG), shown


@pytest.mark.parametrize("line", ["prune", "load -i {archive}", "cat web:/nowhere", "save sample"])
def test_on_a_terminal(
    daemon: Served, control_template: Path, control_archive: Path, tmp_path: Path, line: str
) -> None:
    words = [*LAMELLA, *line.format(archive=control_archive).split()]
    copy = copy_store(control_template, tmp_path / "alone")
    variables = environment(copy, TERM="xterm")
    del variables["COLUMNS"]
    alone = on_terminal(words, variables, b"y\n")
    there = on_terminal(words, {**variables, "LAMELLA_ROOT": str(daemon.root)}, b"y\n")
    plain = [(code, re.sub(rb"\d+\.\d s|[\d.]+.B/s", b"", text)) for code, text in (alone, there)]
    assert plain[0][0] == plain[1][0]
    assert set(plain[0][1].splitlines()) == set(plain[1][1].splitlines()) or "load" in line
    assert "command 1 " in daemon.logged()


def test_closed_streams(daemon: Served, control_template: Path, tmp_path: Path) -> None:
    copy = copy_store(control_template, tmp_path / "alone")
    for closed in ("<&-", ">&-", "2>&-"):
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *LAMELLA, "load"]
        codes = {
            subprocess.run(
                command, env=environment(place), stdin=subprocess.DEVNULL, capture_output=True
            ).returncode
            for place in (copy, daemon.root)
        }
        assert len(codes) == 1


def test_output_that_nobody_reads(daemon: Served, control_template: Path, tmp_path: Path) -> None:
    copy = copy_store(control_template, tmp_path / "alone")
    for place in (copy, daemon.root):
        process = subprocess.Popen(
            [*LAMELLA, "save", "sample"], stdout=subprocess.PIPE, env=environment(place), bufsize=0
        )
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.wait(LONG) == 141
    assert daemon.lamella("ps", "-q").returncode == 0


@pytest.mark.parametrize("data_home", [None, "/data", "  "])
def test_the_default_place_is_the_same(monkeypatch: pytest.MonkeyPatch, data_home: str | None) -> None:
    monkeypatch.delenv("LAMELLA_ROOT", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    if data_home is not None:
        monkeypatch.setenv("XDG_DATA_HOME", data_home)
    for user in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        assert Path(hosted._default_root()) == default_root()


@pytest.mark.parametrize(
    ("line", "root"),
    [
        ("--root a ps", "a"),
        ("ps --root=a", "a"),
        ("--root a ps --root b", "b"),
        ("cat web -- --root", ""),
        ("ps --root", ""),
        ("ps", ""),
    ],
)
def test_where_the_store_is(line: str, root: str) -> None:
    assert hosted._root(line.split()) == root


def test_the_client_imports_little(daemon: Served) -> None:
    code = (
        "import sys, os\nfrom lamella.cli import start\n"
        "os._exit = lambda code: print(*sorted(sys.modules), file=sys.stderr)\nstart._run_in_daemon()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "ps", "-q"], env=environment(daemon.root), capture_output=True, text=True
    )
    found = set(done.stderr.split())
    assert "lamella.services.control.client" in found
    assert not found & {
        "argparse",
        "socket",
        "signal",
        "typing",
        "enum",
        "json",
        "lamella.cli.main",
        "pathlib",
    }
    assert "command 1 " in daemon.logged()
