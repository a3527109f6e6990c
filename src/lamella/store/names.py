# SPDX-License-Identifier: Apache-2.0
"""Names and ids of containers: validation, generation, and the expansion of short ids."""

from __future__ import annotations

import random
import re
import secrets
from typing import TYPE_CHECKING

from lamella.errors import UsageError
from lamella.store.arguments import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_ID = re.compile(r"[0-9a-f]{1,128}")
_ALGORITHM = re.compile(r"[a-z0-9]+:")

_ADJECTIVES = """
    agile amber ample bold brave bright brisk calm candid clear clever cosy crisp daring deft eager early
    earnest even fair fine firm fleet fond frank free fresh gentle glad golden grand happy hardy honest
    humble jolly keen kind lively loyal lucid lucky mellow merry mild modest neat nimble noble patient
    plain polite proud quick quiet ready robust serene sharp silent silver sleek smart snug sober solid
    spry stable steady sunny swift tidy tranquil true vivid warm wise witty young
"""
_NOUNS = """
    acorn alder anchor arch aspen badger basalt beacon beech birch bridge brook canyon cedar cliff clover
    comet coral cove crane creek delta dune eagle elm ember falcon fern finch fjord flint forest fox
    garnet glacier granite grove harbour hare hazel heron hill island ivy jasper juniper kestrel lagoon
    lake lark laurel ledge lichen linden lynx maple marble marsh meadow mesa moss mountain oak opal
    orchard osprey otter pebble pine plover pond poplar prairie quartz raven reef ridge river robin rowan
    slate sparrow spruce summit swan thistle tide trail valley violet walnut willow wren
"""


class AmbiguousNameError(UsageError):
    """A prefix of several ids."""


def new_id() -> str:
    """64 random hexadecimal digits that do not look like a decimal number when cut to twelve."""
    while True:
        made = secrets.token_hex(32)
        if not made[:12].isdigit():
            return made


def new_name(taken: Callable[[str], bool]) -> str:
    """An ``adjective_noun`` that is not *taken*, with a digit behind it if need be, as Docker has them."""
    for attempt in range(6):
        made = f"{random.choice(_ADJECTIVES.split())}_{random.choice(_NOUNS.split())}"
        if attempt > 1:
            made += str(random.randrange(10))
        if not taken(made):
            return made
    return new_id()[:12]


def check_name(name: str) -> str:
    """The name without the slash that Docker allows in front. Raises :class:`UsageError`."""
    bare = text(name, "a container's name").removeprefix("/")
    if not _NAME.fullmatch(bare):
        raise UsageError(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            hint="choose another name, of two characters or more",
        )
    return bare


def is_hexadecimal(text: str) -> bool:
    """Whether *text* could be an id or the beginning of one."""
    return _ID.fullmatch(text) is not None


def bare_id(identity: str) -> str:
    """An image's id, or a digest, without its algorithm: the hexadecimal digits; a container's as it is."""
    found = _ALGORITHM.match(identity)
    return identity[found.end() :] if found else identity


def begins_with(identity: str, prefix: str) -> bool:
    """Whether *prefix* is the beginning of an id, with its algorithm or without."""
    return (identity if _ALGORITHM.match(prefix) else bare_id(identity)).startswith(prefix)


def match_id(prefix: str, ids: Iterable[str], kind: str) -> str | None:
    """The one id among *ids* that begins with *prefix* (the algorithm is optional), or None.

    Raises :class:`AmbiguousNameError` where several do. *kind* is for the message: "container", "image".
    """
    if not is_hexadecimal(bare_id(prefix)):
        return None
    found = [one for one in ids if begins_with(one, prefix)]
    if len(found) > 1:
        shown = ", ".join(bare_id(one)[:12] for one in found[:3])
        raise AmbiguousNameError(
            f"multiple {kind} IDs found with provided prefix: {prefix}",
            hint=f"give more of the ID: it could be {shown}{', ...' if len(found) > 3 else ''}",
        )
    return found[0] if found else None
