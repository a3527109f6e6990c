# SPDX-License-Identifier: Apache-2.0
"""The frame of the command line: help, errors, exit codes, start-up; the commands have tests of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from scripts.reference import markdown

import lamella.errors
from lamella.cli.command_table import COMMANDS
from lamella.cli.main import main
from lamella.cli.parsing import name_and_path
from lamella.driver.options import known_options
from lamella.errors import LamellaError
from tests.support.images import write_docker_archive

if TYPE_CHECKING:
    from pathlib import Path


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"  {name} " in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: lamella {name}" in shown
    assert re.search(rf"example:\n(.*\n)*.*lamella {name}\b", shown), "an example of the command itself"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["imagse"], "did you mean 'images'?"),
        (["images", "--nonsense"], "there is no option --nonsense"),
        (["--root"], "option --root needs a value"),
        (["images", "--wait", "-3"], "--wait"),
        (["save", "x", "--format", "zip"], "is not one of"),
        (["cp", "a", "b"], "CONTAINER:PATH"),
        (["cp", "a:/x", "b:/y"], "CONTAINER:PATH"),
    ],
)
def test_wrong_usage(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("line", ["--root {}/no images", "images --root {}/no"])
def test_options_go_before_or_after(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert main(line.format(tmp_path).split()) == 3
    assert str(tmp_path / "no") in capsys.readouterr().err


@pytest.mark.parametrize("line", ["--root {} pvs", "pvs --root {}"])
def test_the_root_goes_before_an_lvm_command_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    assert main(["pvcreate", "--root", str(tmp_path), "--devices", str(disk), str(disk)]) == 0
    capsys.readouterr()
    assert main([*line.format(tmp_path).split(), "--noheadings", "--devices", str(disk)]) == 0
    assert str(disk) in capsys.readouterr().out


def test_the_exit_codes_are_documented_and_distinct(tmp_path: Path) -> None:
    classes = [
        value
        for value in vars(lamella.errors).values()
        if isinstance(value, type) and issubclass(value, LamellaError)
    ]
    codes = [kind.exit_code for kind in classes]
    assert len(set(codes)) == len(codes)
    markdown.write_all(tmp_path)
    table = (tmp_path / "exit-codes.md").read_text()
    for kind in classes:
        assert f"| {kind.exit_code} | `{kind.__name__}` |" in table


def test_a_fault_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(before: list[str], name: str, rest: list[str]) -> int:
        raise RuntimeError("boom")

    monkeypatch.setattr("lamella.cli.parsing.parse", broken)
    monkeypatch.delenv("LAMELLA_DEBUG", raising=False)
    assert main(["info"]) == 70
    shown = capsys.readouterr().err
    assert "internal error: RuntimeError: boom" in shown
    assert "Traceback" not in shown


def test_start_up_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lamella.cli.main import main; main(['--version']); main([]); import lamella;"
        "heavy = {'numpy', 'urllib3', 'sqlite3', 'zstandard', 'isal', 'argparse'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m lamella --help | true", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_colours_only_on_a_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lamella", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TERM": "xterm"},
    )
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert done.stderr.startswith("lamella: error: there is no command 'nonsense'\n")


@pytest.mark.parametrize(
    ("text", "relative", "expected"),
    [
        ("web:/etc/hosts", False, ("web", b"/etc/hosts")),
        ("debian:12:/etc", False, ("debian:12", b"/etc")),
        ("localhost:5000/debian:12", False, ("localhost:5000/debian:12", b"/")),
        ("web:etc", False, ("web:etc", b"/")),
        ("web:etc", True, ("web", b"/etc")),
        ("debian:12:/etc", True, ("debian:12", b"/etc")),
        ("web:", True, ("web", b"/")),
    ],
)
def test_name_and_path(text: str, relative: bool, expected: tuple[str, bytes]) -> None:
    assert name_and_path(text, relative=relative) == expected


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_load_looks_at_its_input_before_it_makes_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    archive = tmp_path / "a.tar"
    if content is not None:
        archive.write_bytes(content)
    assert main(["--root", str(tmp_path / "root"), "load", str(archive)]) == (3 if content is None else 9)
    assert str(archive) in capsys.readouterr().err
    assert not (tmp_path / "root").exists()


def test_pull_makes_no_store_for_what_it_cannot_pull(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path / "root"), "pull", "--insecure-registry", "127.0.0.1:1/x"]) == 11
    assert "127.0.0.1:1" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("engine", ["kernle", ""])
def test_an_engine_is_refused_alike_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    root = str(tmp_path / "root")
    assert main(["--root", root, "setup", "--engine", "user", "--storage-opt", "dm.basesize=64M"]) == 0
    monkeypatch.setenv("LAMELLA_ENGINE", engine)
    assert main(["--root", root, "ps"]) == (2 if engine else 0)
    monkeypatch.delenv("LAMELLA_ENGINE")
    assert main(["--root", root, "ps", "--engine", engine]) == 2
    assert "auto, user, kernel" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["mount", "web"], ["activate"], ["create", "--activate", "sample"]])
@pytest.mark.parametrize("engine", [[], ["--engine", "user"], ["--engine", "kernel"]])
def test_what_needs_the_kernel_never_advises_the_user_engine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    engine: list[str],
) -> None:
    """It would be refused in turn: the advice went in a circle."""
    root = str(tmp_path / "root")
    assert main(["--root", root, "setup", "--engine", "user", "--storage-opt", "dm.basesize=64M"]) == 0
    with lamella.Store.open(root, engine="user") as store:
        store.load(write_docker_archive(tmp_path / "a.tar"))
        store.create("sample", name="web")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    capsys.readouterr()
    assert main(["--root", root, *argv, *engine]) in (2, 14)
    hint = capsys.readouterr().err.splitlines()[1]
    assert "use --engine user" not in hint
    assert "root" in hint
    assert "lamella ls, cat, cp and export" in hint


def test_the_warning_about_loop_devices_needs_loop_devices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user engine attaches none."""
    root = str(tmp_path / "root")
    assert main(["--root", root, "setup", "--engine", "user", "--storage-opt", "dm.basesize=64M"]) == 0
    assert main(["--root", root, "info", "--engine", "user"]) == 0
    shown = capsys.readouterr()
    assert "loopback" not in shown.out + shown.err


@pytest.mark.parametrize("mode", ["loop-lvm", "direct-lvm"])
def test_all_options_are_listed_where_one_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    argv = ["--root", str(tmp_path), "setup", mode, "--plan", "--storage-opt", "dm.basesise=3G"]
    assert main([*argv, *([] if mode == "loop-lvm" else ["--storage-opt", "dm.thinpooldev=a/b"])]) == 2
    shown = capsys.readouterr().err
    assert "did you mean dm.basesize?" in shown
    for option in known_options():
        assert option in shown
