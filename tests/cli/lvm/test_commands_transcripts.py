# SPDX-License-Identifier: Apache-2.0
"""Sessions that the real tools had in a guest, done again by us on plain files: they come out alike."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lamella.lvm.disks.disk import Disk
from tests.conftest import transcripts
from tests.lvm.oracle import ours
from tests.lvm.report.test_fixtures import said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20
OTHER_PROGRAMS = ("mkfs.ext4", "lsblk", "cat", "dmsetup", "ls", "ps", "lvmconfig", "ls")


@dataclass(frozen=True)
class Step:
    """A command, and what the real one printed for it."""

    words: list[str]
    output: list[str]
    code: int = 0


def steps_of_fixture(text: str) -> Iterator[Step]:
    """Commands are flush left, output is indented, an exit code other than 0 in brackets."""
    command, output, code = "", [], 0
    for line in [*text.splitlines(), "end"]:
        if line.startswith("[rc="):
            code = int(line[4:-1])
        elif line.startswith("  "):
            output.append(line)
        else:
            if command:
                yield Step(shlex.split(command), output, code)
            command, output, code = line, [], 0


def steps_of_transcript(text: str) -> Iterator[Step]:
    for part in re.split(r"(?m)^# (?=[a-z])", text)[1:]:
        command, _, rest = part.partition("\n")
        lines = rest.rstrip("\n").split("\n")
        code = next(int(line[4:-1]) for line in lines if line.startswith("[rc="))
        yield Step(
            shlex.split(command), [line for line in lines if not line.startswith("[rc=") and line], code
        )


def run(step: Step, disks: dict[str, str], config: str = "") -> tuple[int, list[str]]:
    """Our exit code and output, both streams sorted together by what the real one said."""
    words = [disks.get(word, word) for word in step.words]
    words = [re.sub(r"/dev/vd[b-e](?=[:(])", lambda found: disks[found[0]], word) for word in words]
    got = ours(words, list(disks.values()), config=f"global{{activation=1}} {config}")
    got = got.renamed({path: name for name, path in disks.items()})
    return got.code, [*got.out.splitlines(), *got.err]


@pytest.mark.parametrize(
    ("name", "group", "used"), [("lvm-a", "vg1", ("vdb", "vdc")), ("lvm-c", "vgthin", ("vdb", "vdc"))]
)
def test_fixture_session(
    name: str, group: str, used: tuple[str, ...], fixture_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = fixture_dir(f"{name}.tar.zst") / name
    disks = {}
    for disk in used:
        path = tmp_path / disk
        with path.open("wb") as stream:
            stream.truncate(512 * MIB)
        disks[f"/dev/{disk}"] = str(path)
    for step in steps_of_fixture((folder / "commands.txt").read_text()):
        if step.words[0] in OTHER_PROGRAMS:
            continue
        if "--errorwhenfull" in step.words or step.words[-1] == "t3":
            continue  # the guest's kernel refused a feature; we have no kernel to ask
        code, lines = run(step, disks)
        assert code == step.code, (step.words, lines)
        assert sorted(lines) == sorted(step.output), step.words
    for report in (["-o", "lv_all,vg_all"], ["--segments", "-o", "lv_name,seg_all"]):
        kind = "segs" if "--segments" in report else "lvs"
        words = ["lvs", "-a", *report, "--reportformat", "json", group]
        got = ours(words, list(disks.values()), config="global{activation=1}")
        got = got.renamed({path: device for device, path in disks.items()})
        rows = next(iter(json.loads(got.out)["report"][0].values()))
        wanted = said(folder / f"{kind}.json")
        skip = {key for key in wanted[0] if "uuid" in key} | {"lv_time", "lv_host", *_OF_POOL}
        assert len(rows) == len(wanted)
        for row, other in zip(rows, wanted, strict=True):
            kept = [key for key in other if key not in skip]
            different = {key: (row[key], other[key]) for key in kept if row[key] != other[key]}
            assert not different, row["lv_name"]


_OF_POOL = ("data_percent", "snap_percent", "metadata_percent")


def test_direct_lvm_by_hand(tmp_path: Path) -> None:
    """The walkthrough: same output, save that the kernel is not asked and so nothing is active."""
    path = tmp_path / "vdb"
    with path.open("wb") as stream:
        stream.truncate(40 << 30)
    disks = {"/dev/vdb": str(path)}
    profiles = tmp_path / "profile"
    profiles.mkdir()
    (profiles / "docker-thinpool.profile").write_text(
        "activation {\n thin_pool_autoextend_threshold=80\n thin_pool_autoextend_percent=20\n}\n"
    )
    compared = 0
    for step in steps_of_transcript(transcripts()["direct-lvm-by-hand"]):
        if step.words[0] in OTHER_PROGRAMS or "--version" in step.words or "|" in step.words:
            continue
        if step.words[:2] == ["vgcfgbackup", "-f"]:
            break
        code, lines = run(step, disks, f'config{{profile_dir="{profiles}"}}')
        assert code == step.code, (step.words, lines)
        if step.words[0] == "lvdisplay" or "--reportformat" in step.words or "kernel" in step.words[-1]:
            continue  # compared with the fixtures field by field
        assert _passive(lines) == _passive(step.output), step.words
        compared += 1
    assert compared >= 12


_UUID = re.compile(r"[0-9A-Za-z]{6}(?:-[0-9A-Za-z]{4}){5}-[0-9A-Za-z]{6}")


def _passive(lines: list[str]) -> list[list[str]]:
    """Words of lines without identifiers, and with the letters of attributes that say "active, open" off."""
    found = []
    for line in lines:
        words = _UUID.sub("UUID", line).replace("monitored", "").replace("Monitor", "").split()
        words = [re.sub(r"^([a-zA-Z-]w[a-z]-)a[o-](.---)$", r"\1--\2", word) for word in words]
        found.append(words)
    return sorted(found)


def test_nothing_is_written_with_test(tmp_path: Path) -> None:
    """``--test``: every changing command says its words and leaves every byte alone."""
    disks = []
    for name in ("one", "two", "three"):
        path = tmp_path / name
        with path.open("wb") as stream:
            stream.truncate(64 * MIB)
        disks.append(str(path))
    one, two, three = disks
    for words in (
        ["pvcreate", one, two, three],
        ["vgcreate", "v", one, two],
        ["lvcreate", "-y", "-n", "plain", "-l", "2", "v"],
        ["lvcreate", "-y", "-T", "-L", "16m", "-c", "64k", "v/pool"],
        ["lvcreate", "-y", "-V", "20m", "-T", "v/pool", "-n", "thin"],
    ):
        assert ours(words, disks).code == 0, words
    before = [path.read_bytes() for path in map(type(tmp_path), disks)]
    for line in (
        f"pvcreate {three}",
        f"pvremove {three}",
        f"pvresize {three}",
        f"pvchange -u {three}",
        f"pvchange --addtag x {one}",
        f"vgcreate w {three}",
        f"vgextend v {three}",
        "vgrename v w",
        "vgchange --addtag x v",
        "vgexport v",
        "lvcreate -y -l 1 -n new v",
        "lvcreate -y -s v/thin -n snapshot1x",
        "lvextend -l+1 v/plain",
        "lvreduce -y -l-1 v/plain",
        "lvrename v plain other",
        "lvchange -pr v/plain",
        "lvremove -y v/plain",
        "lvremove -y v/pool",
        "vgremove -y v",
    ):
        words = line.replace("snapshot1x", "snap1").split()
        got = ours([words[0], "-t", *words[1:]], disks)
        assert got.code == 0, (line, got)
        assert got.err[0].startswith("  TEST MODE: "), line
        assert [path.read_bytes() for path in map(type(tmp_path), disks)] == before, line
    assert Disk.open(three).label is not None
