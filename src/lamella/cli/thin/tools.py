# SPDX-License-Identifier: Apache-2.0
"""The thin tools, with the arguments, output and exit codes of thin-provisioning-tools.

Exit codes: 0 done, 1 failed or damage found, 2 wrong usage. Results go to standard output, everything else
to standard error.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from lamella.cli.process import discard_output
from lamella.errors import LamellaError
from lamella.remedies import hint_of

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = 1


def main(name: str, argv: Sequence[str]) -> int:
    """Run the thin tool *name* with *argv* (without the name); errors become one message and an exit code."""
    # numpy's linear algebra, which nothing here uses, would start a thread for each processor.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code: int = import_module(f"lamella.cli.thin.{name.removeprefix('thin_')}").run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        discard_output()
        return FAILED
    except LamellaError as error:
        print(error.message, file=sys.stderr)
        if hint := hint_of(error):
            print(f"  {hint}", file=sys.stderr)
        return FAILED
    except SystemExit as end:
        # argparse leaves so, after --help, --version and wrong usage.
        return end.code if isinstance(end.code, int) else FAILED
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"the system refused{where}: {error.strerror or error}", file=sys.stderr)
        return FAILED
    except MemoryError:
        print("not enough memory for metadata of this size", file=sys.stderr)
        return FAILED
