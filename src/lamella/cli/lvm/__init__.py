# SPDX-License-Identifier: Apache-2.0
"""LVM2's commands under their own names, with LVM2's options, output and exit codes.

Exit codes are LVM2's: 0, 3 for an invalid command line, 5 for a failure.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING

from lamella.cli.lvm.syntax.commands import COMMANDS
from lamella.cli.lvm.syntax.grammar import PARTIAL
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.syntax.parse import Arguments

FAILED = 5


def main_program(arguments: Sequence[str]) -> int:
    """``lvm COMMAND``: the commands under LVM2's own program, with those that have no other name."""
    from lamella.cli.lvm.syntax.usage import command_list

    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command in ("--version", "-V"):
        return main_lvm("version", rest)
    if command in ("help", "-h", "--help"):
        names = [name for name in rest if not name.startswith("-")]
        if not names:
            sys.stdout.write(command_list())
            return 0
        return max(main_lvm(name, ["--help"]) for name in names)
    if command not in COMMANDS:
        reason = "No such command." if command else "No command was given, and there is no shell."
        sys.stderr.write(f"  {reason}  Try 'lvm help'.\n")
        return 2
    return main_lvm(command, rest)


def main_lvm(command: str, argv: Sequence[str]) -> int:
    """Run LVM2's *command* with its arguments and return its exit code."""
    from lamella.cli.lvm.syntax.grammar import find_command
    from lamella.cli.lvm.syntax.parse import ArgumentFault, parse

    known = find_command(command) if command in COMMANDS else None
    if known is None:
        sys.stderr.write(f"  No such command: {command}.\n")
        return 2
    if command == "version" and not {"-h", "--help", "--longhelp"} & set(argv):
        argv = ["--version"]  # as LVM2, which does not look at anything else then
    try:
        args = parse(known, argv)
    except ArgumentFault as fault:
        if code := _report_files():
            return code
        sys.stderr.write("".join(f"{line}\n" for line in fault.lines))
        sys.stdout.write("".join(f"{line}\n" for line in fault.usage))
        return fault.exit_code
    if args.has("version"):
        from lamella.cli.lvm.lists import print_version

        code = _report_files()
        if not code:
            print_version()
        return code
    if any(args.has(name) for name in ("help", "help2", "longhelp")):
        if code := _report_files():
            return code
        from lamella.cli.lvm.syntax.usage import full_usage

        sys.stdout.write(full_usage(known, long=args.has("longhelp")))
        return 0
    with ExitStack() as held:
        return _run(command, args, argv, held)


def _run(command: str, args: Arguments, argv: Sequence[str], held: ExitStack) -> int:
    from lamella.cli.lvm.console import INDENT, Prefixed
    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.errors import BadCommand, Failed
    from lamella.cli.lvm.syntax.parse import ArgumentFault

    context: Context | None = None
    try:
        _log(args.count("verbose"), args.count("debug"))
        context = Context(command, args, argv)
        prefix = context.config.text("log/prefix")
        if prefix != INDENT:
            held.enter_context(redirect_stdout(Prefixed(sys.stdout, prefix)))
            held.enter_context(redirect_stderr(Prefixed(sys.stderr, prefix)))
        _ = context.environment  # says first what is wrong with the system ID
        if context.test:
            context.console.warn(
                "TEST MODE: Metadata will NOT be updated and volumes will not be (de)activated."
            )
        mode = args.text("activationmode") or context.config.text("activation/activation_mode")
        if mode == "partial" or (args.has("partial") and PARTIAL not in args.command.unlisted):
            context.console.warn("PARTIAL MODE. Incomplete logical volumes will be processed.")
        if args.text("activationmode", "degraded") not in ("partial", "degraded", "complete"):
            raise BadCommand("Invalid activation mode given.")
        module = import_module(f"lamella.cli.lvm.{COMMANDS[command]}")
        run: Callable[[Context], None] = getattr(module, command)
        failure = _process(context, run)
        context.output.finish()
        sys.stdout.flush()
        _end(context, held)
        if failure:
            return failure
    except ArgumentFault as fault:
        sys.stderr.write("".join(f"{line}\n" for line in fault.lines))
        return fault.exit_code
    except BadCommand as error:
        _say(error)
        _end(context, held)
        sys.stderr.write(f"  Run `{command} --help' for more information.\n")
        return error.exit_code
    except LamellaError as error:
        _say(error)
        _end(context, held)
        return error.exit_code if isinstance(error, Failed) else FAILED
    finally:
        if context is not None:
            context.close()
    return FAILED if context.console.failures else 0


def _process(context: Context, run: Callable[[Context], None]) -> int:
    """Run the command, its messages going to the command log if there is one. The exit code if it fails."""
    from lamella.cli.lvm.errors import BadCommand, Failed
    from lamella.cli.lvm.syntax.parse import ArgumentFault

    context.output.begin()
    try:
        run(context)
    except (BadCommand, ArgumentFault):
        raise
    except LamellaError as error:
        if context.console.log is None:
            _say(error)
        else:
            context.console.log.add_error(error)
        return error.exit_code if isinstance(error, Failed) else FAILED
    return 0


def _end(context: Context | None, held: ExitStack) -> None:
    """What LVM2 says once it has gone back to the settings of the files, and to their prefix."""
    held.close()
    if context is not None:
        context.end()


def _report_files() -> int:
    """Say what is wrong with ``lvm.conf``; LVM2 reads it before the command line. The exit code, or 0."""
    from lamella.cli.lvm.settings import read_and_report

    try:
        read_and_report()
    except LamellaError as error:
        _say(error)
        return error.exit_code
    return 0


def _log(verbose: int, debug: int) -> None:
    """As in LVM2, ``-v`` up to four times says more on standard error, and ``-d`` more in the log file."""
    if verbose > 1 or debug:
        from lamella.cli.log_output import configure

        configure(verbose=verbose > 1, debug=verbose > 2, debug_file=debug > 0)


def _say(error: LamellaError) -> None:
    from lamella.cli.lvm.console import error_lines

    sys.stdout.flush()
    sys.stderr.write("".join(f"  {line}\n" for line in error_lines(error)))
