# SPDX-License-Identifier: Apache-2.0
"""Image references: ``debian``, ``ghcr.io/owner/name:1.0``, ``name@sha256:...``.

The grammar, the default registry and the error texts are those of Docker's ``reference`` package
(github.com/distribution/reference, ``reference.go``, ``regexp.go``, ``normalize.go``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lamella.errors import UsageError
from lamella.images.digest import digest_problem

DEFAULT_REGISTRY = "docker.io"
LEGACY_DEFAULT_REGISTRY = "index.docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"
NAME_LIMIT = 255
"""Most characters of a repository name, the registry not counted."""

_TEXT_LIMIT = 1024
"""Most characters of a whole reference, host and digest counted."""
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(rf"({_HOST})/({_PART}(?:/{_PART})*)(?::({_TAG}))?(?:@({_DIGEST}))?")
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")

_HINT = "write it as NAME, NAME:TAG, REGISTRY/NAME:TAG or NAME@sha256:DIGEST, in lower case"


@dataclass(frozen=True, order=True)
class Reference:
    """A repository in a registry, with a tag or a digest or both; ``str()`` is what Docker shows.

    ``registry`` is a host with an optional port (``docker.io`` by default), ``repository`` the path
    within it (``library/debian``). An empty ``tag`` or ``digest`` is one that is not there.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str, *, default_tag: bool = True) -> Reference:
        """Read *text* as Docker does; *default_tag* adds ``latest`` where there is no tag and no digest.

        Raises :class:`UsageError` with Docker's own words for what is wrong.
        """
        if not isinstance(text, str):  # a program's mistake, told like all others
            raise UsageError(
                f"an image's name has to be a text, not {type(text).__name__}: {text!r}",
                hint="write it as NAME:TAG",
            )
        if _IMAGE_ID.fullmatch(text):
            raise UsageError(
                f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings",
                hint="this looks like an image id; a reference needs a name",
            )
        if len(text) > _TEXT_LIMIT:
            raise _bad(text, f"repository name must not be more than {NAME_LIMIT} characters")
        registry, rest = _split_registry(text)
        name = rest.split("@", 1)[0].split(":", 1)[0] if "@" in rest else rest.split(":", 1)[0]
        if not text:
            raise _bad(text, "repository name must have at least one component")
        found = _REFERENCE.fullmatch(f"{registry}/{rest}")
        if not found:
            if name.lower() != name:
                raise _bad(text, f"repository name ({name[:80]}) must be lowercase")
            raise _bad(text)
        registry, repository, tag, digest = found[1], found[2], found[3] or "", found[4] or ""
        if len(repository) > NAME_LIMIT:
            raise _bad(text, f"repository name must not be more than {NAME_LIMIT} characters")
        if digest and (problem := digest_problem(digest)):
            raise _bad(text, problem)
        if default_tag and not tag and not digest:
            tag = DEFAULT_TAG
        return cls(registry, repository, tag, digest)

    @property
    def name(self) -> str:
        """Registry and repository in full: ``docker.io/library/debian``."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The name as Docker shows it: without ``docker.io/`` and ``library/``.

        The whole name where that would be read as another one, with the first component taken for a host.
        """
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        short = self.repository.removeprefix(OFFICIAL_PREFIX)
        short = self.repository if "/" in short else short
        return short if _split_registry(short) == (self.registry, self.repository) else self.name

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.familiar_name + self._suffix()

    def canonical(self) -> str:
        """The whole reference, with nothing left out: ``docker.io/library/debian:latest``."""
        return self.name + self._suffix()


def _split_registry(text: str) -> tuple[str, str]:
    """The registry and the rest; the rule by which Docker tells a host name from a path component."""
    first, slash, rest = text.partition("/")
    if not slash:
        registry, rest = DEFAULT_REGISTRY, text
    elif first == LEGACY_DEFAULT_REGISTRY:
        registry = DEFAULT_REGISTRY
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        registry = first
    else:
        registry, rest = DEFAULT_REGISTRY, text
    if registry == DEFAULT_REGISTRY and "/" not in rest:
        rest = OFFICIAL_PREFIX + rest
    return registry, rest


def _bad(text: str, why: str = "") -> UsageError:
    shown = text if len(text) <= 300 else text[:297] + "..."
    return UsageError(f"{shown!r}: invalid reference format" + (f": {why}" if why else ""), hint=_HINT)
