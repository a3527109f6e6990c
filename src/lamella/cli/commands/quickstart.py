# SPDX-License-Identifier: Apache-2.0
"""From nothing to containers on a thin pool: creates a store, unpacks a layered image, shows copy-on-write.

Without IMAGE nothing is fetched: a small layered image is made from this Python's own standard
library. Running it again keeps everything, also what is in its two containers.
"""

from __future__ import annotations

import io
import itertools
import shutil
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import clock
from lamella.cli.output import show_name
from lamella.cli.parsing import open_or_set_up, short_id
from lamella.cli.process import program as started_as
from lamella.cli.progress_line import progress
from lamella.errors import NotFoundError
from lamella.units import human_size

if TYPE_CHECKING:
    import argparse

    from lamella.store import Store

EXAMPLE = """\
example:
  lamella quickstart
  lamella quickstart debian:12
"""

CONTAINERS = ("quickstart-a", "quickstart-b")
NEXT = (
    ("ls -l {container}:/etc", "look around in a container"),
    ("info", "state and usage of the pool"),
    ("commit {container} mine:1", "create an image from the changes"),
    ("save -o mine.tar mine:1", "an archive that docker and skopeo read"),
    ("pull debian:12", "a real image"),
    ("check", "verify every checksum and reference count"),
    ("teardown --force", "remove all of it"),
)
ADDED = b"etc/changed-by-quickstart"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="pull this image instead of creating one")
    parser.add_argument("--insecure-registry", action="store_true", help="as for pull")
    parser.add_argument(
        "--storage-opt", metavar="KEY=VALUE", action="append", default=[], help="as for setup"
    )


def run(args: argparse.Namespace) -> int:
    if args.engine == "auto":
        args.engine = "user"  # a first look changes nothing on the machine
    with open_or_set_up(args, storage_options=args.storage_opt) as store:
        print(f"1. A store in {store.root}: a thin pool, with a formatted base device in it.")
        for warning in store.warnings:
            print(f"   WARNING: {warning}")
        _use(store)

        image = _unpack(store, args)
        _use(store)

        first, second = _names(store, image)
        print(f"3. Two containers, {first} and {second}: a snapshot each, which copies nothing.")
        _create(store, image, (first, second))
        _use(store)

        print(f"4. Changes in {first}: only the chunks that they write are copied.")
        _change(store, first)
        for change in store.diff(first):
            print(f"     {change.kind} /{show_name(change.path)}")
        changes = len(store.diff(second))
        print(f"   {second} {'has' if changes else 'is unchanged:'} {changes} changes.")
        _use(store)

    program = started_as() if shutil.which("lamella") is None else "lamella"
    program += f" --root {args.root}" if args.root else ""
    print("\nWhat to try next:")
    for command, meaning in NEXT:
        print(f"  {program} {command.format(container=first):<30} {meaning}")
    return 0


def _unpack(store: Store, args: argparse.Namespace) -> str:
    if args.image:
        image = store.pull(
            args.image, insecure_registry=args.insecure_registry, progress=progress(args.quiet)
        )
    else:
        from lamella.images.sample import write_sample

        with tempfile.TemporaryDirectory(prefix="lamella-") as folder:
            archive = Path(folder) / "sample.tar"
            write_sample(archive)
            image = store.load(archive, progress=progress(args.quiet))[0]
    name = image.references[0] if image.references else short_id(image.id)
    print(
        f"2. The image {name}: {image.layers} layers, {human_size(image.size)}, each layer a snapshot\n"
        "   of the one below, with that layer's changes applied."
    )
    return image.references[0] if image.references else image.id


def _names(store: Store, image: str) -> tuple[str, str]:
    """The names of the two containers of *image*; with a number, where one of another image has the name."""
    identity = store.inspect(image)["Id"]
    existing = {container.name: container.image_id for container in store.containers()}
    for number in itertools.count(1):
        first, second = (f"{name}{number}" if number > 1 else name for name in CONTAINERS)
        if all(existing.get(name, identity) == identity for name in (first, second)):
            return first, second
    raise AssertionError("numbers do not end")


def _create(store: Store, image: str, names: tuple[str, str]) -> None:
    """Create those that are missing; what a user has in the others stays there."""
    existing = {container.name for container in store.containers()}
    for name in names:
        if name in existing:
            print(f"   {name} exists already, and is kept as it is.")
        else:
            store.create(image, name=name)


def _change(store: Store, container: str) -> None:
    """Add a file, as ``cp`` would, unless the container has it."""
    with store.tree(container) as tree, suppress(NotFoundError):
        tree.stat(b"/" + ADDED)
        return
    content = b"Only this container has this file.\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(ADDED.decode())
        member.size, member.mode, member.mtime = len(content), 0o644, int(clock.now())
        tar.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    store.copy_in(container, buffer, b"/")


def _use(store: Store) -> None:
    info = store.info()
    print(
        f"   pool: {human_size(info.data_used)} of {human_size(info.data_total)} data, "
        f"{human_size(info.metadata_used)} of {human_size(info.metadata_total)} metadata used"
    )
