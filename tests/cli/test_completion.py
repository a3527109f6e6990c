# SPDX-License-Identifier: Apache-2.0
"""Completion, as shells do it: lines are typed into bash, zsh and fish, with a TAB at their end."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.cli import completion
from lamella.cli.command_table import COMMANDS, LVM_NAMES
from lamella.cli.commands.completion import SCRIPTS
from lamella.cli.completion import candidates, main_complete
from lamella.cli.main import main
from lamella.store.lock import Lock
from tests.support.images import Sample, make_tar, write_docker_archive
from tests.support.stores import SMALL

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(completion.__file__).parent
ZSH = "bindkey -e; PS1=; setopt no_prompt_sp"
IMAGE = "localhost:5000/site:1.0"
LINES = {
    "lamella imag": "lamella images",
    "lamella rm we": "lamella rm web",
    "lamella create localhost:5000/si": f"lamella create {IMAGE}",
    "lamella create --siz": "lamella create --size",
    "lamella setup loop-lvm --storage-opt dm.loopd": "lamella setup loop-lvm --storage-opt dm.loopdatasize=",
    "lamella info --engine=us": "lamella info --engine=user",
    "lamella load archi": "lamella load archive.tar",
    "lamella load --input=archi": "lamella load --input=archive.tar",
    "lamella --root fold": "lamella --root folder/",
    "lamella lvcreate --thinp": "lamella lvcreate --thinpool",
    "lamella dmsetup targ": "lamella dmsetup targets",
    "lamella thin_dump --skip": "lamella thin_dump --skip-mappings",
    "lamella nonsense x": "lamella nonsense x",
}
"""A line that is typed, and what TAB makes of it."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in ``root``, a program ``bin/lamella``, and some files."""
    home = tmp_path_factory.mktemp("completion")
    (home / "bin").mkdir()
    (home / "folder").mkdir()
    program = home / "bin/lamella"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lamella "$@"\n')
    program.chmod(0o755)
    layers = [make_tar({"etc/": None})]
    write_docker_archive(home / "archive.tar", [Sample(layers=layers, references=[IMAGE])])
    root = ["--root", str(home / "root"), "--engine", "user"]
    options = [word for option in SMALL for word in ("--storage-opt", option)]
    assert main([*root, "setup", *options]) == 0
    assert main([*root, "load", str(home / "archive.tar")]) == 0
    assert main([*root, "create", "--name", "web", IMAGE]) == 0
    return home


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "LAMELLA_ROOT": str(home / "root"),
        "HOME": str(home),
        "TERM": "dumb",
        "INPUTRC": "/dev/null",
    }


class Shell:
    """An interactive shell on a pseudo-terminal."""

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            arguments, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._number = 0

    def run(self, line: str) -> None:
        """Run *line* and wait until it has ended."""
        self._number += 1
        self._write(f"{line}\n")
        self._wait_for(self._mark())

    def completed(self, line: str) -> str:
        """What TAB makes of *line*: the line is given to ``echo`` instead of being run."""
        self._number += 1
        self._write(f"{line}\t")
        # Control-A goes to the line's beginning. The typed quotes keep the mark out of the echoed line.
        self._write("\x01echo 'li''ne:' \x05 'en''d'\n")
        shown = self._wait_for(re.compile(r"line: (.*?) *end"))
        self._wait_for(self._mark())
        return shown[1]

    def _mark(self) -> re.Pattern[str]:
        self._write(f"echo 'rea''dy{self._number}'\n")
        return re.compile(rf"ready{self._number}\b")

    def _write(self, text: str) -> None:
        os.write(self._master, text.encode())

    def _wait_for(self, pattern: re.Pattern[str]) -> re.Match[str]:
        seen, end = "", time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([self._master], [], [], 0.2)[0]:
                seen += os.read(self._master, 65536).decode("utf-8", "replace")
            if found := pattern.search(seen):
                return found
        raise AssertionError(f"{pattern.pattern!r} is not in {seen!r}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("bash", ["set -o emacs; PS1=", "source <(lamella completion bash)"]),
        ("zsh", [ZSH, "autoload -Uz compinit; compinit -u -D", "source <(lamella completion zsh)"]),
        ("zsh", [ZSH, f"fpath=({FOLDER} $fpath); autoload -Uz compinit; compinit -u -D"]),
    ],
    ids=["bash", "zsh", "zsh-installed"],
)
def test_tab_in_a_shell(
    name: str, lines: list[str], home: Path, environment: dict[str, str], tool: Callable[[str], str]
) -> None:
    start = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}[name]
    shell = Shell([tool(name), *start], environment, home)
    try:
        for line in lines:
            shell.run(line)
        for line, expected in LINES.items():
            # zsh takes the slash that it has added to a folder's name away again before a space.
            assert shell.completed(line).rstrip("/") == expected.rstrip("/")
    finally:
        shell.close()


def test_fish_completes(home: Path, environment: dict[str, str], tool: Callable[[str], str]) -> None:
    fish = tool("fish")
    script = "lamella completion fish | source\n" + "".join(
        f"echo '== {line}'\ncomplete -C '{line}'\n" for line in LINES
    )
    done = subprocess.run(
        [fish, "-N", "-c", script], capture_output=True, text=True, cwd=home, env=environment, check=True
    )
    answers = dict(part.partition("\n")[::2] for part in done.stdout.split("== ")[1:])
    assert not done.stderr
    for line, expected in LINES.items():
        found = [answer.partition("\t")[0] for answer in answers[line].splitlines()]
        assert found == ([] if "nonsense" in line else [expected.split()[-1]]), line


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_have_no_syntax_errors(
    name: str, tool: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    shell = tool(name)
    assert main(["completion", name]) == 0
    script = capsys.readouterr().out
    subprocess.run([shell, "-n"], input=script, text=True, check=True, capture_output=True)


def found(words: list[str]) -> list[str]:
    return [candidate for candidate, _ in candidates.candidates(words)]


def test_every_command_is_offered_and_completes_its_options() -> None:
    assert set(found([""])) >= {*COMMANDS, *LVM_NAMES, "dmsetup", "thin_check"}
    for name in [*COMMANDS, *LVM_NAMES, "thin_check", "thin_dump", "thin_repair", "thin_restore"]:
        assert "--help" in found([name, "--"]), name


def test_names_are_read_while_a_command_holds_the_store(home: Path) -> None:
    root = home / "root"
    lock = Lock(root / "run/lock", exclusive=True)
    try:
        assert found(["--root", str(root), "rm", ""]) == ["web"]
        assert found(["rm", "--root", str(root), "w"]) == ["web"]
        assert found([f"--root={root}", "ls", ""]) == ["web", IMAGE]
        assert found(["--root", str(root), "cp", "w"]) == ["web:", ":files"]
        assert found(["--root", str(root), "rm", "web", "x"]) == []
    finally:
        lock.close()


def test_ids_are_offered_by_their_beginning(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(home / "root")]
    assert main([*root, "ps", "-q"]) == 0
    identity = capsys.readouterr().out.strip()
    assert found([*root, "rm", identity[:3]]) == [identity]


@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_errors_are_silent(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if damage != "missing":
        (tmp_path / "state.db").write_bytes(b"x" * 5000 if damage == "garbage" else b"")
    assert main(["__complete", "--root", str(tmp_path), "rm", ""]) == 0
    assert main(["__complete", "--root", str(tmp_path), "cp", ""]) == 0
    assert main_complete([]) == 1
    shown = capsys.readouterr()
    assert not shown.err
    assert shown.out.split() == [":files"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ([] if damage == "missing" else ["state.db"])


def test_completion_loads_little() -> None:
    code = (
        "import sys; from lamella.cli.main import main; main(['__complete', 'rm', '']);"
        "heavy = {'numpy', 'urllib3', 'zstandard', 'isal', 'lamella.store.store', 'lamella.block'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_shared_option_is_offered_before_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", "--"]) == 0
    offered = [line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()]
    shared = ["--root", "--engine", "--wait", "--quiet", "--verbose", "--debug"]
    assert offered == [*shared, "--version", "--help"]
