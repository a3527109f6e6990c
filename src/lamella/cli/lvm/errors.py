# SPDX-License-Identifier: Apache-2.0
"""Errors that end one of LVM2's commands, with LVM2's exit codes."""

from __future__ import annotations

from lamella.errors import LamellaError, UsageError


class BadCommand(UsageError):
    """The options contradict each other. Exit code 3; LVM2 then points at ``--help``."""

    exit_code = 3


class Failed(LamellaError):
    """The command failed and has said why already. Exit code 5."""

    exit_code = 5

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class Unusable(Failed):
    """A group cannot be used, or not be changed. LVM2 then has no physical volumes of it either."""


def other_kind(full: str, kind: str) -> Failed:
    """The error for a command that does not take volumes of this *kind*; *full* is ``VG/LV``."""
    return Failed(
        f"Command on LV {full} does not accept LV type {kind}.\nCommand not permitted on LV {full}."
    )


class BadFiles(Failed):
    """``lvm.conf`` cannot be used. Exit code 4."""

    exit_code = 4
