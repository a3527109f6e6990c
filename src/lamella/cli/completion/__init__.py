# SPDX-License-Identifier: Apache-2.0
"""Completion in shells: their scripts, and the hidden command ``__complete`` that the scripts call.

A script passes the words up to the cursor and reads lines: a candidate, or a candidate, a tab and its
description. A line ``:files`` or ``:folders`` tells the shell to add names of files or folders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main_complete(words: Sequence[str]) -> int:
    """Print the candidates for the last of *words*; nothing if anything fails.

    A shell that completes has nowhere to show an error, and the command itself will report it.
    """
    try:
        from lamella.cli.completion.candidates import candidates

        print("\n".join("\t".join(filter(None, one)) for one in candidates(words)))
    except (Exception, SystemExit):
        return 1
    return 0
