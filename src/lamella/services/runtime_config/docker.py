# SPDX-License-Identifier: Apache-2.0
"""Docker's ``daemon.json``: the containerd image store with the store's snapshotter.

Authority: moby v29, ``daemon/config`` and ``daemon/image_store_choice.go``: a name of a storage driver other
than its own is one of a snapshotter, of the containerd that dockerd uses.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.services.runtime_config.containerd import RESTART, START, plugin_alone
from lamella.services.runtime_config.model import SNAPSHOTTER, Facts, File, Plan, refuse

if TYPE_CHECKING:
    from lamella.services.runtime_config.model import Reader

CONTAINERD = Path("/etc/containerd/config.toml")
"""The containerd that Docker's packages use."""


def for_docker(path: Path, facts: Facts, read: Reader, containerd: Path = CONTAINERD) -> Plan:
    """dockerd's own file, and the plugin in that of its containerd."""
    before = read(path)
    found = _parsed(path, before) if before is not None and before.strip() else {}
    features = found.get("features", {})
    if not isinstance(features, dict):
        raise refuse(path, '"features" is no object in it')
    feature = {"containerd-snapshotter": True}
    wanted = {"features": feature, "storage-driver": SNAPSHOTTER}
    after = {**found, **wanted, "features": {**features, **feature}}
    text = before if before is not None and after == found else _text(after, before or "")
    snippet = json.dumps(wanted, indent=2) + "\n"
    return Plan(
        (plugin_alone(containerd, facts, read), File(path, snippet, before, text)),
        _warnings(path, found),
        (START, RESTART, "systemctl restart docker", "docker info --format '{{.Driver}} {{.DriverStatus}}'"),
    )


def _parsed(path: Path, text: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key stands twice in an object")
        return dict(pairs)

    try:
        found = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise refuse(path, f"it is no valid JSON: {str(error)[:300]}") from error
    if not isinstance(found, dict):
        raise refuse(path, "it is no JSON object")
    return found


def _text(content: dict[str, Any], before: str) -> str:
    """*content* indented as *before* is, its keys in their order; JSON has nothing else to keep."""
    indent = re.search(r'\{[^\S\n]*\r?\n([ \t]+)"', before)
    return json.dumps(content, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"


def _warnings(path: Path, found: dict[str, Any]) -> tuple[str, ...]:
    driver = found.get("storage-driver")
    warnings = []
    if driver != SNAPSHOTTER:
        now = f"of the storage driver {driver}" if driver else "that it has now"
        warnings.append(
            f"Docker will not show the images and containers {now}, until the change is undone: save what "
            "you need (docker save), and load it after (docker load)"
        )
    if found.get("storage-opts"):
        warnings.append(f"{path} has storage-opts, which are for the storage driver before: remove them")
    if found.get("userns-remap"):
        warnings.append(
            f"{path} has userns-remap, which Docker supports with snapshotters from version 29 on"
        )
    return tuple(warnings)
