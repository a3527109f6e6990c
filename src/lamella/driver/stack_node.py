# SPDX-License-Identifier: Apache-2.0
"""The storage stack as a graph: disks or files, the volumes on them, the pool, the devices in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(eq=False)
class Node:
    """One thing. Sizes are in bytes; *used* is None where unknown.

    *kind*: "disk", "file", "lv", "pool", "base", "layer", "image" (the layer on top of one), "container",
    "deleted". What lies on two things is the same node in both their *children*.
    """

    kind: str
    name: str
    size: int
    used: int | None = None
    note: str = ""
    children: list[Node] = field(default_factory=list)

    def as_dict(self, seen: set[int] | None = None) -> dict[str, Any]:
        """For JSON; a node that was there before has ``repeated`` instead of its children."""
        seen = set() if seen is None else seen
        made: dict[str, Any] = {"kind": self.kind, "name": self.name, "size": self.size, "used": self.used}
        if self.note:
            made["note"] = self.note
        if id(self) in seen:
            made["repeated"] = True
            return made
        seen.add(id(self))
        made["children"] = [child.as_dict(seen) for child in self.children]
        return made


def lines(roots: list[Node]) -> Iterator[tuple[Node, str, bool]]:
    """(node, the branches drawn before its name, whether it was there before), top down."""
    seen: set[int] = set()
    stack = [(root, "", "") for root in reversed(roots)]
    while stack:
        node, before, below = stack.pop()
        again = id(node) in seen
        yield node, before, again
        if again:
            continue
        seen.add(id(node))
        last = len(node.children) - 1
        for index in range(last, -1, -1):
            branch, further = ("└─", "  ") if index == last else ("├─", "│ ")
            stack.append((node.children[index], below + branch, below + further))
