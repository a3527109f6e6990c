# SPDX-License-Identifier: Apache-2.0
"""From a manifest or a (nested) manifest list to the one image that suits a platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lamella.errors import BadInputError, NotFoundError, UnsupportedError
from lamella.images.config import ImageConfig, parse_config
from lamella.images.digest import verify_bytes
from lamella.images.image_source import LayerBlob, SourceImage
from lamella.images.manifest import (
    OCI_INDEX,
    Descriptor,
    Index,
    Manifest,
    NotAnImageError,
    choose,
    parse_manifest,
)
from lamella.images.platform import Platform
from lamella.images.strict_json import CONFIG_LIMIT, MANIFEST_LIMIT

if TYPE_CHECKING:
    from lamella.images.image_source import Fetch
    from lamella.images.reference import Reference

LIST_LIMIT = 5000
"""Most manifests looked at for one image."""
TOTAL_LIMIT = 20 * LIST_LIMIT
"""Most manifests looked at for all images of one place; one that several names lead to counts for each."""


class Documents(Protocol):
    """Where manifests and configurations come from: an archive, a layout, a registry."""

    def document(self, descriptor: Descriptor, limit: int) -> bytes | None:
        """The blob's bytes, not yet verified; None if the place does not have it."""


@dataclass(frozen=True)
class Resolved:
    """One image's documents, all verified against each other."""

    descriptor: Descriptor
    manifest: Manifest
    config: bytes
    parsed: ImageConfig

    def image(self, references: list[Reference], fetch: Fetch, tag: str = "") -> SourceImage:
        """The image, whose layers come by *fetch*."""
        layers = [
            LayerBlob(layer.digest, layer.size, layer.media_type, diff_id, fetch, layer.urls)
            for layer, diff_id in zip(self.manifest.layers, self.parsed.diff_ids, strict=True)
        ]
        return SourceImage(
            references=references,
            config=self.config,
            config_digest=self.manifest.config.digest,
            parsed=self.parsed,
            layers=layers,
            tag=tag,
        )


class Known:
    """What was read so far, shared by the resolvers of one place: each document is read and parsed once."""

    def __init__(self) -> None:
        self.parsed: dict[tuple[str, str, int], Manifest | Index] = {}
        self.resolved: dict[tuple[str, str, int], Resolved] = {}
        self.visited = 0


class Resolver:
    """Finds images in *documents*; *wanted* None means this machine's platform where there is a choice."""

    def __init__(
        self, documents: Documents, wanted: Platform | None, what: str, known: Known | None = None
    ) -> None:
        self._documents = documents
        self._known = known or Known()
        self._explicit = wanted
        self._wanted = wanted or Platform.here()
        self._what = what

    def resolve(self, top: Descriptor) -> Resolved:
        """The image that *top* stands for.

        Errors: :class:`NotFoundError` where no manifest suits the platform (it lists those that are
        there) or the blob is missing, :class:`BadInputError` where something is malformed or wrong.
        """
        found = self._parsed(top, "manifest")
        if found is None:
            raise BadInputError(f"{self._what} does not have the manifest {top.digest}")
        return self._resolve_found(top, found)

    def resolve_group(self, entries: list[Descriptor]) -> Resolved:
        """The image that several entries of one name stand for, as if they were a list of their own."""
        different = {entry.digest: entry for entry in entries}
        if len(different) == 1:
            return self.resolve(entries[0])
        platforms = {entry.platform for entry in different.values()}
        if None in platforms or len(platforms) < len(different):
            raise BadInputError(
                f"{self._what} is ambiguous: {len(different)} different images have this name"
            )
        return self._choose(Index(OCI_INDEX, tuple(different.values())))

    def resolve_body(self, top: Descriptor, body: bytes) -> Resolved:
        """As :meth:`resolve`, with the verified bytes of *top* at hand."""
        return self._resolve_found(top, parse_manifest(body, f"the manifest {top.digest}", top.media_type))

    def _resolve_found(self, top: Descriptor, found: Manifest | Index) -> Resolved:
        if isinstance(found, Manifest):
            resolved = self._with_config(top, found)
            self._check_platform(resolved.parsed.platform)
            return resolved
        return self._choose(found)

    def _choose(self, index: Index) -> Resolved:
        available: list[Platform] = []
        candidates: list[tuple[Descriptor, Platform]] = []
        refused: NotAnImageError | None = None
        manifests, others = self._flatten(index)
        for descriptor in manifests:
            platform = descriptor.platform
            if platform is None or not platform.os:
                try:
                    resolved = self._single(descriptor)
                except NotAnImageError as error:  # something about an image, or with nothing to do with one
                    refused = refused or error
                    continue
                if resolved is None:
                    continue
                platform = resolved.parsed.platform
            candidates.append((descriptor, platform))
            available.append(platform)
        missing, no_image = False, None
        for descriptor, platform in choose(candidates, self._wanted):
            if no_image is not None and platform != no_image:
                break  # never another platform's image in place of what is not one
            try:
                chosen = self._single(descriptor)
            except NotAnImageError as error:
                refused, no_image = refused or error, platform
                continue
            if chosen is not None:
                return chosen
            missing = True
        if refused is not None and (no_image is not None or not available):
            raise refused
        if others and not available:
            raise Index(index.media_type, (), tuple(others)).holds_no_image(self._what)
        listed = ", ".join(sorted({str(platform) for platform in available})) or "none"
        why = "its content is not included" if missing else "no manifest in its list suits it"
        raise NotFoundError(
            f"{self._what} has no image for {self._wanted}: {why}; available: {listed}",
            hint="choose one of these with --platform" if available else None,
        )

    def _flatten(self, index: Index) -> tuple[list[Descriptor], list[str]]:
        """All manifests of *index* and the indexes in it, each once, no attestations; and other types."""
        found: list[Descriptor] = []
        others = list(index.others)
        seen: set[str] = set()
        waiting = list(reversed(index.manifests))
        while waiting:
            descriptor = waiting.pop()
            if descriptor.digest in seen or descriptor.is_attestation:
                continue
            seen.add(descriptor.digest)
            self._known.visited += 1
            if len(seen) > LIST_LIMIT or self._known.visited > TOTAL_LIMIT:
                most = LIST_LIMIT if len(seen) > LIST_LIMIT else TOTAL_LIMIT
                raise BadInputError(f"{self._what} has more than {most} manifests in its lists")
            if not descriptor.is_index:
                found.append(descriptor)
                continue
            inner = self._parsed(descriptor, "index")
            if isinstance(inner, Index):
                waiting += reversed(inner.manifests)
                others += inner.others
        return found, others

    def _parsed(self, descriptor: Descriptor, kind: str) -> Manifest | Index | None:
        """The verified and parsed document; None where the place does not have it."""
        key = descriptor.digest, descriptor.media_type, descriptor.size
        found = self._known.parsed.get(key)
        if found is None:
            body = self._verified(descriptor, MANIFEST_LIMIT, kind)
            if body is None:
                return None
            found = parse_manifest(body, f"the {kind} {descriptor.digest}", descriptor.media_type)
            self._known.parsed[key] = found
        return found

    def _single(self, descriptor: Descriptor) -> Resolved | None:
        manifest = self._parsed(descriptor, "manifest")
        if manifest is None:
            return None
        if not isinstance(manifest, Manifest):
            raise BadInputError(
                f"the manifest {descriptor.digest} is a list, but its descriptor says it is not"
            )
        resolved = self._with_config(descriptor, manifest)
        _check_os(resolved.parsed.platform, self._what)
        return resolved

    def _with_config(self, descriptor: Descriptor, manifest: Manifest) -> Resolved:
        key = descriptor.digest, descriptor.media_type, descriptor.size
        known = self._known.resolved.get(key)
        if known is not None:
            return known
        config = self._verified(manifest.config, CONFIG_LIMIT, "configuration")
        if config is None:
            raise BadInputError(f"{self._what} does not have the configuration {manifest.config.digest}")
        what = f"the configuration {manifest.config.digest}"
        parsed = parse_config(config, what, layers=len(manifest.layers))
        found = self._known.resolved[key] = Resolved(descriptor, manifest, config, parsed)
        return found

    def _verified(self, descriptor: Descriptor, limit: int, kind: str) -> bytes | None:
        what = f"the {kind} {descriptor.digest}"
        if descriptor.size > limit:
            raise BadInputError(f"{what} has {descriptor.size} bytes; no more than {limit} are accepted")
        body = self._documents.document(descriptor, limit)
        if body is None:
            return None
        if descriptor.size != len(body):
            raise BadInputError(
                f"{what} has the wrong size: {descriptor.size} bytes expected, {len(body)} found"
            )
        verify_bytes(body, descriptor.digest, what)
        return body

    def _check_platform(self, actual: Platform) -> None:
        check_platform(actual, self._explicit, self._what)


def check_platform(actual: Platform, wanted: Platform | None, what: str) -> None:
    """An image outside any list is taken for any processor, unless *wanted* was asked for; but only Linux."""
    if wanted is not None and wanted.rank(actual) is None:
        raise NotFoundError(f"{what} does not match the platform asked for: {wanted} wanted, {actual} found")
    _check_os(actual, what)


def _check_os(actual: Platform, what: str) -> None:
    if actual.os != "linux":
        raise UnsupportedError(f"{what} is an image for {actual}: only Linux images have file systems for us")
