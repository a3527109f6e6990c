# SPDX-License-Identifier: Apache-2.0
"""Make the table of LVM2's settings from the installed LVM2, or compare it: names, types, versions, defaults.

``python -m scripts.lvm_settings`` compares and says what differs (exit code 1); ``--write`` writes the
table. Only facts are taken from what ``lvmconfig`` prints: the descriptions of the settings are ours, in
``settings_summaries.txt`` beside the table.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

from lamella.lvm.session.known_settings import COLUMNS, TABLE

FOLDER = "/nonexistent/lvm"
"""``LVM_SYSTEM_DIR`` while asking: stands as ``{etc}`` in the table."""
EVERYTHING = ("--showdeprecated", "--showunsupported")
TYPES = {
    "boolean": "bool",
    "integer": "int",
    "string": "string",
    "array with values of type: string": "strings",
    "array with values of type: integer string": "mixed",
}
REMARKS = {
    "is advanced": "a",
    "is not officially supported": "u",
    "has variable name": "v",
    "has an automatic default value": "d",
    "does not have a default value defined": "n",
}


@dataclass
class Entry:
    """One line of the table."""

    path: str
    type: str = "section"
    since: str = "-"
    deprecated: str = "-"
    flags: set[str] = field(default_factory=set)
    default: str = ""
    unconfigured: str = ""

    @property
    def line(self) -> str:
        flags = "".join(sorted(self.flags)) or "-"
        return "\t".join(
            (self.path, self.type, self.since, self.deprecated, flags, self.default, self.unconfigured)
        ).rstrip("\t")


def lvmconfig(*arguments: str) -> tuple[str, str]:
    """What the real one prints: standard output and standard error."""
    around = {**os.environ, "LVM_SYSTEM_DIR": FOLDER, "LVM_SUPPRESS_FD_WARNINGS": "1", "LC_ALL": "C"}
    done = subprocess.run(
        ["lvm", "lvmconfig", *arguments],
        capture_output=True,
        text=True,
        env=around,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    return done.stdout, done.stderr


def entries(text: str) -> dict[str, Entry]:
    """The sections and settings in the output of ``--withsummary --withversions``."""
    found: dict[str, Entry] = {}
    entry = Entry("")
    for raw in text.splitlines():
        line = raw.strip()
        if begin := re.fullmatch(r"# Configuration (section|option) (\S+)\.", line):
            entry = found.setdefault(begin[2], Entry(begin[2], "section" if begin[1] == "section" else "?"))
        elif remark := re.fullmatch(r"# This configuration (?:section|option) (.+)\.", line):
            entry.flags |= {REMARKS[remark[1]]} if remark[1] in REMARKS else set()
        elif version := re.fullmatch(r"# (Available|Deprecated) since version (\S+)\.", line):
            setattr(entry, "since" if version[1] == "Available" else "deprecated", version[2])
        elif value := re.fullmatch(rf"(?:# )?{re.escape(entry.path.rpartition('/')[2])}=(.*)", line):
            entry.default = value[1].replace(FOLDER, "{etc}")
    return found


def table() -> str:
    """The table of the installed LVM2."""
    shown = ("--withsummary", "--withversions", *EVERYTHING)
    found = entries(lvmconfig("--typeconfig", "default", *shown)[0])
    policies = entries(lvmconfig("--config", "allocation/cache_settings/x/y=1", *shown[:2])[0])
    unconfigured = entries(lvmconfig("--typeconfig", "default", "--unconfigured", *shown)[0])
    profilable = {
        kind: entries(lvmconfig("--typeconfig", f"profilable-{kind}", *shown)[0])
        for kind in ("command", "metadata")
    }
    ordered: dict[str, Entry] = {}
    for path, entry in found.items():
        ordered[path] = entry
        if path == "allocation/cache_settings":
            ordered |= {name: each for name, each in policies.items() if name.count("/") == 2}
    for path, entry in ordered.items():
        for kind, names in profilable.items():
            # A policy's settings may be where those of all policies may be.
            entry.flags |= {kind[0]} if path in names or path.partition("/<policy")[0] in names else set()
        other = unconfigured.get(path, entry).default
        entry.unconfigured = other if other != entry.default.replace("{etc}", FOLDER) else ""
        if entry.type != "section":
            _probe(entry)
    head = f"# Settings of LVM2 {version()}; made by scripts/lvm_settings.py. Columns: {' '.join(COLUMNS)}\n"
    return head + "".join(f"{entry.line}\n" for entry in ordered.values())


def _probe(entry: Entry) -> None:
    path = re.sub(r"<(\w+)>", r"\1", entry.path)
    said = lvmconfig("--validate", "--config", f"{path}=1.5")[1]
    expected = re.search(r"Found float but expected (.+)\.", said)
    entry.type = TYPES[expected[1]] if expected else "?"
    if entry.type in ("string", "strings", "mixed"):
        refused = "It cannot be set to an empty value" in lvmconfig("--validate", "--config", f'{path}=""')[1]
        entry.flags |= set() if refused else {"e"}


def version() -> str:
    """The version of the installed LVM2."""
    done = subprocess.run(
        ["lvm", "version"],
        capture_output=True,
        text=True,
        env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"},
    )
    return done.stdout.partition("LVM version:")[2].split("(")[0].strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table instead of comparing it")
    now = table()
    if parser.parse_args().write:
        TABLE.write_text(now, "utf-8")
        return 0
    before = TABLE.read_text("utf-8")
    differs = list(difflib.unified_diff(before.splitlines(), now.splitlines(), "table", "lvm", lineterm=""))
    print("\n".join(differs))
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
