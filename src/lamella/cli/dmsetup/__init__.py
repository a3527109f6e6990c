# SPDX-License-Identifier: Apache-2.0
"""``dmsetup``'s reporting commands, and ``mknodes``, with its options, output and exit codes.

They report the kernel's devices or, for a store with the user-space engine, emulated ones. Exit codes are
dmsetup's: 0 and 1.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.errors import LamellaError
from lamella.remedies import hint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.cli.dmsetup.backend import Source
    from lamella.cli.dmsetup.options import Options

FAILED = 1


def main_dmsetup(argv: Sequence[str]) -> int:
    """Run ``dmsetup`` with its arguments (without the name) and return its exit code."""
    from lamella.cli.dmsetup.backend import FailedError, source
    from lamella.cli.dmsetup.options import OptionError, parse
    from lamella.cli.dmsetup.usage import usage

    try:
        options = parse(argv)
        if options.verbosity > 1:  # a single one has a meaning of its own in the commands
            from lamella.cli.log_output import configure

            configure(verbose=True, debug=options.verbosity > 2)
        command = "version" if options.version else options.command
        if options.help or command == "help":
            usage(sys.stderr)
            return 0
        run = _find(command)
        if run is None:
            if command:
                sys.stderr.write("Unknown command.\n")
            usage(sys.stderr)
            return FAILED
        if options.names and command in WITHOUT_NAMES:
            sys.stderr.write("Incorrect number of arguments.\n")
            usage(sys.stderr)
            return FAILED
        with source(options) as devices:
            run(devices, options)
        sys.stdout.flush()
    except OptionError as error:
        sys.stderr.write(f"{error.message}\nCouldn't process command line.\n")
        return FAILED
    except FailedError as error:
        sys.stdout.flush()
        sys.stderr.write(f"{error.message}\n{error.ending}")
        return FAILED
    except LamellaError as error:
        sys.stdout.flush()
        hint = hint_of(error)
        next_step = f"  {hint}\n" if hint else ""
        sys.stderr.write(f"{error.message}\n{next_step}Command failed.\n")
        return FAILED
    return 0


WITHOUT_NAMES = ("ls", "targets", "version")


def _find(command: str) -> Callable[[Source, Options], None] | None:
    if command == "info":
        from lamella.cli.dmsetup.info import info

        return info
    if command not in ("table", "status", "ls", "deps", "mknodes", "targets", "version"):
        return None
    from lamella.cli.dmsetup import commands

    found: Callable[[Source, Options], None] = getattr(commands, command)
    return found
