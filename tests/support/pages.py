# SPDX-License-Identifier: Apache-2.0
"""Pages of the documentation that show a terminal: commands after ``$``, and below each what it prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
MASKS = (
    (r"\w{6}(-\w{4}){5}-\w{6}", "UUID"),
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "ID"),
    (r"lamella [\d.]+ \(user", "lamella VERSION (user"),
    (r"transaction \d+|TRANSACTION_ID=\d+", "transaction N"),
    (r"[ \t]+", " "),
)
"""What differs from run to run, and what stands for it when outputs are compared."""
MARK = "=== next ==="


def commands(text: str) -> list[tuple[str, str]]:
    """Each command of a page, and the output that stands below it."""
    found = []
    for block in BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def shell_script(steps: Iterable[str]) -> str:
    """A script that runs all *steps* in one shell; :func:`outputs_of` takes its output apart."""
    return "".join(f"{step}\necho '{MARK}'\n" for step in steps)


def outputs_of(said: str) -> list[str]:
    """What each step of a :func:`shell_script` printed."""
    return said.split(f"{MARK}\n")[:-1]


def masked(text: str, more: Sequence[tuple[str, str]] = ()) -> str:
    """The text without what differs from run to run, and without empty lines and indents."""
    for pattern, instead in (*MASKS, *more):
        text = re.sub(pattern, instead, text)
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def fill_in(page: Path, outputs: Iterable[str]) -> None:
    """Write *outputs* into the page, below their commands."""
    left = iter(outputs)

    def filled(match: re.Match[str]) -> str:
        lines = []
        for command, _ in commands(match[0]):
            lines.append(f"$ {command}\n")
            lines += [line.rstrip() + "\n" for line in next(left).splitlines()]
        return "```console\n" + "".join(lines) + "```"

    page.write_text(BLOCK.sub(filled, page.read_text()))
