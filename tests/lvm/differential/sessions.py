# SPDX-License-Identifier: Apache-2.0
"""A session: a start, then random command lines, each run by both programs on the same disks."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.cli.lvm.syntax.commands import COMMANDS
from tests.lvm.differential.command_forms import Form, Option, forms
from tests.lvm.differential.compare import Result, differences
from tests.lvm.differential.known import Known, explanation
from tests.lvm.differential.programs import ours, real
from tests.lvm.differential.settings import draw_settings
from tests.lvm.differential.starts import STARTS
from tests.lvm.differential.there import look
from tests.lvm.differential.values import Values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.lvm.differential.disks import Content, Disks

STEPS = 20
WEIGHTS = {
    "lvcreate": 14, "vgcreate": 7, "vgchange": 9, "lvchange": 9, "lvextend": 6, "lvreduce": 5, "lvresize": 5,
    "pvcreate": 6, "pvchange": 5, "vgextend": 5, "vgreduce": 5, "lvconvert": 6, "lvs": 5, "vgs": 5, "pvs": 5,
    "lvmdiskscan": 1, "pvscan": 1, "lvscan": 1, "vgscan": 1,
}  # fmt: skip
USUAL_WEIGHT = 3
COMMON_SHARE = 0.2
"""Of the options that are drawn, those that every command accepts."""


def compare(disks: Disks, words: Sequence[str], now: Content) -> tuple[Content, list[str], Known | None, int]:
    """Run one command by both from *now*, and leave what the real one made of the disks.

    Returns that content, the lines that differ, why if that is known, and the real one's exit code.
    """
    there = look(disks.devices)
    theirs = real(words, disks.around)
    after = disks.content()
    wanted = Result.of(theirs, disks.devices, after, there.uuids)
    disks.put_back(now, after)
    own = ours(words, disks.around)
    own_after = disks.content()
    got = Result.of(own, disks.devices, own_after, there.uuids)
    disks.put_back(after, own_after)
    found = differences(wanted, got)
    return after, found, explanation(words, wanted, got, found) if found else None, theirs.code


@dataclass(frozen=True)
class Step:
    """One command line and what differed; *known* says why, if that is known."""

    seed: int
    number: int
    start: str
    words: tuple[str, ...]
    differs: tuple[str, ...]
    known: Known | None
    code: int
    """What the real one ended with."""


def run_session(
    disks: Disks, seed: int, *, steps: int = STEPS, commands: Sequence[str] = (), start: str = ""
) -> Iterator[Step]:
    """Run the session that *seed* stands for. *commands* and *start* limit what is drawn."""
    draw = random.Random(seed)
    begin = draw.choice([one for one in STARTS if not start or one.__name__ == start])
    now = put_start(disks, begin)
    for number in range(steps):
        words = draw_line(draw, Values(draw, look(disks.devices)), commands)
        now, found, known, code = compare(disks, words, now)
        yield Step(seed, number, begin.__name__, tuple(words), tuple(found), known, code)


_CONTENTS: dict[tuple[str, str], Content] = {}


def put_start(disks: Disks, begin: Callable[[Disks], None]) -> Content:
    """Put the start on the disks; made once for each set of disks."""
    key = (str(disks.folder), begin.__name__)
    if key not in _CONTENTS:
        if (str(disks.folder), "") not in _CONTENTS:
            _CONTENTS[(str(disks.folder), "")] = disks.content()
        disks.put_back(_CONTENTS[(str(disks.folder), "")])
        begin(disks)
        _CONTENTS[key] = disks.content()
    disks.put_back(_CONTENTS[key])
    return _CONTENTS[key]


def draw_line(draw: random.Random, values: Values, commands: Sequence[str] = ()) -> list[str]:
    """A command line: a form of a command with what it requires, and some of what it accepts."""
    names = [name for name in commands or COMMANDS if forms(name)]
    command = draw.choices(names, [WEIGHTS.get(name, USUAL_WEIGHT) for name in names])[0]
    form = draw.choice(forms(command))
    options = list(form.required)
    if form.any_of:
        options += draw.sample(form.any_of, min(len(form.any_of), draw.choice([1, 1, 1, 2])))
    some = draw.choice([0, 0, 1, 1, 1, 2, 2, 3])
    for _ in range(some):
        accepted = form.common if form.common and draw.random() < COMMON_SHARE else form.optional
        options += draw.sample(accepted, min(len(accepted), 1))
    if draw.random() < 0.08:
        other = draw.choice(forms(command))
        options.append(draw.choice(other.required + other.any_of + other.optional + other.common))
    words = [command]
    for option in dict.fromkeys(options):
        words += _spelled(draw, values, command, option)
    if draw.random() < 0.6 and not any(option.name == "yes" for option in options):
        words.append("-y")
    words += draw_settings(draw)
    words += _arguments(draw, values, form)
    return words


def _spelled(draw: random.Random, values: Values, command: str, option: Option) -> list[str]:
    name = f"-{option.letter}" if option.letter and draw.random() < 0.5 else f"--{option.name}"
    if not option.kind:
        return [name]
    literal = "|" not in option.kind and option.kind.islower() and option.kind.isascii()
    value = option.kind if literal else values.option(command, option.name, option.kind)
    return [name, value]


def _arguments(draw: random.Random, values: Values, form: Form) -> list[str]:
    words = []
    for kind in form.positionals:
        if draw.random() < 0.04:
            continue
        words.append(values.of_kind(form.command, kind))
    for kind in form.more:
        count = draw.choice([0, 0, 1, 1, 2, 3])
        words += [values.of_kind(form.command, kind.removesuffix(" ...")) for _ in range(count)]
    if draw.random() < 0.03:
        words.append(draw.choice(["extra", "vg", "a"]))
    return words
