# SPDX-License-Identifier: Apache-2.0
"""The systemd unit that activates a store's pool after a boot."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEXT = """\
# Installed as /etc/systemd/system/lamella-activate.service; then: systemctl enable lamella-activate.service
[Unit]
Description=Activate the thin pool of Lamella's store in {root}
Documentation=man:lvmthin(7)
RequiresMountsFor={root}
# Loop devices and device-mapper; disks and the volume groups on them.
Wants=modprobe@loop.service modprobe@dm_mod.service
After=modprobe@loop.service modprobe@dm_mod.service
After=local-fs.target systemd-udev-settle.service lvm2-monitor.service
# Who runs containers starts after it, and stops before it.
Before=docker.service containerd.service
ConditionPathExists={root}/config.toml

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} --root {root} --wait 60 activate
ExecStop={program} --root {root} --wait 60 deactivate --all
TimeoutSec=5min

[Install]
WantedBy=multi-user.target
"""


def unit(program: Sequence[str], root: Path) -> str:
    """The unit's text for the store in *root*. *program* is how Lamella is started, in words."""
    first = program[0]
    found = shutil.which(first) if os.sep not in first else os.path.abspath(first)
    words = " ".join(_word(word) for word in [found or first, *program[1:]])
    return TEXT.format(program=words, root=_word(str(root)))


def _word(text: str) -> str:
    """A path as systemd's unit files take it: percent signs doubled, spaces escaped."""
    return text.replace("%", "%%").replace("\\", "\\\\").replace(" ", "\\x20")
