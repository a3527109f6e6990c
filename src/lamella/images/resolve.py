# SPDX-License-Identifier: Apache-2.0
"""From a manifest or a (nested) manifest list to the one image that suits a platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lamella.errors import BadInputError, NotFoundError, UnsupportedError
from lamella.images.config import ImageConfig, parse_config
from lamella.images.digest import verify_bytes
from lamella.images.image_source import LayerBlob, SourceImage
from lamella.images.manifest import OCI_INDEX, Descriptor, Index, Manifest, choose, parse_manifest
from lamella.images.platform import Platform
from lamella.images.strict_json import CONFIG_LIMIT, MANIFEST_LIMIT

if TYPE_CHECKING:
    from lamella.images.image_source import Fetch
    from lamella.images.reference import Reference

LIST_LIMIT = 5000
"""Most manifests looked at for one image."""


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


class Resolver:
    """Finds images in *documents*; *wanted* None means this machine's platform where there is a choice."""

    def __init__(self, documents: Documents, wanted: Platform | None, what: str) -> None:
        self._documents = documents
        self._explicit = wanted
        self._wanted = wanted or Platform.here()
        self._what = what

    def resolve(self, top: Descriptor) -> Resolved:
        """The image that *top* stands for.

        Errors: :class:`NotFoundError` where no manifest suits the platform (it lists those that are
        there) or the blob is missing, :class:`BadInputError` where something is malformed or wrong.
        """
        body = self._verified(top, MANIFEST_LIMIT, "manifest")
        if body is None:
            raise BadInputError(f"{self._what} does not have the manifest {top.digest}")
        return self.resolve_body(top, body)

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
        found = parse_manifest(body, f"the manifest {top.digest}", top.media_type)
        if isinstance(found, Manifest):
            resolved = self._with_config(top, found)
            self._check_platform(resolved.parsed.platform)
            return resolved
        return self._choose(found)

    def _choose(self, index: Index) -> Resolved:
        available: list[Platform] = []
        candidates: list[tuple[Descriptor, Platform]] = []
        ready: dict[str, Resolved] = {}
        for descriptor in self._flatten(index):
            platform = descriptor.platform
            if platform is None or not platform.os:
                resolved = self._single(descriptor)
                if resolved is None:
                    continue
                ready[descriptor.digest] = resolved
                platform = resolved.parsed.platform
            candidates.append((descriptor, platform))
            available.append(platform)
        missing = False
        for descriptor in choose(candidates, self._wanted):
            chosen = ready.get(descriptor.digest) or self._single(descriptor)
            if chosen is not None:
                return chosen
            missing = True
        listed = ", ".join(sorted({str(platform) for platform in available})) or "none"
        why = "its content is not included" if missing else "no manifest in its list suits it"
        raise NotFoundError(
            f"{self._what} has no image for {self._wanted}: {why}; available: {listed}",
            hint="choose one of these with --platform" if available else None,
        )

    def _flatten(self, index: Index) -> list[Descriptor]:
        """All manifests of *index* and the indexes in it, each once, without attestations."""
        found: list[Descriptor] = []
        seen: set[str] = set()
        waiting = list(reversed(index.manifests))
        while waiting:
            descriptor = waiting.pop()
            if descriptor.digest in seen or descriptor.is_attestation:
                continue
            seen.add(descriptor.digest)
            if len(seen) > LIST_LIMIT:
                raise BadInputError(f"{self._what} has more than {LIST_LIMIT} manifests in its lists")
            if not descriptor.is_index:
                found.append(descriptor)
                continue
            body = self._verified(descriptor, MANIFEST_LIMIT, "index")
            if body is None:
                continue
            inner = parse_manifest(body, f"the index {descriptor.digest}", descriptor.media_type)
            if isinstance(inner, Index):
                waiting += reversed(inner.manifests)
        return found

    def _single(self, descriptor: Descriptor) -> Resolved | None:
        body = self._verified(descriptor, MANIFEST_LIMIT, "manifest")
        if body is None:
            return None
        manifest = parse_manifest(body, f"the manifest {descriptor.digest}", descriptor.media_type)
        if not isinstance(manifest, Manifest):
            raise BadInputError(
                f"the manifest {descriptor.digest} is a list, but its descriptor says it is not"
            )
        resolved = self._with_config(descriptor, manifest)
        _check_os(resolved.parsed.platform, self._what)
        return resolved

    def _with_config(self, descriptor: Descriptor, manifest: Manifest) -> Resolved:
        config = self._verified(manifest.config, CONFIG_LIMIT, "configuration")
        if config is None:
            raise BadInputError(f"{self._what} does not have the configuration {manifest.config.digest}")
        what = f"the configuration {manifest.config.digest}"
        parsed = parse_config(config, what, layers=len(manifest.layers))
        return Resolved(descriptor, manifest, config, parsed)

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
