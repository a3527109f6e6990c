# SPDX-License-Identifier: Apache-2.0
"""``lamella setup --for RUNTIME``: shows the settings that a runtime needs, or writes them after asking."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.cli.output import print_warnings
from lamella.errors import UsageError
from lamella.printable import printable

if TYPE_CHECKING:
    import argparse

    from lamella.services.runtime_config.model import Plan

NAMES = ("containerd", "docker", "k3s", "kata", "firecracker")
"""The keys of :data:`lamella.services.runtime_config.targets.TARGETS`, which is not imported for a parser."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this part of ``setup``."""
    group = parser.add_argument_group("configuration of a runtime that uses the store's snapshotter")
    group.add_argument(
        "--for",
        dest="runtime",
        choices=NAMES,
        metavar="RUNTIME",
        help="print the settings for containerd (with Kubernetes), docker, k3s, kata or firecracker "
        "(firecracker-containerd); without a mode, DEVICE or storage option nothing else is done",
    )
    group.add_argument(
        "--write",
        action="store_true",
        help="with --for: show the changes, ask, and write them; what was there is kept",
    )
    group.add_argument("-y", "--yes", action="store_true", help="with --write: do not ask")
    group.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="with --for: the runtime's configuration file, or the folder of k3s' templates, where it is not "
        "the usual one",
    )
    group.add_argument(
        "--socket",
        type=Path,
        metavar="FILE",
        help="with --for: where the snapshotter listens (default: run/containerd.sock in the store's folder)",
    )


def check_options(args: argparse.Namespace) -> None:
    """Raise :class:`UsageError` for options that do not go together."""
    if args.runtime is None:
        for name in ("write", "yes", "file", "socket"):
            if getattr(args, name):
                raise UsageError(f"--{name} is for --for", hint=f"name the runtime too: --for {NAMES[0]}")
    if args.yes and not args.write:
        raise UsageError("--yes is for --write", hint="without --write nothing is changed, and nobody asked")
    if args.runtime and (args.plan or args.pool_only):
        other = "--plan" if args.plan else "--pool-only"
        raise UsageError(f"--for does not go with {other}", hint="give them one after the other")


def show_or_write(args: argparse.Namespace) -> dict[str, Any]:
    """Do what ``--for`` asks for; gives it for JSON."""
    from lamella.services.runtime_config.model import Facts
    from lamella.services.runtime_config.targets import TARGETS
    from lamella.services.runtime_config.writing import containerd_version, read
    from lamella.store.root import Root

    root = Root.at(args.root)
    socket = (args.socket or root.run / "containerd.sock").absolute()
    target = TARGETS[args.runtime]
    path = args.file.absolute() if args.file is not None else target.path
    plan = target.plan(path, Facts(root.path, socket, containerd_version()), read)
    next_steps = list(plan.next_steps)
    if not root.config.exists():
        next_steps.insert(0, f"make the store: lamella setup --root {root.path}")
    kept: dict[Path, Path | None] = {}
    if not args.write:
        if not args.json:
            _show(plan)
    else:
        kept = _write(plan, args)
    if not args.json:
        if not args.write:
            print_warnings(plan.warnings)
        print("Next:")
        for step in next_steps:
            print(f"  {step}")
    return {
        "files": [
            {
                "path": str(file.path),
                "content": file.snippet,
                "changed": file.changed,
                "written": file.path in kept,
                "kept": str(kept.get(file.path) or ""),
            }
            for file in plan.files
        ],
        "warnings": list(plan.warnings),
        "next": next_steps,
    }


def _show(plan: Plan) -> None:
    for file in plan.files:
        print(f"{file.path} needs" + (":" if file.changed else ", and has already:"))
        print()
        print(file.snippet)


def _write(plan: Plan, args: argparse.Namespace) -> dict[Path, Path | None]:
    """Write what is changed; gives where the old content of each file is. Raises :class:`UsageError`."""
    from lamella.services.runtime_config.writing import difference, write

    wanted = [file for file in plan.files if file.changed]
    if not args.json:
        for file in plan.files:
            if not file.changed:
                print(f"{file.path} has what is needed already.")
    if not wanted:
        return {}
    if not args.json:
        for file in wanted:
            for line in difference(file):
                print(printable(line))
        print_warnings(plan.warnings)
    if not args.yes:
        if args.json or not sys.stdin.isatty():
            raise UsageError(
                f"setup asks before it changes {wanted[0].path}", hint="leave the question out with --yes"
            )
        if not _agreed(len(wanted)):
            print("Nothing was changed.")
            return {}
    kept = {}
    for file in wanted:
        kept[file.path] = write(file)
        old = f" What it was before is in {kept[file.path]}." if kept[file.path] else ""
        if not args.json:
            print(f"{file.path} is written.{old}")
    return kept


def _agreed(count: int) -> bool:
    sys.stdout.flush()
    try:
        asked = "Write this change?" if count == 1 else f"Write these changes of {count} files?"
        return input(f"{asked} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
