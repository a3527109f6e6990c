# SPDX-License-Identifier: Apache-2.0
"""``lamella setup --for``: shown, or written after asking."""

from __future__ import annotations

import json
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from lamella.cli.main import main
from lamella.cli.runtime_files import NAMES
from lamella.services.runtime_config import docker, k3s
from lamella.services.runtime_config.targets import TARGETS
from lamella.store import Store

if TYPE_CHECKING:
    from pathlib import Path

OLD = "version = 3\n# mine\n"


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of /, for all files of all runtimes."""
    folder = tmp_path / "etc"
    for name, target in TARGETS.items():
        path = folder / target.path.relative_to("/")
        plan = target.plan
        if name == "docker":
            plan = _with(docker.for_docker, containerd=folder / docker.CONTAINERD.relative_to("/"))
        elif name == "k3s":
            plan = _with(k3s.for_k3s, config=folder / k3s.CONFIG.relative_to("/"))
        monkeypatch.setitem(TARGETS, name, target._replace(path=path, plan=plan))
    monkeypatch.setattr("lamella.services.runtime_config.writing.containerd_version", lambda: 2)
    return folder


def _with(plan: Any, **more: Any) -> Any:
    return lambda path, facts, read: plan(path, facts, read, **more)


def run(root: Path, *arguments: str) -> int:
    return main(["--root", str(root), "setup", *arguments])


def answering(monkeypatch: pytest.MonkeyPatch, answer: str | None) -> list[str]:
    """A terminal at which somebody answers; None is the end of input. Gives what was asked."""
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", ask)
    return asked


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("runtime", [*TARGETS])
def test_it_is_shown_and_nothing_is_written(
    runtime: str, etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    assert run(root, "--for", runtime) == 0
    told = capsys.readouterr()
    assert str(TARGETS[runtime].path) in told.out
    assert f'address = "{root}/run/containerd.sock"' in told.out
    assert "make the store: lamella setup" in told.out
    assert "Traceback" not in told.err
    assert files(tmp_path) == []
    assert not root.exists()


@pytest.mark.parametrize("runtime", [*TARGETS])
def test_it_is_written_once(
    runtime: str, etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "store", "--for", runtime, "--write", "--yes") == 0
    written = {path: path.read_bytes() for path in files(etc)}
    assert len(written) == (2 if runtime in ("docker", "k3s") else 1)
    assert run(tmp_path / "store", "--for", runtime, "--write", "--yes") == 0
    assert "has what is needed already" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in files(etc)} == written
    assert run(tmp_path / "store", "--for", runtime) == 0
    assert "has already:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "written"), [("y", True), ("YES", True), ("", False), ("no", False), (None, False)]
)
def test_it_asks_on_a_terminal(
    answer: str | None,
    written: bool,
    etc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(OLD)
    asked = answering(monkeypatch, answer)
    assert run(tmp_path / "store", "--for", "containerd", "--write", "--file", str(path)) == 0
    assert asked == ["Write this change? [y/N] "]
    told = capsys.readouterr().out
    assert "+[proxy_plugins.lamella]" in told
    assert (path.read_text() != OLD) is written
    if written:
        (kept,) = path.parent.glob("config.toml.before-lamella-*")
        assert kept.read_text() == OLD
        assert str(kept) in told
    else:
        assert "Nothing was changed." in told
        assert files(tmp_path) == [path]


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_without_a_terminal_it_is_refused_unless_yes(
    more: list[str], etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "store", "--for", "docker", "--write", *more) == 2
    assert "leave the question out with --yes" in capsys.readouterr().err
    assert files(tmp_path) == []


def test_a_file_that_cannot_be_merged_is_left_alone(
    etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text("version = [")
    assert run(tmp_path / "store", "--for", "containerd", "--write", "--yes", "--file", str(path)) == 9
    assert "no valid TOML" in capsys.readouterr().err
    assert files(tmp_path) == [path]


def test_the_second_file_of_a_runtime_is_read_before_the_first_is_written(
    etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = TARGETS["docker"].path
    daemon.parent.mkdir(parents=True)
    daemon.write_text("{")
    assert run(tmp_path / "store", "--for", "docker", "--write", "--yes") == 9
    assert files(tmp_path) == [daemon]
    assert "no valid JSON" in capsys.readouterr().err


def test_with_a_mode_the_store_is_made_first(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAMELLA_ENGINE", "user")
    options = [
        f"--storage-opt=dm.{name}"
        for name in ("basesize=64M", "loopdatasize=256M", "loopmetadatasize=4M", "min_free_space=0%")
    ]
    root = tmp_path / "store"
    assert run(root, "loop-lvm", *options, "--for", "containerd", "--write", "--yes", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["root"] == str(root)
    assert Store.exists(root)
    (file,) = told["runtime"]["files"]
    assert (file["changed"], file["written"], file["kept"]) == (True, True, "")
    plugin = tomllib.loads(TARGETS["containerd"].path.read_text())["proxy_plugins"]["lamella"]
    assert plugin["exports"]["root"] == str(root)
    assert "make the store" not in " ".join(told["runtime"]["next"])


def test_the_socket_can_be_another_one(etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "store", "--for", "kata", "--socket", "/run/x.sock", "--json") == 0
    (file,) = json.loads(capsys.readouterr().out)["runtime"]["files"]
    assert 'address = "/run/x.sock"' in file["content"]
    assert not file["written"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--write"],
        ["--yes"],
        ["--file", "/x"],
        ["--socket", "/x"],
        ["--for", "containerd", "--yes"],
        ["--for", "containerd", "--plan"],
        ["--for", "podman"],
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], etc: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "store", *arguments) == 2
    assert files(tmp_path) == []


def test_the_command_names_all_targets() -> None:
    assert tuple(TARGETS) == NAMES
