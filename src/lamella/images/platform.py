# SPDX-License-Identifier: Apache-2.0
"""Platforms (``linux/arm64/v8``), and which image of a manifest list suits one.

The normal forms and the order of preference are containerd's (github.com/containerd/platforms,
``normalize.go`` in ``database.go``, and ``platformVector`` in ``compare.go``).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from lamella.errors import UsageError

_ARCHITECTURES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_MACHINES = {
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "ppc64le": "ppc64le",
    "mips64el": "mips64le",
    "loongarch64": "loong64",
}
_IMPLIED = {"amd64": ("v1",), "arm64": ("8", "v8", "v8.0")}
"""Variants that every such processor has, and that are therefore left out."""
_WORD = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Platform:
    """An operating system and a processor, in normal form (``linux``, ``arm``, ``v7``)."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def normal(cls, os_name: str, architecture: str, variant: str = "") -> Platform:
        """The one spelling of the platform, as containerd's ``Normalize``."""
        os_name, architecture, variant = os_name.lower(), architecture.lower(), variant.lower()
        if os_name == "macos":
            os_name = "darwin"
        if architecture in _ARCHITECTURES:
            architecture, implied = _ARCHITECTURES[architecture]
            variant = implied or variant
        if architecture == "arm":
            variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
        elif architecture == "386" or variant in _IMPLIED.get(architecture, ()):
            variant = ""
        return cls(os_name, architecture, variant)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """``OS/ARCH[/VARIANT]``, or an architecture alone (then of Linux)."""
        words = text.split("/")
        if not 1 <= len(words) <= 3 or not all(_WORD.fullmatch(word) for word in words):
            raise UsageError(
                f"{text[:100]!r} is not a platform", hint="write it as linux/amd64 or linux/arm/v7"
            )
        if len(words) == 1:
            return cls.normal("linux", words[0])
        return cls.normal(*words)

    @classmethod
    def here(cls) -> Platform:
        """This machine's."""
        machine = os.uname().machine
        if machine.startswith("armv"):  # armv6l, armv7l, armv8l
            return cls.normal("linux", "arm", machine[4:5])
        return cls.normal("linux", _MACHINES.get(machine, machine))

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def suitable(self) -> list[Platform]:
        """All platforms whose programs run on this one, the best first."""
        found = [self]
        number = int(self.variant[1:]) if re.fullmatch(r"v\d", self.variant) else 0
        if self.architecture == "amd64":
            found += [Platform.normal(self.os, "amd64", f"v{lower}") for lower in range(number - 1, 0, -1)]
            found.append(Platform(self.os, "386"))
        elif self.architecture == "arm":
            found += [Platform(self.os, "arm", f"v{lower}") for lower in range(number - 1, 4, -1)]
        elif self.architecture == "arm64":
            if self.variant:
                found.append(Platform(self.os, "arm64"))
            found += [Platform(self.os, "arm", f"v{lower}") for lower in range(8, 4, -1)]
        return found

    def rank(self, other: Platform) -> int | None:
        """0 for the best match, larger for a worse one, None where *other* does not run here."""
        suitable = self.suitable()
        return suitable.index(other) if other in suitable else None
