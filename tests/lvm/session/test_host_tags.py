# SPDX-License-Identifier: Apache-2.0
"""Host tags: what the real LVM2 2.03.16 lists with ``lvm tags`` for the same settings."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.cli.lvm import main_lvm
from lamella.errors import UsageError
from lamella.lvm.session.config import Config
from lamella.lvm.session.host_tags import host_tags
from lamella.lvm.session.volume_lists import VolumeLists

if TYPE_CHECKING:
    from pathlib import Path

HOST = os.uname().nodename
SETTINGS = {
    'tags{ x {} @y {} c{host_list=["nosuch"]} e{host_list=["HOST"]} f{host_list=["@x"]} }': ["x", "y", "e"],
    'tags{ hosttags=1 f{host_list=["@x"]} x {} }': [HOST, "x"],
    'tags{ h{host_list="HOST"} i{host_list="other"} }': ["h"],
    "tags{ j=5 m{foo=1} n{host_list=[]} }": ["m"],
    "global{activation=0}": [],
}


@pytest.mark.parametrize("text", SETTINGS)
def test_tags_of_this_host(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = text.replace("HOST", HOST)
    (tmp_path / "lvm.conf").write_text(settings)
    monkeypatch.setenv("LVM_SYSTEM_DIR", str(tmp_path))
    config = Config.load("")
    assert host_tags(config) == SETTINGS[text]
    assert VolumeLists.configured(config).host_tags == set(SETTINGS[text])
    if shutil.which("lvm") is not None:
        done = subprocess.run(
            ["lvm", "tags"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
        )
        assert done.stdout.split() == SETTINGS[text]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('tags{ "a b" {} }', "Invalid tag in config file: a b"),
        ("tags{ k{host_list=5} }", "Invalid hostname string for tag k"),
    ],
)
def test_bad_tags_are_named(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lvm.conf").write_text(text)
    monkeypatch.setenv("LVM_SYSTEM_DIR", str(tmp_path))
    with pytest.raises(UsageError, match=message):
        host_tags(Config.load(""))


TAGGED = {
    "lvm.conf": 'report { vgs_cols="main" pvs_cols="main" } tags { foo {} off { host_list=["other"] } }',
    "lvmlocal.conf": 'report { pvs_cols="local" lvs_cols="local" }',
    "lvm_foo.conf": 'report { lvs_cols="foo" vgs_cols="foo" } tags { hosttags=1 bar {} }',
    "lvm_off.conf": 'report { segs_cols="off" }',
    f"lvm_{HOST}.conf": 'report { vgs_cols="host" segs_cols="host" }',
    "lvm_bar.conf": 'report { segs_cols="bar" }',
}
"""Files by their names; lvm.conf(5) has those with a tag in the name."""


def test_files_for_tags_override_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in TAGGED.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("LVM_SYSTEM_DIR", str(tmp_path))
    assert main_lvm("lvmconfig", ["report"]) == 0
    shown = capsys.readouterr().out
    for line in ('vgs_cols="host"', 'pvs_cols="local"', 'lvs_cols="foo"', 'segs_cols="bar"'):
        assert f"\t{line}\n" in shown
    assert main_lvm("tags", []) == 0
    assert capsys.readouterr().out.split() == ["foo", HOST, "bar"]
    (tmp_path / "lvm_bar.conf").write_text("report {")
    assert main_lvm("lvmconfig", ["report"]) == 4
    assert f"Failed to load config file {tmp_path}/lvm_bar.conf" in capsys.readouterr().err
    if shutil.which("lvm") is not None:
        (tmp_path / "lvm_bar.conf").write_text(TAGGED["lvm_bar.conf"])
        words = ["lvm", "lvmconfig", "report"]
        assert subprocess.run(words, capture_output=True, text=True, timeout=60).stdout == shown
