# SPDX-License-Identifier: Apache-2.0
"""``lamella snapshots``: what containerd made, as a person and a program see it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lamella.cli.commands.snapshots import JSON
from lamella.cli.main import main
from lamella.store import Store
from lamella.store.hosting import HostedStore
from tests.support.nodes import Nodes
from tests.support.stores import assert_sound, set_up

if TYPE_CHECKING:
    from pathlib import Path

LAYER = "default/1/sha256:" + "5" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    set_up(root, "loop-lvm").close()
    with HostedStore.open(root, make_nodes=Nodes) as host:
        host.snapshots.prepare("default/2/unpacking", "", {})
        host.snapshots.commit(LAYER, "default/2/unpacking", {"containerd.io/gc.root": "1"})
        host.snapshots.prepare("k8s.io/3/web", LAYER, {})
        host.snapshots.view("look", LAYER, {})
    return root


def run(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[int, str, str]:
    code = main(["--root", str(root), "snapshots", *words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_ls(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, root, "ls", "--no-trunc")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["KEY", "KIND", "PARENT", "CREATED", "SIZE", "EXCLUSIVE", "SHARED"]
    assert [line[:3] for line in lines[1:]] == [
        [LAYER, "committed", "-"],
        ["k8s.io/3/web", "active", LAYER],
        ["look", "view", LAYER],
    ]
    _, short, _ = run(capsys, root, "ls")
    assert LAYER not in short
    assert LAYER[:30] in short


def test_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, root, "ls", "--json")
    assert code == 0
    layer, web, look = json.loads(out)
    assert (layer["key"], layer["namespace"], layer["kind"]) == (LAYER, "default", "committed")
    assert layer["labels"] == {"containerd.io/gc.root": "1"}
    assert (web["namespace"], web["parent"], web["exclusive"]) == ("k8s.io", LAYER, 0)
    assert web["shared"] > 0
    assert (look["namespace"], look["exclusive"], look["shared"]) == ("", 0, 0)
    code, out, _ = run(capsys, root, "inspect", "sha256:555", "web")
    assert code == 0
    one, two = json.loads(out)
    assert one["children"] == ["k8s.io/3/web", "look"]
    assert one["device"]["damage"] == ""
    assert two["children"] == []
    assert two["size"] == 64 << 20
    documented = {line.split()[0].removeprefix("[].").removesuffix(".*") for line in JSON.splitlines()}
    assert {name.split(".")[0].removesuffix("[]") for name in documented} == set(one)
    device = {name.removeprefix("device.").removesuffix("[]") for name in documented if "device." in name}
    assert device == set(one["device"])


def test_rm(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, root, "rm", LAYER)
    assert code == 5
    assert "with child k8s.io/3/web" in err
    assert run(capsys, root, "rm", "k8s.io/3/web", "look") == (0, "k8s.io/3/web\nlook\n", "")
    assert run(capsys, root, "rm", "--json", LAYER) == (0, json.dumps([{"key": LAYER}], indent=2) + "\n", "")
    assert run(capsys, root, "ls", "--json") == (0, "[]\n", "")
    assert_sound(root)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ls", "web"], 2, "takes no key"),
        (["rm"], 2, "needs a key"),
        (["inspect"], 2, "needs a key"),
        (["inspect", "nobody"], 3, "no snapshot begins with 'nobody'"),
        (["rm", "default"], 3, "no snapshot begins"),
        (["rm", ""], 3, "no snapshot begins"),
        (["list"], 2, "'list'"),
    ],
)
def test_errors(
    root: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    if words[-1] == "default":
        assert run(capsys, root, "rm", "look")[0] == 0
        assert run(capsys, root, "rm", "default/1")[0] == 5
        words = ["rm", "nothing"]
    found, _, err = run(capsys, root, *words)
    assert (found, said in err) == (code, True), err
    with Store.open(root, read_only=True) as store:
        assert len(store.snapshots()) >= 2


def test_the_rest_of_the_store(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are shown beside our own images and containers, and a teardown asks for them."""
    assert main(["--root", str(root), "df"]) == 0
    assert "k8s.io/3/web" in capsys.readouterr().out
    assert main(["--root", str(root), "map"]) == 0
    assert "k8s.io/3/web" in capsys.readouterr().out
    assert main(["--root", str(root), "teardown"]) == 5
    assert "3 snapshots of containerd's" in capsys.readouterr().err
