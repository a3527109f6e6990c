# SPDX-License-Identifier: Apache-2.0
"""Programs of the system, run to their end; each run is logged with its arguments and its exit code."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

from lamella import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logs.logger(__name__)


def run(words: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """:func:`subprocess.run`, with its *options* and its errors; an exit code is never one of these.

    What the program reads and writes is not logged: with credential helpers these are secrets. No secret may
    be among its arguments, which every user of the machine can read anyway.
    """
    log.debug("run: %s", shlex.join(words))
    # The environment of the command that asks, also in a daemon, whose own the program would get otherwise;
    # and nobody's input but what is meant for it.
    options.setdefault("env", os.environ.copy())
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    try:
        done = subprocess.run(words, check=False, **options)
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("%s: %s", words[0], error)
        raise
    log.debug("%s: exit code %d", words[0], done.returncode)
    return done
