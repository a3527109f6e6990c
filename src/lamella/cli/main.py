# SPDX-License-Identifier: Apache-2.0
"""The entry point: finds the command, runs it, and reports errors as one message and an exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys

from lamella._version import __version__
from lamella.cli.command_line import split_command
from lamella.cli.command_table import (
    COMMANDS,
    DM,
    DM_NAMES,
    LVM,
    LVM_NAMES,
    LVM_PROGRAM,
    THIN_TOOL_NAMES,
    THIN_TOOLS,
)
from lamella.cli.process import Terminated, discard_output, prepare
from lamella.errors import LamellaError, MissingError

INTERNAL_ERROR = 70
BROKEN_PIPE = 141


def main(argv: list[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code.

    Started under the bare name of a tool that it replaces (``thin_check``, ``lvs``), the program
    is that tool.
    """
    arguments = sys.argv[1:] if argv is None else argv
    lvm_alone = False
    try:
        if argv is None:
            prepare()
            bare = os.path.basename(sys.argv[0])
            if any(bare in names for names in (THIN_TOOL_NAMES, LVM_NAMES, LVM_PROGRAM, DM_NAMES)):
                arguments = [bare, *arguments]
        before, command, rest = split_command(arguments)
        lvm_alone = argv is None and (command in LVM_NAMES or command in LVM_PROGRAM)
        if lvm_alone:
            gc.disable()  # a short-lived process with many small objects and hardly any cycles
        try:
            code = _dispatch(before, command, rest)
        finally:
            sys.stdout.flush()  # even after --help, which leaves with SystemExit
        if lvm_alone:
            # Everything is written and closed; freeing thousands of objects would only cost time.
            sys.stderr.flush()
            os._exit(code)
        return code
    except BaseException as error:
        return report(error)


def report(error: BaseException) -> int:
    """Say on standard error what went wrong; the exit code. Raises *error* again if it is none to report."""
    if isinstance(error, LamellaError):
        _explain(error)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Terminated) else signal.SIGINT
        what = "terminated" if isinstance(error, Terminated) else "interrupted"
        _say(f"lamella: {what}; the interrupted operation was rolled back")
        return 128 + number
    if isinstance(error, BrokenPipeError):
        discard_output()
        return BROKEN_PIPE
    if isinstance(error, OSError):
        from lamella.block.system import explain

        explained = explain(error, "use", str(error.filename or "an open file"))
        _explain(explained)
        return explained.exit_code
    if isinstance(error, MemoryError):
        _explain(LamellaError("there is not enough memory", hint="free some, or raise the limit (ulimit -v)"))
        return LamellaError.exit_code
    if not isinstance(error, Exception) or os.environ.get("LAMELLA_DEBUG"):
        raise error
    if isinstance(error, ImportError):
        missing = MissingError(
            f"a part of Lamella cannot be loaded: {error}",
            hint="reinstall Lamella with its dependencies; `ulimit -v` may also leave too little memory",
        )
        _explain(missing)
        return missing.exit_code
    _say(
        f"lamella: internal error: {type(error).__name__}: {error}\n"
        "  This is a bug in Lamella. Run again with LAMELLA_DEBUG=1 and report the output."
    )
    return INTERNAL_ERROR


def _dispatch(before: list[str], command: str, rest: list[str]) -> int:
    if os.environ.get("LAMELLA_LOG"):
        from lamella.cli.log_output import configure

        configure()
    if command in THIN_TOOL_NAMES:
        from lamella.cli.thin import tools

        return tools.main(command, [*before, *rest])
    if command in LVM_NAMES:
        from lamella.cli.lvm import main_lvm

        return main_lvm(command, [*before, *rest])
    if command in LVM_PROGRAM:
        from lamella.cli.lvm import main_program

        return main_program([*rest[:1], *before, *rest[1:]])
    if command in DM_NAMES:
        from lamella.cli.dmsetup import main_dmsetup

        return main_dmsetup([*before, *rest])
    if command == "__complete":
        from lamella.cli.completion import main_complete

        return main_complete(rest)
    if command in ("--version", "-V"):
        print(f"lamella {__version__}")
        return 0
    if command in ("", "-h", "--help", "help"):
        if rest and rest[0] != "help" and not rest[0].startswith("-"):
            return _dispatch([], rest[0], ["--help"])
        print(_overview())
        return 0
    from lamella.cli.parsing import parse

    args = parse(before, command, rest)
    if args.verbose or args.debug:
        from lamella.cli.log_output import configure

        configure(verbose=args.verbose, debug=args.debug)
    code: int = args.run(args)
    return code


def _overview() -> str:
    lines = [
        "usage: lamella [--root DIR] COMMAND [ARGUMENT...]",
        "",
        "Thin-provisioned, copy-on-write block storage for container images and containers.",
        "New here? Run:  lamella quickstart",
    ]
    families: dict[str, list[tuple[str, str]]] = {}
    for name, command in COMMANDS.items():
        families.setdefault(command.family, []).append((name, command.help))
    if LVM_NAMES:
        families[LVM] = [*LVM_NAMES.items(), *LVM_PROGRAM.items()]
    families[DM] = list(DM_NAMES.items())
    families[THIN_TOOLS] = list(THIN_TOOL_NAMES.items())
    for family, members in families.items():
        lines += ["", f"{family}:"]
        lines += [f"  {name:<12} {text}" for name, text in members]
    lines += [
        "",
        "options, before or after the command:",
        "  --root DIR   the store's folder (default: $LAMELLA_ROOT, else /var/lib/lamella for root,",
        "               else the user's data folder)",
        "  --wait SEC   wait that long for another command to finish with the store (default 0)",
        "  --quiet      show no progress",
        "  --verbose    log on standard error what is decided",
        "  --debug      log each request to the kernel, to programs and to registries as well",
        "  --version    print the version",
        "",
        "'lamella COMMAND --help' explains a command, with an example.",
        "LAMELLA_LOG=LEVEL or LEVEL:FILE logs what any of these commands does (docs/reference/logging.md).",
    ]
    return "\n".join(lines)


def _explain(error: LamellaError) -> None:
    from lamella.remedies import hint_of

    bold, red, plain = ("\x1b[1m", "\x1b[31m", "\x1b[0m") if _coloured() else ("", "", "")
    hint = hint_of(error)
    _say(f"{bold}lamella: {red}error:{plain} {error.message}" + (f"\n  {hint}" if hint else ""))


def _say(text: str) -> None:
    lines = sys.modules.get("lamella.cli.progress_line")
    try:
        if lines is not None:
            lines.leave()
        print(text, file=sys.stderr)
    except OSError:  # nobody reads it any more; the exit code still says that it failed
        discard_output()


def _coloured() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


if __name__ == "__main__":
    sys.exit(main())
