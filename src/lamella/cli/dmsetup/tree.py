# SPDX-License-Identifier: Apache-2.0
"""``dmsetup ls --tree``: devices with those that they use, or the other way round."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.cli.dmsetup.backend import shown
from lamella.cli.dmsetup.options import OptionError
from lamella.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lamella.cli.dmsetup.backend import Source
    from lamella.cli.dmsetup.options import Options
    from lamella.devicemapper.device import DeviceInfo

FEATURES = (
    "device", "nodevice", "blkdevname", "active", "open", "rw", "uuid",
    "ascii", "utf", "vt100", "compact", "inverted", "trunc", "notrunc",
)  # fmt: skip
WIDTH = 80
"""Of a line where the output is not a terminal. A longer one is cut one shorter and gets three dots.
"""


if TYPE_CHECKING:
    _Texts = Callable[["Node"], str]


@dataclass(frozen=True, slots=True)
class _Strokes:
    more: str
    through: str
    last: str
    first: str
    only: str


_UTF = _Strokes(" ├─", " │ ", " └─", "─┬─", "───")
_ASCII = _Strokes(" |-", " | ", " `-", "-+-", "---")
_VT100 = _Strokes(
    " \x1b(0\x0ftq\x1b(B",
    " \x1b(0\x0fx\x1b(B ",
    " \x1b(0\x0fmq\x1b(B",
    "\x1b(0\x0fqwq\x1b(B",
    "\x1b(0\x0fqqq\x1b(B",
)


@dataclass(slots=True, eq=False)
class Node:
    """A device, and what it uses and is used by, each in the order in which it was found."""

    number: tuple[int, int]
    info: DeviceInfo | None
    uses: list[Node] = field(default_factory=list)
    used_by: list[Node] = field(default_factory=list)


def graph(devices: Source, names: Iterable[str]) -> list[Node]:
    """All nodes, in the order in which a walk down from each of *names* comes to them."""
    nodes: dict[tuple[int, int], Node] = {}

    def add(number: tuple[int, int]) -> Node:
        known = nodes.get(number)
        if known is not None:
            return known
        try:
            info = devices.info(number=number)
        except NotFoundError:
            info = None
        node = nodes[number] = Node(number, info)
        for below in devices.deps(info.name) if info is not None else ():
            child = add(below)
            node.uses.append(child)
            child.used_by.append(node)
        return node

    for name in names:
        with suppress(NotFoundError):  # it was removed in the meantime
            found = devices.info(name)
            add((found.major, found.minor))
    return list(nodes.values())


def print_tree(devices: Source, options: Options) -> None:
    """Print the tree, or several."""
    features = _features(options)
    names = devices.names()
    if not names:
        sys.stdout.write("No devices found\n")
        return
    inverted = "inverted" in features
    strokes = _VT100 if "vt100" in features else _ASCII if "ascii" in features else _UTF
    for root in graph(devices, names):
        if root.uses if inverted else root.used_by:
            continue
        draw = _compact if "compact" in features else _spread
        for line in draw(root, "", inverted, strokes, lambda node: _text(devices, node, features, options)):
            sys.stdout.write((line if "notrunc" in features else _cut(line)) + "\n")


def _features(options: Options) -> set[str]:
    words = [word for text in options.fields for word in text.split(",") if word]
    for word in words:
        if word not in FEATURES:
            raise OptionError(f"Tree options not recognised: {word}.")
    return set(words)


def _spread(node: Node, before: str, inverted: bool, strokes: _Strokes, text: _Texts) -> Iterator[str]:
    """A line for each node; *before* goes in front of the lines after the first."""
    yield text(node)
    children = node.used_by if inverted else node.uses
    for child in children:
        if not text(child):
            continue  # a disk, where only names are shown
        last = child is children[-1]
        lines = _spread(child, before + ("   " if last else strokes.through), inverted, strokes, text)
        yield before + (strokes.last if last else strokes.more) + next(lines)
        yield from lines


def _compact(node: Node, before: str, inverted: bool, strokes: _Strokes, text: _Texts) -> Iterator[str]:
    """The first child on its parent's line; *before* goes in front of the lines after the first."""
    own = text(node)
    children = node.used_by if inverted else node.uses
    if not children:
        yield own
        return
    under = before + " " * len(own)
    for child in children:
        last = child is children[-1]
        # dmsetup goes three columns further to the right than it should; so do we.
        deeper = under + ("   " if last else strokes.through + "   ")
        lines = _compact(child, deeper, inverted, strokes, text)
        if child is children[0]:
            yield own + (strokes.only if last else strokes.first) + next(lines)
        else:
            yield under + (strokes.last if last else strokes.more) + next(lines)
        yield from lines


def _text(devices: Source, node: Node, features: set[str], options: Options) -> str:
    info = node.info
    text = shown(info.name, options) if info is not None else ""
    if "blkdevname" in features:
        own = devices.block_name(*node.number)
        text += f" <{own}>" if own is not None else ""
    if "nodevice" not in features:
        text += f" ({node.number[0]}:{node.number[1]})"
    if info is None:
        return text
    facts = [
        ("active", "SUSPENDED" if info.suspended else "ACTIVE"),
        ("rw", "RO" if info.read_only else "RW"),
        ("open", str(info.open_count)),
        ("uuid", shown(info.uuid, options)),
    ]
    asked_for = [fact for feature, fact in facts if feature in features]
    return f"{text} [{', '.join(asked_for)}]" if asked_for else text


def _cut(line: str) -> str:
    most = WIDTH - 1
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
        most = columns - 4 if columns > 4 else most
    except (OSError, ValueError):
        pass  # no terminal
    return line if len(line) <= most + 1 else line[:most] + "..."
