# SPDX-License-Identifier: Apache-2.0
"""A guest with a real kernel: `python -m scripts.guest build|run|shell|probe`.

`build` makes what a guest needs, once. `run SCRIPT` boots a fresh copy-on-write guest with a folder shared at
/share and the project at /project, runs the script in it, prints its output and exits with its code. `shell`
gives a prompt. `probe` ends with 0 if User-mode Linux can be used, and with 1 if QEMU is needed.

User-mode Linux runs it, or QEMU where that cannot be had; LAMELLA_GUEST=uml or =qemu decides.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scripts.guest import qemu
from scripts.guest.folders import temporary_folder
from scripts.guest.machine import DEFAULT_ROOT, Machine, boot_each, shell, user_mode_linux
from scripts.guest.packages import packages
from scripts.guest.roots import ROOTS, NotMade, root


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.guest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("build", "run", "shell", "probe"))
    parser.add_argument("script", nargs="?", type=Path)
    parser.add_argument("--root", choices=list(ROOTS), default=DEFAULT_ROOT, help=f"default: {DEFAULT_ROOT}")
    parser.add_argument(
        "--disk", type=Path, action="append", default=[], help="a raw file, as ${GUEST_DISKS}b and on"
    )
    parser.add_argument("--share", type=Path, help="the folder seen at /share (default: a new one)")
    parser.add_argument(
        "--each", nargs="+", metavar="WORD", help="run the script once with each word, in guests side by side"
    )
    parser.add_argument("--timeout", type=float, default=1800, help="seconds (default 1800)")
    args = parser.parse_args()
    if args.action == "probe":
        return 0 if user_mode_linux() else 1
    if args.action == "run" and args.script is None:
        parser.error("run wants a script")
    if args.each and (args.share or args.disk):
        parser.error("--each makes several guests, which cannot have one share or disk")
    if args.each:
        return boot_each(args.script.read_text(), args.each, args.timeout, args.root)
    kernel, there = user_mode_linux(), root(args.root)
    if args.action == "build":
        packages(there.python)
        print(f"root    {there.folder}\nkernel  {kernel.folder if kernel else qemu.initrd(there).parent}")
        return 0
    with temporary_folder("share") as fresh:
        machine = Machine(there, args.share or fresh, args.disk)
        if args.action == "shell":
            return shell(machine)
        code, output = machine.run(args.script.read_text(), args.timeout)
    print(output, end="")
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NotMade as error:
        sys.exit(f"guest: {error}")
