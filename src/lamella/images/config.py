# SPDX-License-Identifier: Apache-2.0
"""Image configurations: which layers, for which platform, how to run.

Format: OCI image specification, ``config.md``; Docker's is the same for what is read here.
"""

from __future__ import annotations

from dataclasses import dataclass

from lamella.errors import BadInputError
from lamella.images.digest import check_digest
from lamella.images.platform import Platform
from lamella.images.strict_json import CONFIG_LIMIT, Document


@dataclass(frozen=True)
class ImageConfig:
    """The parts of a configuration that say what its layers are; ``document`` has all the rest."""

    platform: Platform
    diff_ids: tuple[str, ...]
    created: str
    document: Document


def parse_config(data: bytes, what: str, *, layers: int | None = None) -> ImageConfig:
    """Read an image configuration; *layers* is how many the manifest has.

    Raises :class:`BadInputError` if it is malformed, or its diff ids do not fit the manifest or the
    history (Docker's "too many non-empty layers in History section").
    """
    if len(data) > CONFIG_LIMIT:
        raise BadInputError(
            f"{what} is larger than the {CONFIG_LIMIT >> 20} MiB that a configuration may have"
        )
    document = Document.parse(data, what)
    root = document.child("rootfs")
    kind = root.text("type", "layers")
    if kind not in ("layers", ""):
        raise BadInputError(f"{what}: the root file system is of the unknown type {kind[:100]!r}")
    diff_ids = tuple(
        check_digest(text, f"{what}: layer {number}") for number, text in enumerate(root.texts("diff_ids"))
    )
    filled = sum(not entry.flag("empty_layer") for entry in document.children("history"))
    if filled > len(diff_ids):
        raise BadInputError(
            f"{what}: too many non-empty layers in the history: {filled}, with {len(diff_ids)} diff ids"
        )
    # Images from before 1.10 may name no platform; they are what ran Docker then.
    platform = Platform.normal(
        document.text("os") or "linux",
        document.text("architecture") or Platform.here().architecture,
        document.text("variant"),
    )
    parsed = ImageConfig(platform, diff_ids, document.text("created"), document)
    if layers is not None:
        check_layers(parsed, what, layers)
    return parsed


def check_layers(parsed: ImageConfig, what: str, layers: int) -> None:
    """Raise :class:`BadInputError` unless the configuration called *what* is of an image with *layers*."""
    if layers != len(parsed.diff_ids):
        raise BadInputError(
            f"{what} does not match its manifest: {len(parsed.diff_ids)} diff ids, but {layers} layers"
        )
