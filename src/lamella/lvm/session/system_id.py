# SPDX-License-Identifier: Apache-2.0
"""System IDs: which host may use a volume group, by ``global/system_id_source`` and lvmsystemid(7)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamella.lvm.session.config import Config

MACHINE_ID = Path("/etc/machine-id")
APPLICATION_ID = bytes.fromhex("f64406832c2140e8ac5422d1089aae03")
"""What LVM2 derives ``appmachineid`` with (sd_id128_get_machine_app_specific(3))."""
LENGTH = 127
"""Characters that a system ID has at most."""
UNSAFE = "WARNING: A VG without a system ID allows unsafe access from other hosts."

_LEADING = re.compile(r"^[^A-Za-z0-9]+")
_FORBIDDEN = re.compile(r"[^A-Za-z0-9._+-]")


class BadSystemIdError(ValueError):
    """A text that makes no system ID. Its message is LVM2's warning."""


def clean_system_id(text: str) -> str:
    """The system ID that LVM2 makes of *text*: other characters are left out. Raises
    :class:`BadSystemIdError`.
    """
    found = _FORBIDDEN.sub("", _LEADING.sub("", text))[:LENGTH]
    if found.startswith("localhost"):
        raise BadSystemIdError('WARNING: system ID may not begin with the string "localhost".')
    return found


def local_system_id(config: Config) -> tuple[str, list[str]]:
    """This host's system ID, "" for none, and LVM2's warnings about the settings."""
    source = config.text("global/system_id_source")
    warnings: list[str] = []
    if source != "lvmlocal" and config.text("local/system_id"):
        should = 'so should global/system_id_source be "lvmlocal"'
        warnings.append(f'WARNING: local/system_id is set, {should} not "{source}"?')
    match source:
        case "none":
            return "", warnings
        case "lvmlocal":
            text = config.text("local/system_id")
        case "uname":
            text = os.uname().nodename
        case "machineid":
            text = _first_line(MACHINE_ID, warnings)
        case "appmachineid":
            text = _of_application(_first_line(MACHINE_ID, warnings))
        case "file":
            named = config.text("global/system_id_file")
            text = _first_line(Path(named), warnings) if named else ""
        case _:
            warnings.append(f'WARNING: Unrecognised system_id_source "{source}".')
            text = ""
    try:
        found = clean_system_id(text)
    except BadSystemIdError as error:
        warnings.append(str(error))
        found = ""
    if not found:
        warnings.append(f"WARNING: No system ID found from system_id_source {source}.")
    return found, warnings


def _first_line(path: Path, warnings: list[str]) -> str:
    """The first line of a file that is neither empty nor a comment."""
    try:
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        warnings.append(f"WARNING: {path}: fopen failed: {error.strerror}")
        return ""
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if lines[1:]:
        warnings.append(f"WARNING: Ignoring extra line(s) in system ID file {path}.")
    return lines[0] if lines else ""


def _of_application(machine: str) -> str:
    """The machine's ID hashed with LVM2's, as a random UUID (systemd's sd-id128)."""
    import hashlib
    import hmac

    try:
        key = bytes.fromhex(machine)
    except ValueError:
        return ""
    if not key:
        return ""
    made = bytearray(hmac.new(key, APPLICATION_ID, hashlib.sha256).digest()[:16])
    made[6] = made[6] & 0x0F | 0x40
    made[8] = made[8] & 0x3F | 0x80
    return made.hex()
