# SPDX-License-Identifier: Apache-2.0
"""``lvconvert`` of volumes in use, and what is remembered of removed ones: LVM2 of the machine is the judge.

Each session of commands is run by LVM2 and then by ours; output, exit codes, the groups' texts, the kernel's
tables and the links have to be the same after every step.
"""

from __future__ import annotations

import difflib
import os
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.guest.lvm_twins import SETTINGS, Output, Twins, attach

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MIB = 1 << 20
START = ("vgcreate --setautoactivation n vg {0} {1}", "lvcreate -y -L128m -T vg/pool -c 64k")


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Twins]:
    disks = attach(tmp_path, [256 * MIB, 256 * MIB])
    made = Twins(disks)
    try:
        yield made
    finally:
        made.clean()
        for disk in disks:
            subprocess.run(["losetup", "-d", disk], check=False)


def play(twins: Twins, program: str, lines: Sequence[str]) -> list[tuple[str, object, object]]:
    """What each line does: a command, or "open NAME", "close", "write NAME TEXT", "read NAME",
    or "with SETTINGS", which hold from then on.
    """
    seen: list[tuple[str, object, object]] = []
    held: list[int] = []
    twins.settings = SETTINGS
    try:
        for line in lines:
            word, _, rest = line.partition(" ")
            said: object = None
            if word == "open":
                held.append(os.open(f"/dev/vg/{rest}", os.O_RDONLY))
            elif word == "close":
                while held:
                    os.close(held.pop())
            elif word == "with":
                twins.settings = f"{SETTINGS} {rest}"
            elif word == "write":
                name, _, text = rest.partition(" ")
                with open(f"/dev/vg/{name}", "r+b", buffering=0) as stream:
                    stream.write(text.encode().ljust(4096, b"."))
                    os.fsync(stream.fileno())
            elif word == "read":
                with open(f"/dev/vg/{rest}", "rb", buffering=0) as stream:
                    said = stream.read(4096)
            else:
                answers = ""
                if line.endswith(" <<n"):
                    line, answers = line.removesuffix(" <<n"), "n\n"
                said = twins.run(program, line, answers)
            seen.append((line, said, twins.picture()))
    finally:
        for one in held:
            os.close(one)
    return seen


def lines_of(step: tuple[str, object, object]) -> list[str]:
    """The step as lines, for a difference that can be read."""
    _line, said, picture = step
    assert isinstance(picture, dict)
    lines = [repr(said)] if not isinstance(said, Output) else [f"code {said.code}", *said.lines]
    return [*lines, *picture["text"].splitlines(), *picture["kernel"], *picture["links"]]


def judged(twins: Twins, lines: Sequence[str], *, numbered: bool = True, reports: bool = True) -> None:
    """Run the lines by both; everything has to be the same, without *numbered* but for the seqno, and with
    *reports* also those of the result.
    """
    theirs = play(twins, "theirs", [*START, *lines])
    twins.clean()
    ours = play(twins, "ours", [*START, *lines])
    wrong = []
    for mine, judge in zip(ours, theirs, strict=True):
        diff = difflib.unified_diff(lines_of(judge), lines_of(mine), "LVM2", "ours", n=0, lineterm="")
        found = [line for line in diff if numbered or "seqno = " not in line]
        wrong += (
            [f"after {judge[0]}", *found] if any(line[:2] not in ("--", "++", "@@") for line in found) else []
        )
    assert not wrong, "\n".join(wrong[:60])
    if reports:
        twins.reports()
    failed = [line for line, said, _picture in theirs if line in START and getattr(said, "code", 0)]
    assert not failed


def test_a_volume_becomes_thin_with_an_external_origin(twins: Twins) -> None:
    judged(
        twins,
        (
            "lvcreate -y -L20m --addtag tt --setautoactivation n -n a vg",
            "write a before",
            "open a",
            "lvconvert -T vg/a --thinpool pool",
            "read a",
            "close",
            "write a after",
            "lvcreate -y -L20m -n b vg",
            "lvconvert -y --type thin vg/b --thinpool vg/pool --originname ext",
            "lvconvert -T vg/b --thinpool vg/pool --originname ext",
            "lvconvert -T vg/a --thinpool pool --originname again",
            "read a",
            "lvcreate -y -an -Zn -ky -L8m -n k vg",
            "lvconvert -T vg/k --thinpool vg/pool --originname old",
            "lvcreate -y -L8m -pr -Zn -n ro vg",
            "lvconvert -T vg/ro --thinpool vg/pool",
            "lvchange -an vg",
            "lvchange -ay vg",
            "read a",
            "lvchange -an vg",
            "lvcreate -y -L8m -n late vg",
            "write late content",
            "lvconvert -T vg/late --thinpool vg/pool",
            "read late",
            "lvchange -prw vg/ext",
            "lvremove vg/ext <<n",
            "lvremove -y vg/ext",
            "vgremove -ff -y vg",
        ),
    )


def test_an_active_external_origin_is_reloaded_when_its_last_user_goes(twins: Twins) -> None:
    """And the group is written once more than when it is not active."""
    users = tuple(f"lvcreate -y -s -kn -n {name} --thinpool vg/pool vg/base" for name in ("one", "two"))
    judged(
        twins,
        (
            "lvcreate -y -V20m -n a -T vg/pool",
            "lvcreate -y -an -Zn -L8m -n base vg",
            "lvchange -pr vg/base",
            *users,
            "lvremove -y vg/one",
            "lvremove -y vg/two",
            *users,
            "lvchange -ay vg/base",
            "lvremove -y vg/one",
            "lvremove -y vg/two",
            "lvchange -an vg/base",
            *users[:1],
            "lvchange -ay vg/base",
            "lvremove -y vg/pool",
            "lvcreate -y -L20m -T vg/pool",
            "lvchange -an vg/base",
            *users,
            "lvremove -y vg/pool",
        ),
    )


def test_what_cannot_become_thin_and_a_pool_that_is_made_for_it(twins: Twins) -> None:
    judged(
        twins,
        (
            "lvcreate -y -V20m -n a -T vg/pool",
            "lvcreate -y -L12m -n data vg",
            "lvcreate -y -L12m -n plain vg",
            "lvconvert -T vg/plain --thinpool vg/data <<n",
            "lvconvert -y -T vg/plain --thinpool vg/data -c 128k",
            "lvconvert -T vg/plain --thinpool vg/a",
            "lvconvert -T vg/plain --thinpool vg/plain",
            "lvconvert -T vg/pool --thinpool vg/pool",
            "lvconvert -T vg/lvol0_pmspare --thinpool vg/pool",
            "lvconvert -T vg/nope --thinpool vg/pool",
            "lvconvert -T vg/plain --thinpool vg/nope",
            "lvconvert -T vg/plain --thinpool other/pool",
            "lvconvert -T vg/plain --thinpool vg/pool --originname a!b",
            "lvconvert -T vg/plain --thinpool vg/pool --originname a_tdata",
            "lvconvert -T vg/plain --thinpool vg/pool --originname other/x",
        ),
        # LVM2 writes the text once more when it makes the pool for the volume than when it makes one alone.
        numbered=False,
    )


def test_a_merge_waits_for_the_next_activation(twins: Twins) -> None:
    judged(
        twins,
        (
            "lvcreate -y -V20m -n a -T vg/pool",
            "write a before",
            "lvcreate -y -s -n s vg/a",
            "lvcreate -y -s -n s2 vg/a",
            "write a after",
            "open a",
            "lvconvert --merge vg/s",
            "lvconvert --merge vg/s",
            "lvconvert --merge vg/s2",
            "lvchange -ay -K vg/s",
            "lvchange -pr vg/s",
            "lvremove -y vg/s",
            "lvrename vg s ss",
            "lvrename vg a aa",
            "lvremove -y vg/s2",
            "lvresize -L24m vg/aa",
            "lvcreate -y -s -n s3 vg/aa",
            "lvchange -an vg/aa",
            "close",
            "lvchange -an vg/aa",
        ),
        # Of an inactive origin LVM2 shows the transaction id of the snapshot that is to replace it.
        reports=False,
    )


def test_a_merge_waits_while_the_snapshot_is_open(twins: Twins) -> None:
    judged(
        twins,
        (
            "lvcreate -y -V20m -n b -T vg/pool",
            "lvcreate -y -s -kn -n bs vg/b",
            "open bs",
            "lvconvert --merge vg/bs",
            "lvchange -an vg/b",
            "lvchange -ay vg/b",
            "close",
            "lvchange -an vg/b",
        ),
        reports=False,
    )


def test_the_origin_of_a_waiting_merge_is_removed(twins: Twins) -> None:
    judged(
        twins,
        (
            "lvcreate -y -V20m -n c -T vg/pool",
            "lvcreate -y -s -n cs vg/c",
            "open c",
            "lvconvert --merge vg/cs",
            "close",
            "lvremove vg/c <<n",
            "lvremove -y vg/c",
        ),
    )


@pytest.mark.parametrize("begun", [False, True])
def test_a_waiting_merge_is_completed(twins: Twins, begun: bool) -> None:
    """Also where LVM2 has activated the origin, and has not completed the text yet."""
    lines = (
        "lvcreate -y -V20m -n a -T vg/pool",
        "write a before",
        "lvcreate -y -s -n s vg/a",
        "write a after",
        "open a",
        "lvconvert --merge vg/s",
        "close",
        "lvchange -an vg/a",
    )
    for line, said, _picture in play(twins, "ours", [*START, *lines]):
        assert getattr(said, "code", 0) == 0, (line, said)
    if begun:
        assert twins.run("theirs", "lvchange -ay --poll n vg/a").code == 0
        assert twins.run("ours", "lvextend -L24m vg/a").code == 0
    steps = play(twins, "ours", ["lvchange -ay vg/a", "read a"])
    assert isinstance(steps[0][1], Output)
    assert steps[0][1].code == 0, steps[0][1]
    assert isinstance(steps[1][1], bytes)
    assert steps[1][1].startswith(b"before")
    assert twins.run("theirs", "vgck vg").code == 0
    said = twins.run("theirs", "lvs --noheadings -a -o lv_name,lv_attr,thin_id vg")
    assert any(line.startswith("a ") and line.endswith(" 2") for line in said.lines), said
    assert not any("[s]" in line for line in said.lines)


steps_judged = partial(judged, numbered=False, reports=False)

KEPT = "with metadata {record_lvs_history=1}"
FAMILY = "lvs -H -o lv_name,lv_attr,lv_full_ancestors,lv_full_descendants,lv_ancestors,lv_descendants,origin"


def family(*pairs: str) -> tuple[str, ...]:
    """Lines that make thin volumes, each "NAME" or "NAME<ORIGIN"."""
    lines = []
    for pair in pairs:
        name, _, origin = pair.partition("<")
        lines.append(f"lvcreate -y -kn -n {name} " + (f"-s vg/{origin}" if origin else "-V8m vg/pool"))
    return tuple(lines)


def test_removed_volumes_are_remembered(twins: Twins) -> None:
    steps_judged(
        twins,
        [
            KEPT,
            *family("alone", "a", "leaf<a", "b<a", "c<b", "d<c", "e<a"),
            "lvremove -y vg/alone",
            "lvremove -y vg/leaf",
            "lvremove -y vg/b vg/c",
            "lvremove -y vg/a",
            FAMILY,
            FAMILY.replace(" -H", ""),
            "lvcreate -y -n b -V8m vg/pool",
            *family("x<d"),
            "lvremove -y vg/x",
            "lvremove -y vg/-b",
            "lvremove vg/-a vg/-c",
            *family("n1<d", "n2<n1", "n3<n2"),
            "lvremove -y vg/n1",
            "lvremove -y --nohistory vg/n2",
            FAMILY,
            *family("o1", "o2<o1", "o3<o2", "o4<o3"),
            "lvremove -y vg/o3",
            "with metadata {record_lvs_history=0}",
            "lvremove -y vg/o1",
            "lvremove -y vg/o2",
            FAMILY,
            KEPT,
            "lvremove -y vg/pool",
            FAMILY,
        ],
    )


def test_a_group_of_remembered_volumes_is_emptied(twins: Twins) -> None:
    steps_judged(
        twins,
        [
            KEPT,
            *family("a", "b<a", "c<b", "d"),
            "lvremove -y vg/b",
            "lvremove -y vg",
            "lvcreate -y -L64m -T vg/pool -c 64k",
            *family("a", "b<a", "c<b"),
            "lvremove -y vg/a",
            "lvremove -y vg/c vg/b",
            *family("a", "b<a"),
            "lvremove -y vg/a",
            "vgremove -y vg",
        ],
    )


@pytest.mark.parametrize("kept", [0, 1])
def test_a_merge_of_remembered_volumes(twins: Twins, kept: int) -> None:
    steps_judged(
        twins,
        [
            KEPT,
            *family("z", "d<z", "x<d", "x0<d", "x1<x0", "f<d", "g<f", "g0<f", "g1<g0"),
            "lvremove -y vg/x0 vg/g0",
            FAMILY,
            f"with metadata {{record_lvs_history={kept}}}",
            "lvconvert --merge vg/f",
            FAMILY,
            "lvremove -y vg/pool",
        ],
    )


def test_external_origins_are_not_remembered(twins: Twins) -> None:
    steps_judged(
        twins,
        [
            KEPT,
            "lvcreate -y -L8m -pr -an -Zn -n eo vg",
            "lvcreate -y -s -n t1 --thinpool pool vg/eo",
            *family("t2<t1"),
            "lvremove -y vg/t1",
            FAMILY,
            "lvremove -y vg/eo",
        ],
    )


@pytest.mark.parametrize(
    "features",
    [  # those of one set do not hide one another
        ["discards", "external_origin_extend", "error_if_no_space"],
        ["external_origin", "discards_non_power_2"],
        ["block_size", "metadata_resize", "nonsense"],
    ],
    ids=" ".join,
)
def test_thin_features_that_are_disabled(twins: Twins, features: list[str]) -> None:
    listed = ", ".join(f'"{feature}"' for feature in features)
    steps_judged(
        twins,
        [
            f"with global {{thin_disabled_features=[{listed}]}}",
            *family("t", "u<t"),
            "lvchange --errorwhenfull y vg/pool",
            "lvchange --discards nopassdown vg/pool",
            "vgchange -an vg",
            "vgchange -ay vg",
            "lvcreate -y -L8m -n eo -pr -an -Zn vg",
            "lvcreate -y -s -n es --thinpool vg/pool vg/eo",
            "lvextend -L16m vg/es",
            "lvextend -L132m vg/pool",
            "lvextend --poolmetadatasize +4m vg/pool",
            "lvcreate -y -L12m -T vg/odd -c 192k",
            "lvcreate -y -an -L12m -T vg/idle -c 192k",
            "lvcreate -y -L4m -T vg/ignoring --discards ignore --errorwhenfull y",
            "lvremove -y vg/idle",
            "lvcreate -y -L12m -n data vg",
            "lvconvert -y --type thin-pool -c 192k vg/data",
        ],
    )


def test_an_external_origin_must_be_idle_when_it_is_given(twins: Twins) -> None:
    judged(
        twins,
        [
            *family("t"),
            "lvcreate -y -L8m -Zn -n eo vg",
            "lvcreate -y -s -n t1 --thinpool pool vg/eo",
            "lvchange -pr vg/eo",
            "lvcreate -y -s -n t1 --thinpool pool vg/eo",
            "lvchange -an vg/eo",
            "lvcreate -y -s -n t1 --thinpool pool vg/eo",
            "lvchange -ay vg/eo",
            "lvcreate -y -s -n t2 --thinpool pool vg/eo",
            "lvcreate -y -s -n t3 vg/t1",
        ],
        reports=False,
    )
