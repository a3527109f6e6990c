# SPDX-License-Identifier: Apache-2.0
"""Run random sessions of LVM2's commands by the real program and by ours, and list what differs.

    python -m tests.lvm.differential --seeds 0-99
    python -m tests.lvm.differential --seeds 17 --show            # every command line and what differed
    python -m tests.lvm.differential --seeds 0-999 --commands lvcreate,lvextend --start volumes

Needs root (loop devices) and LVM2. The list is by kind: how often, the first step of the kind as SEED:STEP,
its command line, and the lines that differ (``-`` the real one, ``+`` ours; ``text`` is the metadata on disk,
``files`` are backups and archives). Exits with 1 if anything differs that ``known.py`` does not explain.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.lvm.differential.disks import Disks
from tests.lvm.differential.sessions import STEPS, Step, run_session

LINES = 12
"""Of one difference, in the list."""


def kind_of(step: Step) -> str:
    """Steps that differ in the same way have the same kind: the command, and the first line without names."""
    parts = sorted({line.partition(" ")[0] for line in step.differs})
    first = next((line for line in step.differs if line.startswith(("err", "out"))), step.differs[0])
    plain = re.sub(r"/dev/loop\d+|\b[\w.+/@-]*\d[\w.%-]*|\b(vg|other|g3|a|b|lv1|pool|snap)\b", "N", first)
    return f"{step.words[0]} [{' '.join(parts)}] {plain[:100]}"


def main() -> int:
    """Run it. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-19", help="one, or FIRST-LAST")
    parser.add_argument("--steps", type=int, default=STEPS, help="commands in each session")
    parser.add_argument("--commands", default="", help="draw only these, separated by commas")
    parser.add_argument("--start", default="", help="begin with this of starts.py only")
    parser.add_argument("--show", action="store_true", help="show every step")
    parser.add_argument("--known", action="store_true", help="list what is explained, too")
    parser.add_argument("--folder", default="/dev/shm", help="where the disks' files are made")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    commands = [name for name in options.commands.split(",") if name]
    seen: Counter[str] = Counter()
    example: dict[str, Step] = {}
    steps = good = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        disks = Disks(Path(folder))
        try:
            for seed in range(int(first), int(last or first) + 1):
                for step in run_session(
                    disks, seed, steps=options.steps, commands=commands, start=options.start
                ):
                    steps += 1
                    good += not step.code
                    if options.show:
                        _print(step)
                    if step.differs and (step.known is None or options.known):
                        seen[kind_of(step)] += 1
                        example.setdefault(kind_of(step), step)
        finally:
            disks.close()
    for kind, count in seen.most_common():
        print(f"\n{count} x {kind}")
        _print(example[kind])
    print(f"\n{steps} commands, {good} of which succeeded; {sum(seen.values())} differ, in {len(seen)} kinds")
    return 1 if seen else 0


def _print(step: Step) -> None:
    reason = f"  [known: {step.known.explained or 'no device-mapper'}]" if step.known and step.differs else ""
    print(f"{step.seed}:{step.number} {step.start}: {shlex.join(step.words)}  -> {step.code}{reason}")
    for line in step.differs[:LINES]:
        print(f"    {line[:200]}")
    if len(step.differs) > LINES:
        print(f"    ... {len(step.differs) - LINES} more lines")


if __name__ == "__main__":
    sys.exit(main())
