# SPDX-License-Identifier: Apache-2.0
"""docs/start/walkthrough.md on real disks: by Lamella, by LVM2, and each step by either.

Disks are those of LAMELLA_TEST_DISKS ("/dev/vdb,/dev/vdc", whose content is lost), or loop devices. A run is
repeated with LAMELLA_SEED; LAMELLA_STEPS makes the random session longer.
"""

from __future__ import annotations

import os
import random
import secrets
import subprocess
from typing import TYPE_CHECKING

import pytest
from scripts.docker_stores.manual import pool_commands

from tests.guest.lvm_twins import PROFILE, Twins, attach, profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GIB = 1 << 30
PVCREATE, _, *POOL = pool_commands("{0}", profile=PROFILE)
STEPS = (
    PVCREATE,
    "vgcreate --setautoactivation n docker {0}",  # or udev's rules activate what a step has just taken down
    *POOL,
    "pvcreate {1}",
    "vgextend docker {1}",
    "lvextend -l +100%FREE docker/thinpool",
)
USE = (
    "lvchange -an docker/thinpool",
    "lvchange -ay docker/thinpool",
    "lvcreate -V 2g -T docker/thinpool -n web",
    "lvcreate -s -n copy docker/web",
    "lvremove -y docker/copy",
    "lvremove -y docker/web",
)
AWAY = ("lvremove -y docker/thinpool", "vgremove docker", "pvremove {0} {1}")


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Twins]:
    given = os.environ.get("LAMELLA_TEST_DISKS", "")
    disks = given.split(",") if given else attach(tmp_path, [4 * GIB, GIB])
    made = Twins(disks)
    try:
        made.clean()
        with profile():
            yield made
    finally:
        made.clean()
        if not given:
            for disk in disks:
                subprocess.run(["losetup", "-d", disk], check=False)


def walk(twins: Twins, choose: Callable[[int], str], folder: Path) -> list[object]:
    """The output of each step, and the state after it."""
    seen: list[object] = []
    for number, step in enumerate((*STEPS, *USE)):
        said = twins.run(choose(number), step)
        assert said.code == 0, (twins.log, said)
        seen.append((step, said, twins.picture()))
        if step in (STEPS[-1], USE[3]):
            seen.append(twins.reports())
    assert twins.run(choose(-4), "lvchange -an docker/thinpool").code == 0
    twins.metadata_is_sound("docker", "thinpool", folder)
    for number, step in enumerate(AWAY):
        said = twins.run(choose(-1 - number), step)
        seen.append((step, said, twins.picture()))
        assert said.code == 0, (twins.log, said)
    return seen


def test_three_ways(twins: Twins, tmp_path: Path) -> None:
    seed = int(os.environ.get("LAMELLA_SEED", secrets.randbelow(1 << 32)))
    print(f"LAMELLA_SEED={seed}")
    chance = random.Random(seed)
    theirs = walk(twins, lambda number: "theirs", tmp_path)
    ours = walk(twins, lambda number: "ours", tmp_path)
    compare(ours, theirs)
    mixed = walk(twins, lambda number: chance.choice(("ours", "theirs")), tmp_path)
    compare(mixed, theirs)


def compare(got: list[object], wanted: list[object]) -> None:
    assert len(got) == len(wanted)
    for mine, judge in zip(got, wanted, strict=True):
        assert mine == judge


class Session:
    """Random commands for the present state, so that most of them succeed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.plain: dict[str, int] = {}
        self.thin: dict[str, int] = {}
        self.count = 0

    def next(self) -> str:
        kinds = [
            self._plain,
            self._thin,
            self._resize,
            self._rename,
            self._remove,
            self._switch,
            self._change,
        ]
        while True:
            line = self.chance.choice(kinds)()
            if line:
                return line

    def _name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def _any(self) -> str:
        names = [*self.plain, *self.thin]
        return self.chance.choice(names) if names else ""

    def _plain(self) -> str:
        name = self._name()
        self.plain[name] = self.chance.randint(1, 6)
        stripes = self.chance.choice(("", "-i2 ", "-pr ", "-an "))
        return f"lvcreate -y {stripes}-l {2 * self.plain[name]} -n {name} group"

    def _thin(self) -> str:
        name = self._name()
        if self.thin and self.chance.random() < 0.5:
            origin = self.chance.choice([*self.thin])
            self.thin[name] = self.thin[origin]
            return f"lvcreate -s {self.chance.choice(('', '-kn '))}-n {name} group/{origin}"
        self.thin[name] = self.chance.randint(1, 20)
        return f"lvcreate -V {4 * self.thin[name]}m -T group/pool -n {name}"

    def _resize(self) -> str:
        match self.chance.randrange(4):
            case 0:
                return "lvextend -l +4 group/pool"
            case 1 if self.thin:
                name = self.chance.choice([*self.thin])
                self.thin[name] += 5
                return f"lvextend -L +20m group/{name}"
            case 2 if self.thin:
                name = self.chance.choice([*self.thin])
                return f"lvreduce -y -L 4m group/{name}"
        name = self.chance.choice([*self.plain]) if self.plain else ""
        return f"lvextend -l +4 group/{name}" if name else ""

    def _rename(self) -> str:
        old = self._any()
        if not old:
            return ""
        new = self._name()
        kind = self.plain if old in self.plain else self.thin
        kind[new] = kind.pop(old)
        return f"lvrename group/{old} group/{new}"

    def _remove(self) -> str:
        name = self._any()
        if not name or len(self.plain) + len(self.thin) < 4:
            return ""
        self.plain.pop(name, None)
        self.thin.pop(name, None)
        return f"lvremove -y group/{name}"

    def _switch(self) -> str:
        what = self.chance.choice(("group", "group/pool", f"group/{self._any()}" if self._any() else "group"))
        if what == "group":
            return self.chance.choice(("vgchange -an group", "vgchange -ay group"))
        return f"lvchange {self.chance.choice(('-an', '-ay', '-ay -K'))} {what}"

    def _change(self) -> str:
        name = self._any()
        options = ["--zero n", "--zero y", "--discards nopassdown", "--errorwhenfull y", "--errorwhenfull n"]
        if not name or self.chance.random() < 0.4:
            return f"lvchange {self.chance.choice(options)} group/pool"
        return f"lvchange {self.chance.choice(('-pr', '-prw', '--addtag t', '-r 16'))} group/{name}"


def test_a_random_session(twins: Twins, tmp_path: Path) -> None:
    # What runs before a change lands is the same each time, and shorter: emulation takes seconds for a step.
    fixed = "CI" in os.environ
    seed = int(os.environ.get("LAMELLA_SEED", 1743674754 if fixed else secrets.randbelow(1 << 32)))
    steps = int(os.environ.get("LAMELLA_STEPS", "10" if fixed else "16"))
    print(f"LAMELLA_SEED={seed} LAMELLA_STEPS={steps}")
    start = [
        "vgcreate --setautoactivation n group {0} {1}",
        "lvcreate -y --type thin-pool -c 64k -L 200m --poolmetadatasize 4m -n pool group",
    ]
    session = Session(seed)
    lines = start + [session.next() for _ in range(steps)]
    chance = random.Random(seed + 1)
    judged = [(line, twins.run("theirs", line), twins.picture()) for line in lines]
    twins.clean()
    for line, said, picture in judged:
        program = chance.choice(("ours", "ours", "theirs"))
        assert (line, twins.run(program, line)) == (line, said), twins.log
        assert twins.picture() == picture, twins.log
    twins.reports()
    assert twins.run("ours", "vgchange -an group").code == 0
    twins.metadata_is_sound("group", "pool", tmp_path)
