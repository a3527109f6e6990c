# SPDX-License-Identifier: Apache-2.0
"""``lvm COMMAND``: the commands that have no program of their own, and the lists (lvm(8))."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lamella._version import __version__
from lamella.cli.lvm.lists import SEGMENT_TYPES
from lamella.cli.lvm.syntax.commands import COMMANDS, INNER
from lamella.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


def test_every_command_of_lvm2_is_a_command_of_lvm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lvm", "help"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines()[3:]}
    assert listed == set(COMMANDS)
    assert main(["lvm", "help", "lvs"]) == 0
    assert capsys.readouterr().out.startswith("  lvs - ")


@pytest.mark.parametrize("name", INNER)
def test_what_has_no_program_is_no_command_of_lamella(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 2
    assert f"no command '{name}'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["nosuch"], []])
def test_no_such_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lvm", *words]) == 2
    assert capsys.readouterr().err.endswith("  Try 'lvm help'.\n")


def test_version_names_lvm2_and_us(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lvm", "version", "anything"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == f"  LVM version:     2.03.16 (commands and format), Lamella {__version__}"
    assert second.startswith("  Library version: ")


def test_segment_types_are_those_that_are_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as stream:
        stream.truncate(512 << 20)
    shared = ["--config", "global{activation=0}", "--devices", str(disk)]
    assert main(["lvm", "segtypes"]) == 0
    listed = capsys.readouterr().out.split()
    assert listed == list(SEGMENT_TYPES)
    assert main(["lvm", "vgcreate", *shared, "vg", str(disk)]) == 0
    pool = ["--type", "thin-pool", "-L64m", "-n", "pool", "vg"]
    thin = ["--type", "thin", "-V8m", "--thinpool", "pool", "-n", "t", "vg"]
    kinds = [["--type", kind, "-l1", "-n", kind, "vg"] for kind in ("linear", "striped", "zero", "error")]
    for words in (*kinds, pool, thin):
        assert main(["lvm", "lvcreate", *shared, *words]) == 0, capsys.readouterr().err
    assert main(["lvm", "lvcreate", *shared, "--type", "raid1", "-m1", "-l1", "vg"]) == 5
    capsys.readouterr()
    assert main(["lvm", "fullreport", *shared, "--reportformat", "json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["report"]
    assert list(group) == ["vg", "pv", "lv", "pvseg", "seg"]
    assert {one["segtype"] for one in group["seg"]} == set(listed) - {"striped"}


def test_the_log_is_in_the_document_beside_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = 'log{report_command_log=1} report{output_format="json"} global{activation=0}'
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    assert main(["lvm", "vgs", "--config", config, "--devices", str(tmp_path / "disk"), "nosuch"]) == 5
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == [{"vg": []}]
    told = [(one["log_type"], one["log_message"], one["log_ret_code"]) for one in found["log"]]
    assert told[0] == ("error", 'Volume group "nosuch" not found', "0")
    assert told[-1] == ("status", "failure", "5")
    assert {(one["log_object_type"], one["log_object_name"]) for one in found["log"]} == {("vg", "nosuch")}
