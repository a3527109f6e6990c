# SPDX-License-Identifier: Apache-2.0
"""Every write of a store's commands, cut off after it, with what was not flushed lost, torn and reordered.

    python -m scripts.crash_cuts [--rounds 1] [--seed N] [--modes loop-lvm,direct-lvm] [--subsets 2]

The user engine alone, with nothing that needs root: the writes to the pool's files, or to the two disks of
its volume group, are recorded, and each moment is looked at as a power cut would leave it. The first round
takes each command once, from the set-up on; each further one takes commands at random, most of them copies
into containers that were written to before. Everything finished has to be there, of the command in between
all or nothing, every file system clean to e2fsck, and the next commands have to work. Prints how many
moments that were.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

from tests.support.cut_stores import Contents, Cuts, CutStore, at_random, every_command
from tests.support.stores import MODES, lvm_settings

STEPS = 24
"""Commands of a round at random."""


def one_round(folder: Path, mode: str, number: int, seed: int, *, every: int, subsets: int) -> Cuts:
    """Record one round and look at its moments."""
    store = CutStore(folder, mode)
    store.set_up()
    chance = random.Random(f"{seed} {mode} {number}")

    def state() -> Contents:
        found = store.states[-1]
        assert found is not None
        return found

    steps = at_random(folder, mode, chance, STEPS, state) if number else every_command(folder, mode)
    for name, action in steps:
        store.step(name, action)
    cuts = store.look(chance, every=every, subsets=subsets)
    store.close()
    return cuts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("LAMELLA_ROUNDS", "1")))
    parser.add_argument("--first", type=int, default=0, help="the number of the first round")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--subsets", type=int, default=2, help="times that a part is lost, at each moment")
    parser.add_argument("--every", type=int, default=1, help="look after each such number of writes")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    os.environ["LAMELLA_ENGINE"] = "user"
    total = 0
    for number in range(args.first, args.first + args.rounds):
        for mode in args.modes.split(","):
            folder = Path(tempfile.mkdtemp(prefix="lamella-crash-cuts-"))
            begun = time.monotonic()
            (folder / "lvm").mkdir()
            try:
                with lvm_settings(folder / "lvm"):
                    cuts = one_round(folder, mode, number, args.seed, every=args.every, subsets=args.subsets)
            except BaseException:
                print(f"round {number}, {mode}: what was found is in {folder}", flush=True)
                raise
            shutil.rmtree(folder)
            total += cuts.points
            print(
                f"round {number}, {mode}: {cuts.points} cuts in {cuts.events} writes and flushes of "
                f"{cuts.steps} commands, {time.monotonic() - begun:.0f} s",
                flush=True,
            )
    print(f"{total} cut points: the old state or the new, and every file system clean")


if __name__ == "__main__":
    main()
