# SPDX-License-Identifier: Apache-2.0
"""Commands of a store that a daemon holds: they run inside it, and this process only waits for them.

Imports as little as can be: this is all that a command of such a store takes, besides Python itself.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (
    *("quickstart", "setup", "info", "check", "repair", "grow", "df", "map", "activate", "deactivate"),
    *("teardown", "pull", "load", "save", "images", "tag", "inspect", "history", "rmi", "prune", "create"),
    *("ps", "rename", "rm", "mount", "umount", "resize", "ls", "cat", "cp", "diff", "commit", "export"),
    *("snapshots", "__complete"),
)
"""What is carried out by a daemon, if there is one: all commands that open a store."""

_TAKES_VALUE = ("--root", "--engine", "--wait")
_RUN = "run"


def run(arguments: Sequence[str]) -> int | None:
    """The exit code of a command line that a daemon has carried out.

    None if it is none for a daemon, or the store has no daemon; nothing was done then. Raises
    :class:`lamella.errors.LamellaError` where the daemon refuses.
    """
    if command_of(arguments) not in COMMANDS or "--help" in arguments:
        return None
    root = _root(arguments) or os.environ.get("LAMELLA_ROOT") or _default_root()
    folder = os.path.join(root, _RUN)
    if not root or not os.path.exists(os.path.join(folder, "control.sock")):
        return None
    from lamella.services.control import client

    return client.run(folder, arguments)


def command_of(arguments: Sequence[str]) -> str:
    """The name of the command, behind the shared options; whether these are right is for the command."""
    skip = False
    for word in arguments:
        if skip:
            skip = False
        elif not word.startswith("-"):
            return word
        else:
            skip = word in _TAKES_VALUE
    return ""


def _root(arguments: Sequence[str]) -> str:
    """The value of the last ``--root``, or "". Everything that follows ``--`` is no option."""
    found = ""
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        if word == "--root":
            found = next(words, "")
        elif word.startswith("--root="):
            found = word.removeprefix("--root=")
    return found


def _default_root() -> str:
    """As :func:`lamella.store.default_root.default_root`, without its imports; "" without a home."""
    if os.geteuid() == 0:
        return "/var/lib/lamella"
    data = os.environ.get("XDG_DATA_HOME", "").strip() or os.path.expanduser("~/.local/share")
    return os.path.join(data, "lamella") if not data.startswith("~") else ""
