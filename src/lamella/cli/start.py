# SPDX-License-Identifier: Apache-2.0
"""The program's first lines: what an interrupt does before the command is loaded, and once it is done.

Python would end with a traceback there. There is nothing to roll back yet or any more, so the signal's own
action ends the process, as it would any program. This module imports little for that reason.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without the enums that signal adds
import os
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in the background
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> int:
    """Run the command line of the process; see :func:`lamella.cli.main.main`."""
    _run_in_daemon()
    from lamella.cli.main import main as run

    try:
        return run()
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run_in_daemon() -> None:
    """Let the store's daemon carry out the command, if it has one; the process ends with it then."""
    from lamella.cli import hosted

    try:
        code = hosted.run(sys.argv[1:])
    except Exception as error:
        from lamella.cli.main import report

        code = report(error)
    if code is not None:
        # Nothing is held that would be written: the command itself wrote to this process's descriptors.
        os._exit(code)
