# SPDX-License-Identifier: Apache-2.0
"""The systemd unit that activates a store's pool after a boot."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from lamella.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEXT = """\
# Installed as /etc/systemd/system/lamella-activate.service; then: systemctl enable lamella-activate.service
[Unit]
Description=Activate the thin pool of Lamella's store in {raw}
Documentation=man:lvmthin(7)
RequiresMountsFor={root}
# Loop devices and device-mapper; disks and the volume groups on them.
Wants=modprobe@loop.service modprobe@dm_mod.service
After=modprobe@loop.service modprobe@dm_mod.service
After=local-fs.target systemd-udev-settle.service lvm2-monitor.service
# Container services start after it and stop before it.
Before=docker.service containerd.service
ConditionPathExists={raw}/config.toml

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} --root {argument} --wait 60 activate
ExecStop={program} --root {argument} --wait 60 deactivate --all
TimeoutSec=5min

[Install]
WantedBy=multi-user.target
"""


def unit(program: Sequence[str], root: Path) -> str:
    """The unit's text for the store in *root*. *program* is the command line that starts Lamella."""
    first = program[0]
    found = shutil.which(first) if os.sep not in first else os.path.abspath(first)
    words = [found or first, *program[1:]]
    for text in (*words, str(root)):
        if not text.isprintable():
            raise UsageError(
                f"{text!r} cannot be written in a systemd unit", hint="give the folder another name"
            )
    return TEXT.format(
        program=" ".join(map(_argument, words)),
        raw=str(root).replace("%", "%%"),
        root=_word(str(root)),
        argument=_argument(str(root)),
    )


def _argument(text: str) -> str:
    """A word of a command line, in which systemd replaces variables too."""
    return _word(text.replace("$", "$$"))


def _word(text: str) -> str:
    """One of several words in a line: per cent signs doubled, quoted where needed.

    The value of a line that takes one word only, as of a condition, must not be quoted.
    """
    text = text.replace("%", "%%")
    if not any(character in text for character in " '\"\\"):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
