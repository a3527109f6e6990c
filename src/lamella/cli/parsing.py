# SPDX-License-Identifier: Apache-2.0
"""Arguments of Lamella's own commands: the shared options, and one command's parser at a time.

The reference, the man pages and the completion scripts are made from these parsers by ``scripts/reference``.
"""

from __future__ import annotations

import argparse
import importlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.arguments import Parser, closest
from lamella.cli.command_table import COMMANDS, DM_NAMES, LVM_NAMES, LVM_PROGRAM, THIN_TOOL_NAMES
from lamella.errors import LamellaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lamella.store import Store


def parse(before: Sequence[str], name: str, rest: Sequence[str]) -> argparse.Namespace:
    """Parse the command line of *name*; ``args.run(args)`` carries it out. Raises :class:`UsageError`.

    *before* are the shared options in front of the name, *rest* is what follows it.
    """
    if name not in COMMANDS:
        near = closest(name, [*COMMANDS, *DM_NAMES, *THIN_TOOL_NAMES, *LVM_NAMES, *LVM_PROGRAM])
        meant = f"did you mean '{near}'? " if near else ""
        raise UsageError(f"there is no command {name!r}", hint=f"{meant}'lamella --help' lists them all")
    parser = command_parser(name)
    if parser.get_default("quiet"):
        before = [word for word in before if word != "--quiet"]
    return parser.read(rest, before)


def command_parser(name: str) -> Parser:
    """The parser of one of Lamella's own commands, a key of ``COMMANDS``: all that its help shows."""
    command = COMMANDS[name]
    module = importlib.import_module(f"lamella.cli.commands.{command.module}")
    parser = Parser(
        prog=f"lamella {name}",
        description=module.__doc__.strip().split("\n\n")[0] if module.__doc__ else command.help,
        epilog=getattr(module, "EXAMPLE", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.configure(parser)
    _shared(parser)
    parser.set_defaults(run=module.run)
    return parser


def shared_options() -> Parser:
    """A parser of the options alone that all commands share, which may also stand before a command."""
    parser = Parser(prog="lamella", add_help=False)
    _shared(parser)
    return parser


def _shared(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("shared options")
    group.add_argument("--root", metavar="DIR", type=_folder, default=None, help="the store's folder")
    group.add_argument(
        "--engine",
        choices=("auto", "user", "kernel"),
        default="auto",
        help="the thin-pool engine: 'user' runs in this process, 'kernel' is device-mapper; 'auto' (default) "
        "takes $LAMELLA_ENGINE, else the engine given to setup, else the kernel's if it can be used",
    )
    group.add_argument(
        "--wait",
        metavar="SEC",
        type=seconds,
        default=_default_wait(),
        help="wait that long for another command to finish with the store (default $LAMELLA_WAIT, else 0)",
    )
    if "--quiet" in parser._option_string_actions:  # a list's own: only the IDs; it has no progress
        parser.set_defaults(quiet=True)
    else:
        group.add_argument("--quiet", action="store_true", help="show no progress")
    group.add_argument("--verbose", action="store_true", help="log on standard error what is decided")
    group.add_argument(
        "--debug",
        action="store_true",
        help="log each request to the kernel, to programs and to registries as well",
    )


def _folder(text: str) -> Path:
    if not text:  # an unset variable in a script; a store in the current folder is hardly meant
        raise argparse.ArgumentTypeError("the folder's name is empty")
    return Path(text)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def _default_wait() -> float:
    """``LAMELLA_WAIT`` in seconds, 0 where it is not set. Raises :class:`UsageError` if it is no number."""
    text = os.environ.get("LAMELLA_WAIT", "")
    try:
        return seconds(text) if text else 0.0
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"LAMELLA_WAIT: {error}", hint="set it to seconds, such as 60") from None


WITHOUT_NODES = "lamella ls, cat, cp and export reach the files without device-mapper"


def open_store(args: argparse.Namespace, *, read_only: bool = False) -> Store:
    """The store that the shared options name. Raises :class:`lamella.errors.NotFoundError` and others."""
    from lamella.store import Store

    store = _warning(Store.open(args.root, read_only=read_only, wait=args.wait, engine=args.engine))
    if read_only and store.mismatch and store.on_warning:
        store.on_warning(store.mismatch)
    return store


def _warning(store: Store) -> Store:
    """The store, whose warnings are printed when they come, and for which readers wait until it is closed."""
    from lamella.cli.output import print_warnings

    store.on_warning = lambda warning: print_warnings([warning])
    store.let_readers_wait()
    return store


@contextmanager
def open_with_kernel_engine(args: argparse.Namespace) -> Iterator[Store]:
    """The store with the kernel's engine, for what needs device nodes. Raises if that cannot be used.

    No error inside the block advises the user engine, with which there are no nodes.
    """
    from lamella.store import Store

    if args.engine == "user":
        raise UsageError(
            "the user-space engine has no device nodes",
            hint=f"leave out --engine user, and run it as root; {WITHOUT_NODES}",
        )
    try:
        with _warning(Store.open(args.root, wait=args.wait, engine="kernel")) as store:
            yield store
    except LamellaError as error:
        advice, user, _ = (error.hint or "").partition("use --engine user")
        if user:
            error.hint = f"{advice.removesuffix('or ').rstrip(' ;,') or 'run it on a kernel that can'}; "
            error.hint += WITHOUT_NODES
        raise


def open_or_set_up(args: argparse.Namespace, storage_options: Sequence[str] = ()) -> Store:
    """The store, created first where there is none, so that ``pull`` and ``load`` work without a set-up."""
    from lamella.store import Store

    if storage_options or not Store.exists(args.root):
        return _warning(
            Store.setup(args.root, storage_options=storage_options, engine=args.engine, wait=args.wait)
        )
    return open_store(args)


def short_id(identity: str) -> str:
    """The twelve characters of an ID that people type."""
    from lamella.store.names import bare_id

    return bare_id(identity)[:12]


def split_reference(name: str) -> tuple[str, str]:
    """Repository and tag of an image's name, as two columns; with a digest the tag is ``<none>``."""
    repository, at, _ = name.partition("@")
    if at:
        return repository, "<none>"
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "<none>")


def name_and_path(name: str, path: str | None = None, *, relative: bool = False) -> tuple[str, bytes]:
    """NAME and the path inside it, from ``NAME:PATH`` or two arguments.

    PATH begins with a slash, so that the tag of an image stays with its name. With *relative* it need not,
    as with ``docker cp``: without a slash it begins at the root, and the first colon ends the name.
    """
    if path is None:
        name, colon, tail = name.partition(":/")
        if relative and not colon:
            name, _, tail = name.partition(":")
        path = "/" + tail
    return name, path.encode("utf-8", "surrogateescape")


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json`` for commands that print data."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
