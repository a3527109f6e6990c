# SPDX-License-Identifier: Apache-2.0
"""containerd's configuration: the proxy plugin, and who uses it.

Authority: containerd v2.4.2, ``docs/PLUGINS.md``, ``docs/cri/config.md``, ``cmd/containerd/server/config``
(the versions of the file, ``ProxyPlugin``), ``plugins/cri/images`` (what ``exports.root`` is for) and
``plugins/transfer``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lamella.services.runtime_config.model import DIFFER, SNAPSHOTTER, Facts, File, Plan, refuse
from lamella.services.runtime_config.toml_text import Settings, merge, parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lamella.services.runtime_config.model import Reader
    from lamella.services.runtime_config.toml_text import Place, Values

NEWEST = 4
"""The newest version of the file that is known: that of containerd 2.4."""

CRI_2 = ("plugins", "io.containerd.grpc.v1.cri", "containerd")
"""Where the settings for Kubernetes are, in a file of version 2; those of version 1 containerd 2 ignores."""
CRI_3_IMAGES = ("plugins", "io.containerd.cri.v1.images")
CRI_3_RUNTIME = ("plugins", "io.containerd.cri.v1.runtime", "containerd")
TRANSFER = ("plugins", "io.containerd.transfer.v1.local", "unpack_config")

DIFF_SERVICE = ("plugins", "io.containerd.service.v1.diff-service")

KATA_TYPE = "io.containerd.kata"
"""What the types of Kata's runtimes begin with."""


def version_of(path: Path, parsed: Mapping[str, Any]) -> int:
    """The version of a file's content; without one it is 1, as containerd has it."""
    version = parsed.get("version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version > NEWEST:
        raise refuse(path, f"it has version {version!r}, and versions up to {NEWEST} are known here")
    return max(version, 1)


def proxy_plugin(facts: Facts) -> dict[Place, Values]:
    """The snapshotter itself, in a file of any version.

    Without ``exports.root`` kubelet does not know which file system images are on, and neither evicts pods
    nor removes images when it is full. It has no capability: layers are unpacked one upon the other.
    """
    return {
        ("proxy_plugins", SNAPSHOTTER): {"type": "snapshot", "address": str(facts.socket)},
        ("proxy_plugins", SNAPSHOTTER, "exports"): {"root": str(facts.root)},
    }


def differ(facts: Facts, parsed: Mapping[str, Any]) -> dict[Place, Values]:
    """Its own writer of layers, which containerd asks first, and then the differs that it asked before.

    It leaves to those what is not for it, but while it does not answer nothing can be unpacked: this is for
    where all images are unpacked into the store. containerd 1 does not know all of it.
    """
    known = _at(parsed, (*DIFF_SERVICE, "default"))
    before = known if isinstance(known, list) else ["walking"]
    return {
        ("proxy_plugins", DIFFER): {"type": "diff", "address": str(facts.socket)},
        DIFF_SERVICE: {"default": [DIFFER, *(name for name in before if name != DIFFER)]},
    }


def unpacking(parsed: Mapping[str, Any]) -> dict[Place, list[Values]]:
    """The transfer service's list of snapshotters to unpack for, which ``ctr`` and Kubernetes pull with.

    A list takes the place of the default one, so that needs an entry too, unless there is a list already.
    """
    known = _at(parsed, TRANSFER)
    have = {each.get("snapshotter") for each in known or () if isinstance(each, dict)}
    names = ["overlayfs", SNAPSHOTTER] if not known or "overlayfs" in have else [SNAPSHOTTER]
    return {TRANSFER: [{"snapshotter": name, "platform": "linux", "differ": "walking"} for name in names]}


def _at(parsed: Mapping[str, Any], place: Place) -> Any:
    """What is at *place*, None where nothing is."""
    found: Any = parsed
    for key in place:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _kubernetes(version: int) -> dict[Place, Values]:
    """It as the snapshotter of all of Kubernetes' pods, with what it needs to know of images."""
    place = CRI_2 if version == 2 else CRI_3_IMAGES
    return {place: {"snapshotter": SNAPSHOTTER, "disable_snapshot_annotations": False}}


def _kata(version: int, parsed: Mapping[str, Any]) -> dict[Place, Values]:
    """It as the snapshotter of the runtimes of Kata Containers alone; of a new one where there is none."""
    runtimes = (*(CRI_2 if version == 2 else CRI_3_RUNTIME), "runtimes")
    known = _at(parsed, runtimes)
    found: dict[str, Values] = {
        name: {}
        for name, runtime in (known.items() if isinstance(known, dict) else ())
        if isinstance(runtime, dict) and str(runtime.get("runtime_type", "")).startswith(KATA_TYPE)
    }
    new: Values = {"runtime_type": f"{KATA_TYPE}.v2", "privileged_without_host_devices": True}
    wanted: dict[Place, Values] = {}
    for name, values in (found or {"kata": new}).items():
        wanted[*runtimes, name] = {**values, "snapshotter": SNAPSHOTTER}
        if version > 2:  # what images are unpacked for
            wanted[*CRI_3_IMAGES, "runtime_platforms", name] = {"snapshotter": SNAPSHOTTER}
    return wanted


# -- plans ---------------------------------------------------------------------------------------


def _file(path: Path, facts: Facts, read: Reader, what: str) -> tuple[File, dict[str, Any]]:
    """*path* for *what*: "kubernetes", "kata", or "plugin" for the plugin alone. And its content before."""
    before = read(path)
    start = before or ""
    parsed = parse(path, start)
    if not parsed:  # without a version, its settings would be read as those of version 1
        start = f"version = {3 if facts.containerd_version >= 2 else 2}\n" + (f"\n{start}" if start else "")
        parsed = parse(path, start)
    version = version_of(path, parsed)
    tables = proxy_plugin(facts)
    # containerd 2 knows differs that are plugins in a file of any version, and packages keep old files:
    # Debian's has version 2, Docker's 1.
    if what != "kata" and (version > 2 or facts.containerd_version >= 2):
        tables |= differ(facts, parsed)
    if what == "kubernetes" and version > 1:
        tables |= _kubernetes(version)
    elif what == "kata":
        if version == 1:
            raise refuse(path, "it has version 1, which knows no snapshotter of a runtime")
        tables |= _kata(version, parsed)
    entries = unpacking(parsed) if version > 1 and what != "plugin" else {}
    settings = Settings(tables, entries)
    head = "" if version == 1 else f"version = {version}\n\n"
    return File(path, head + settings.text(), before, merge(path, start, settings)), parsed


def _warnings(path: Path, parsed: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    disabled = parsed.get("disabled_plugins", [])
    names = [name for name in disabled if name == "cri" or str(name).startswith("io.containerd.grpc.v1.cri")]
    if names:
        found.append(f'{path} disables the plugin "{names[0]}", which Kubernetes needs (disabled_plugins)')
    if version_of(path, parsed) == 1:
        found.append(
            f"{path} has no version, so it is of version 1: the settings for Kubernetes are left out, as "
            "containerd 2 does not read them there (containerd config migrate makes a newer one)"
        )
    return tuple(found)


RESTART = "systemctl restart containerd"
START = "start the snapshotter before containerd: lamella serve --containerd"


def for_containerd(path: Path, facts: Facts, read: Reader) -> Plan:
    """containerd, with it as the snapshotter of Kubernetes' pods."""
    file, parsed = _file(path, facts, read, "kubernetes")
    return Plan(
        (file,),
        _warnings(path, parsed),
        (
            START,
            RESTART,
            f"ctr plugins ls | grep {SNAPSHOTTER}",
            f"ctr images pull --snapshotter {SNAPSHOTTER} docker.io/library/busybox:latest",
        ),
    )


def for_kata(path: Path, facts: Facts, read: Reader) -> Plan:
    """containerd, with it as the snapshotter of Kata's runtimes alone."""
    file, parsed = _file(path, facts, read, "kata")
    return Plan(
        (file,),
        _warnings(path, parsed),
        (
            START,
            RESTART,
            "make a RuntimeClass for the runtime, and have images pulled for it: the feature gate "
            "RuntimeClassInImageCriApi, or the annotation io.containerd.cri.runtime-handler of the pods",
        ),
    )


def for_firecracker(path: Path, facts: Facts, read: Reader) -> Plan:
    """firecracker-containerd, whose clients name a snapshotter for each image and container."""
    file, _ = _file(path, Facts(facts.root, facts.socket, 1), read, "plugin")
    return Plan(
        (file,),
        (),
        (
            START,
            "restart firecracker-containerd",
            f"firecracker-ctr images pull --snapshotter {SNAPSHOTTER} docker.io/library/busybox:latest",
            f"firecracker-ctr run --snapshotter {SNAPSHOTTER} --runtime aws.firecracker --rm "
            "docker.io/library/busybox:latest test uname -a",
        ),
    )


def plugin_alone(path: Path, facts: Facts, read: Reader) -> File:
    """containerd's file with the plugin, which nothing uses by itself."""
    return _file(path, facts, read, "plugin")[0]
