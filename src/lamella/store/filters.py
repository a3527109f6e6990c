# SPDX-License-Identifier: Apache-2.0
"""``--filter`` of the lists of containers and images, by Docker's rules.

Authority: docker ps(1), docker images(1), docker image prune(1); moby v24.0.9, ``daemon/list.go`` and
``daemon/images/images.go``. Conditions with one key are alternatives, labels excepted;
those with different keys must all hold.
"""

from __future__ import annotations

import re
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING

from lamella import clock
from lamella.errors import UsageError
from lamella.store import arguments
from lamella.store.results import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from typing import Any

    from lamella.images.reference import Reference
    from lamella.store.catalog import Catalog, Container, Image

    Labels = dict[str, str]
    LabelsOf = Callable[[Any], Labels]

CONTAINER_KEYS = ("ancestor", "before", "id", "label", "name", "since", "status")
IMAGE_KEYS = ("before", "dangling", "label", "reference", "since", "until")
PRUNE_KEYS = ("label", "until")
STATES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
"""Docker's. A container here is never started, so all are "created"."""
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


class Filters:
    """Parsed conditions. Raises :class:`UsageError` for what is not KEY=VALUE or has another key."""

    def __init__(self, texts: Sequence[str], keys: Sequence[str]) -> None:
        self._values: dict[str, list[str]] = {}
        for text in arguments.texts(texts, "the list of filters"):
            key, equals, value = text.partition("=")
            key = key.strip().lower()
            if not equals:
                raise UsageError(
                    f"bad format of filter (expected name=value): {text}", hint=f"known: {', '.join(keys)}"
                )
            if key not in keys:
                raise UsageError(f"invalid filter '{key}'", hint=f"known: {', '.join(keys)}")
            self._values.setdefault(key, []).append(value.strip())

    def __bool__(self) -> bool:
        return bool(self._values)

    def get(self, key: str) -> list[str]:
        """The values given for *key*."""
        return self._values.get(key, [])

    def labelled(self, labels: Labels) -> bool:
        """Whether *labels* has every label asked for, with its value where one is given."""
        for wanted in self.get("label"):
            key, equals, value = wanted.partition("=")
            if key not in labels or (equals and labels[key] != value):
                return False
        return True

    def in_time(self, made: datetime) -> bool:
        """Whether *made* is before each ``until``."""
        return all(made < moment(value) for value in self.get("until"))

    def flag(self, key: str) -> bool | None:
        """The value of a true-or-false condition."""
        values = self.get(key)
        if not values:
            return None
        if values[-1] not in ("true", "false", "1", "0"):
            raise UsageError(f"invalid filter '{key}={values[-1]}'", hint="give true or false")
        return values[-1] in ("true", "1")


def moment(text: str) -> datetime:
    """A time as ``until`` has it: RFC 3339, a date, seconds since 1970, or so long before now ("1h30m")."""
    found = _DURATION.fullmatch(text)
    if text and found:
        hours, minutes, seconds = (float(part or 0) for part in found.groups())
        try:
            return clock.utc() - timedelta(hours=hours, minutes=minutes, seconds=seconds)
        except (OverflowError, ValueError) as error:
            raise UsageError(f"{text[:40]!r} is too long a time", hint="give 24h") from error
    if re.fullmatch(r"\d{1,11}(\.\d+)?", text):
        return parse_time("1970-01-01T00:00:00Z") + timedelta(seconds=float(text))
    made = parse_time(text)
    if made.year == 1970 and not text.startswith("1970"):
        raise UsageError(
            f"{text!r} is neither a time nor a duration",
            hint="give 24h, 1h30m, 2024-01-31 or 2024-01-31T12:00:00",
        )
    return made


def containers(catalog: Catalog, filters: Filters, labels_of: LabelsOf) -> list[Container]:
    """The containers that fit, the newest first."""
    found = catalog.containers()
    for status in filters.get("status"):
        if status not in STATES:
            raise UsageError(f"invalid filter 'status={status}'", hint=f"known: {', '.join(STATES)}")
    if filters.get("status") and "created" not in filters.get("status"):
        return []
    if wanted := filters.get("id"):
        found = [each for each in found if any(_matches(one, each.id) for one in wanted)]
    if wanted := filters.get("name"):
        found = [
            each
            for each in found
            if any(_matches(one, each.name) or _matches(one, f"/{each.name}") for one in wanted)
        ]
    if wanted := filters.get("ancestor"):
        chains = [_chain(catalog, one) for one in wanted]
        found = [each for each in found if any(_descends(catalog, each, one) for one in chains)]
    for key, later in (("before", False), ("since", True)):
        for name in filters.get(key):
            limit = catalog.find_container(name)
            found = [
                each
                for each in found
                if each.id != limit.id and (parse_time(each.created) > parse_time(limit.created)) is later
            ]
    return [each for each in found if filters.labelled(labels_of(each))]


def images(catalog: Catalog, filters: Filters, labels_of: LabelsOf) -> list[tuple[Image, list[Reference]]]:
    """The images that fit, the newest first, each with those of its names that fit."""
    found = [(image, catalog.references(image.id)) for image in catalog.images()]
    dangling = filters.flag("dangling")
    if dangling is not None:
        found = [(image, names) for image, names in found if is_dangling(names) is dangling]
    if patterns := filters.get("reference"):
        rules = [_pattern(one) for one in patterns]
        named = [(image, [name for name in names if _named(name, rules)]) for image, names in found]
        found = [(image, names) for image, names in named if names]
    for key, later in (("before", False), ("since", True)):
        for name in filters.get(key):
            limit = catalog.find_image(name)
            found = [
                (image, names)
                for image, names in found
                if image.id != limit.id and (parse_time(image.created) > parse_time(limit.created)) is later
            ]
    return [
        (image, names)
        for image, names in found
        if filters.in_time(parse_time(image.created)) and filters.labelled(labels_of(image))
    ]


def is_dangling(names: Sequence[Reference]) -> bool:
    """Whether an image has no name with a tag."""
    return all(name.digest for name in names)


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return pattern == text


def _chain(catalog: Catalog, name: str) -> tuple[str, str | None]:
    image = catalog.find_image(name)
    return image.id, image.top


def _descends(catalog: Catalog, container: Container, ancestor: tuple[str, str | None]) -> bool:
    """Whether the container was made from the image, or from one with that image's layers below its own."""
    identity, top = ancestor
    if container.image == identity:
        return True
    return top is not None and any(layer.chain_id == top for layer in catalog.chain(container.top))


def _named(name: Reference, rules: Sequence[re.Pattern[str]]) -> bool:
    full = str(name)
    repository = full.partition("@")[0] if name.digest else full.rpartition(":")[0]
    return any(rule.fullmatch(full) or rule.fullmatch(repository) for rule in rules)


def _pattern(text: str) -> re.Pattern[str]:
    """Go's ``path.Match``: ``*`` and ``?`` match no slash."""
    try:
        found = re.sub(
            r"\\.|\[\^?[^]]*\]|[*?]|[^\\[*?]+|\[",
            lambda part: (
                {"*": "[^/]*", "?": "[^/]"}.get(part[0])
                or (part[0] if part[0][0] in "\\[" and len(part[0]) > 1 else re.escape(part[0]))
            ),
            text,
        )
        with warnings.catch_warnings():  # of what a later Python may mean by "[["
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(found)
    except re.error:
        raise UsageError(
            f"invalid filter 'reference={text}'", hint="for example: reference=deb*:1?"
        ) from None
