# SPDX-License-Identifier: Apache-2.0
"""``python -m scripts.fuzz [--rounds N] [--seed N] [--seconds N] [--input FILE] [TARGET ...]``"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from pathlib import Path

from scripts.fuzz.driver import fuzz, save
from scripts.fuzz.targets import targets


def main() -> int:
    """Fuzz the targets (all by default); 1 if a fault was found, and its input is then in ``build/fuzz``."""
    known = targets()
    parser = argparse.ArgumentParser(prog="fuzz", description="Fuzz the parsers of input from outside.")
    parser.add_argument("target", nargs="*", metavar="TARGET", help=f"default: all ({', '.join(known)})")
    rounds = int(os.environ.get("LAMELLA_ROUNDS", "10000"))
    parser.add_argument("--rounds", type=int, default=rounds, help="inputs for each (LAMELLA_ROUNDS, 10000)")
    parser.add_argument("--seed", type=int, default=0, help="another number tries other inputs")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop each target after this time")
    parser.add_argument("--input", type=Path, help="read this file once, and show what happens")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.target if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    chosen = [known[name] for name in arguments.target] if arguments.target else list(known.values())
    if arguments.input:
        for target in chosen:
            print(target.read(arguments.input.read_bytes()))
        return 0
    found = False
    for target in chosen:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = fuzz(target, arguments.rounds, seed=arguments.seed, seconds=arguments.seconds)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        print(
            f"{target.name}: {report.inputs} inputs in {spent:.0f} s of processor time, "
            f"{report.outcomes} outcomes, {len(report.faults)} faults",
            flush=True,
        )
        for fault in report.faults.values():
            found = True
            path = save(fault, Path("build/fuzz") / target.name)
            print(f"  {fault.what}: {path}\n    " + fault.detail.rstrip().replace("\n", "\n    "), flush=True)
    return 1 if found else 0


sys.exit(main())
