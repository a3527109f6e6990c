# SPDX-License-Identifier: Apache-2.0
"""Create a store: a thin pool, its base device, and state.db.

loop-lvm (the default) keeps the pool in two sparse files in the store's folder. direct-lvm creates a volume
group on DEVICEs: plain files, disks, partitions, loop devices, NBD addresses; the plan is printed as the
equivalent LVM commands. Running it again continues an unfinished set-up, extends what you ask to extend, or
says what differs. With --for, the settings that a container runtime needs to use the store are printed, or
written into its configuration file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.output import print_json
from lamella.cli.parsing import add_json
from lamella.cli.progress_line import progress
from lamella.cli.runtime_files import add_options, check_options, show_or_write
from lamella.errors import UsageError

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  lamella setup loop-lvm --storage-opt dm.basesize=20G --storage-opt dm.loopdatasize=200G
  lamella setup direct-lvm /dev/vdb --plan
  lamella setup direct-lvm /dev/vdb
  lamella setup direct-lvm --storage-opt dm.thinpooldev=/dev/mapper/docker-thinpool
  lamella setup direct-lvm /dev/vdb --pool-only
  lamella setup --for containerd
  lamella setup --for containerd --write --yes --file config.toml
"""
JSON = """\
root         the store's folder
mode         "loop-lvm" or "direct-lvm"
engine       "user" or "kernel"
warnings[]   warnings
found[]      with --plan: what there is, in words
commands[]   with --plan: the equivalent commands of other tools
pool         with --pool-only: the pool's name
runtime                 with --for: what the runtime needs
runtime.files[]         its configuration files
runtime.files[].path    where the file is
runtime.files[].content  the settings that it needs
runtime.files[].changed  whether it lacks some of them
runtime.files[].written  whether it was written just now
runtime.files[].kept    the copy of what it was before; empty if there is none
runtime.warnings[]      what to know before
runtime.next[]          what to do next, in order
"""

FLAGS = {
    "vg": ("lamella.vg", "NAME", "name of the volume group (default docker)"),
    "pool": ("lamella.pool", "NAME", "name of the thin pool (default thinpool)"),
    "data_percent": ("dm.thinp_percent", "N", "share of the group for data (default 95)"),
    "metadata_percent": ("dm.thinp_metapercent", "N", "share of the group for metadata (default 1)"),
    "chunk_size": ("dm.blocksize", "SIZE", "size of the pool's chunks (default 512K)"),
    "autoextend_threshold": (
        "dm.thinp_autoextend_threshold",
        "N",
        "extend at this usage, in per cent (default 80)",
    ),
    "autoextend_percent": ("dm.thinp_autoextend_percent", "N", "extend by N per cent (default 20)"),
    "zero": ("lamella.zero", "y|n", "zero newly provisioned chunks (default n)"),
}
"""Flags of direct-lvm: the storage option that each one is, its value, and its help."""
_WORDS = {"y": "true", "n": "false"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "mode", nargs="?", choices=("loop-lvm", "direct-lvm"), help="default: the one that the options imply"
    )
    parser.add_argument("devices", nargs="*", metavar="DEVICE", help="disks for direct-lvm")
    parser.add_argument(
        "--storage-opt",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a dm.* option of Docker's devicemapper driver; may be repeated",
    )
    parser.add_argument("--plan", action="store_true", help="print the plan and change nothing")
    group = parser.add_argument_group("direct-lvm")
    group.add_argument("-f", "--force", action="store_true", help="use disks that are not empty")
    group.add_argument(
        "--pool-only", action="store_true", help="create the pool but no store: for Docker or containerd"
    )
    for name, (option, value, text) in FLAGS.items():
        group.add_argument(
            f"--{name.replace('_', '-')}", dest=name, metavar=value, help=f"{text}; as {option}"
        )
    add_options(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from lamella.store import Store
    from lamella.store.root import Root

    options = _options(args)
    check_options(args)
    if args.runtime and not (args.mode or options):
        runtime = show_or_write(args)
        if args.json:
            print_json({"runtime": runtime})
        return 0
    if args.plan or (args.mode == "direct-lvm" and not Store.exists(args.root)):
        found, commands = Store.plan(args.root, mode=args.mode, storage_options=options, engine=args.engine)
        if not args.json:
            for line in found:
                print(line)
            for command in commands:
                print("\n".join(f"  {line}" for line in command.split("\n")))
            sys.stdout.flush()
        if args.plan:
            if args.json:
                print_json({"root": str(Root.at(args.root).path), "found": found, "commands": commands})
            return 0
    if args.pool_only:
        from lamella.store.pool_only import make_pool

        name = make_pool(args.root, mode=args.mode, storage_options=options, wait=args.wait)
        if args.json:
            print_json({"pool": name})
            return 0
        print(f"The thin pool {name} is ready, and empty. Activate it with vgchange -ay.")
        return 0
    with Store.setup(
        args.root,
        mode=args.mode,
        storage_options=options,
        engine=args.engine,
        progress=progress(args.quiet),
        wait=args.wait,
    ) as store:
        made = {
            "root": str(store.root),
            "mode": store.info().mode,
            "engine": store.engine,
            "warnings": store.warnings,
        }
    if not args.json:
        for warning in made["warnings"]:
            print(f"WARNING: {warning}")
        print(f"The store is ready in {made['root']}.")
    runtime = {"runtime": show_or_write(args)} if args.runtime else {}
    if args.json:
        print_json(made | runtime)
    return 0


def _options(args: argparse.Namespace) -> list[str]:
    """The flags as storage options, after those that were given as such."""
    options = list(args.storage_opt)
    options += [f"dm.directlvm_device={device}" for device in args.devices]
    for name, (option, _, _) in FLAGS.items():
        value = getattr(args, name)
        if value is not None:
            options.append(f"{option}={_WORDS.get(value, value)}")
    if args.force:
        options.append("dm.directlvm_device_force=true")
    if args.mode == "loop-lvm" and args.devices:
        raise UsageError(
            "loop-lvm uses no devices: it keeps the pool in two files",
            hint="lamella setup direct-lvm DEVICE... creates a volume group on them",
        )
    return options
