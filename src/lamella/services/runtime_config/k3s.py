# SPDX-License-Identifier: Apache-2.0
"""k3s: a template of its containerd's configuration, and the name of the snapshotter in its own.

k3s makes containerd's file from a template at each start: its own one, which it calls "base", or the file
``config-v3.toml.tmpl`` (``config.toml.tmpl`` for containerd 1.7 and before) beside the result. The base
template takes the name of the snapshotter from k3s' own configuration; k3s checks the names that it knows,
and leaves others to containerd (k3s, ``pkg/agent/templates`` and ``pkg/agent/config``).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.services.runtime_config.containerd import START, differ, proxy_plugin, unpacking
from lamella.services.runtime_config.model import SNAPSHOTTER, Facts, File, Plan, refuse
from lamella.services.runtime_config.toml_text import Settings, merge, parse

if TYPE_CHECKING:
    from lamella.services.runtime_config.model import Reader

CONFIG = Path("/etc/rancher/k3s/config.yaml")
FOLDER = Path("/var/lib/rancher/k3s/agent/etc/containerd")
NEW, OLD, MADE = "config-v3.toml.tmpl", "config.toml.tmpl", "config.toml"

BASE = '{{ template "base" . }}\n'
_ACTION = re.compile(r"^(?P<line>[^\S\n]*\{\{.*\}\}[^\S\n]*)$", re.MULTILINE)
_KEY = re.compile(
    r"""^(["']?)snapshotter\1\s*:[^\S\n]*(?P<value>[^\n#]*?)(?P<end>[^\S\n]+#[^\n]*)?$""", re.MULTILINE
)
_MARK = "#lamella-keeps-template-line:"


def for_k3s(path: Path, facts: Facts, read: Reader, config: Path = CONFIG) -> Plan:
    """*path* is the template, or the folder that it is in."""
    template = path if path.name.endswith(".tmpl") else _template_in(path, read)
    before = read(template)
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found["line"])
        return f"{_MARK}{len(kept) - 1}"

    start = before if before is not None and before.strip() else BASE
    without = _ACTION.sub(keep, start)
    parsed = parse(template, without)
    tables = proxy_plugin(facts) | (differ(facts, parsed) if template.name == NEW else {})
    settings = Settings(tables, unpacking(parsed))
    merged = merge(template, without, settings)
    after = re.sub(rf"{_MARK}(\d+)", lambda found: kept[int(found[1])], merged)
    text = read(config)
    line = f"snapshotter: {SNAPSHOTTER}\n"
    return Plan(
        (
            File(template, f"{BASE}\n{settings.text()}", before, after),
            File(config, line, text, _with_snapshotter(config, text or "")),
        ),
        (
            "k3s unpacks its images again for the new snapshotter, and starts its pods anew; what the old "
            "one has stays until k3s removes it",
        ),
        (START, "systemctl restart k3s (or k3s-agent)", "k3s crictl info | grep -i snapshotter"),
    )


def _template_in(folder: Path, read: Reader) -> Path:
    """The template that this k3s reads: by the one that is there, else by what it made at its last start."""
    for name in (NEW, OLD):
        if read(folder / name) is not None:
            return folder / name
    try:
        version = tomllib.loads(read(folder / MADE) or "").get("version", 3)
    except (ValueError, RecursionError):
        version = 3
    return folder / (NEW if version == 3 else OLD)


def _with_snapshotter(path: Path, text: str) -> str:
    """*text*, a YAML mapping in block style, with the key. It is a scalar at the top: one line."""
    content = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    documents = [line for line in content if re.match(r"(---|\.\.\.)(\s|$)", line)]
    if len(documents) > 1 or (documents and content[0] != documents[0]):
        raise refuse(path, "it has more than one document")
    rest = [line for line in content if line not in documents]
    if rest and not re.match(r"[\w\"'-][^:]*:(\s|$)", rest[0]):
        raise refuse(path, "it is no YAML mapping with one key on a line")
    found = list(_KEY.finditer(text))
    if len(found) > 1:
        raise refuse(path, "it has snapshotter twice")
    if not found:
        return text + ("\n" if text and not text.endswith("\n") else "") + f"snapshotter: {SNAPSHOTTER}\n"
    if found[0]["value"].strip("\"'") == SNAPSHOTTER:
        return text
    start, end = found[0].span()
    return text[:start] + f"snapshotter: {SNAPSHOTTER}{found[0]['end'] or ''}" + text[end:]
