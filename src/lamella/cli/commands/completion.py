# SPDX-License-Identifier: Apache-2.0
"""Print the completion script of a shell: for commands, options, and names of containers and images.

An installation below /usr or /usr/local has the scripts where shells look for them. With pipx or a virtual
environment, put the line of the example into the shell's start-up file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example:
  source <(lamella completion bash)     # in ~/.bashrc
  source <(lamella completion zsh)      # in ~/.zshrc, after compinit
  lamella completion fish | source      # in ~/.config/fish/config.fish
"""

FOLDER = Path(__file__).parents[1] / "completion"
SCRIPTS = {"bash": "lamella.bash", "zsh": "_lamella", "fish": "lamella.fish"}
"""Per shell the file in :data:`FOLDER` that holds its script."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(SCRIPTS), help="the shell that is to read it")


def run(args: argparse.Namespace) -> int:
    print((FOLDER / SCRIPTS[args.shell]).read_text("utf-8"), end="")
    return 0
