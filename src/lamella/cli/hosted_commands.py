# SPDX-License-Identifier: Apache-2.0
"""The command line as the daemon runs it for its clients: one command in one thread."""

from __future__ import annotations

import signal
import sys

from lamella.cli import log_output
from lamella.cli.main import main
from lamella.cli.process import PROGRAM, Terminated


class HostedCommands:
    """What :class:`lamella.services.control.service.ControlService` carries commands out with."""

    def run(self, program: str, arguments: list[str]) -> int:
        """Carry out a command line as the program would; its exit code."""
        PROGRAM.set(program)
        log_output.SCOPE.set(object())
        try:
            return main(arguments)
        except SystemExit as error:  # argparse's --help
            if error.code is None or isinstance(error.code, int):
                return error.code or 0
            print(error.code, file=sys.stderr)
            return 1
        finally:
            log_output.end_of_command()

    def interruption(self, number: int) -> type[BaseException]:
        """The exception that the signal *number* raises in a command that runs alone."""
        return KeyboardInterrupt if number == signal.SIGINT else _KINDS[number]


def _terminated_by(number: int) -> type[Terminated]:
    class TerminatedBy(Terminated):
        """Raised by its class alone, as from another thread."""

        def __init__(self) -> None:
            super().__init__(number)

    return TerminatedBy


_KINDS: dict[int, type[Terminated]] = {
    int(number): _terminated_by(number) for number in (signal.SIGTERM, signal.SIGHUP)
}
