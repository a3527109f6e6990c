# SPDX-License-Identifier: Apache-2.0
"""The program's first lines: what an interrupt does before the command is loaded, and once it is done.

Python would end with a traceback there. There is nothing to roll back yet or any more, so the signal's own
action ends the process, as it would any program. This module imports little for that reason.
"""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in the background
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> int:
    """Run the command line of the process; see :func:`lamella.cli.main.main`."""
    from lamella.cli.main import main as run

    try:
        return run()
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
