# SPDX-License-Identifier: Apache-2.0
"""A page of the reference, before it is Markdown or roff.

Texts are plain, with ``code`` in one or two backticks.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """A term, such as an option, and its description (may be empty)."""

    term: str
    text: str


@dataclass(frozen=True)
class Section:
    """A heading, and below it a preformatted block, paragraphs and entries, each if not empty."""

    title: str
    entries: tuple[Entry, ...] = ()
    block: str = ""
    paragraphs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """The page of one command: *name* is "create", and *title* what is typed, "lamella create"."""

    name: str
    title: str
    family: str
    summary: str
    synopsis: tuple[str, ...]
    description: tuple[str, ...]
    sections: tuple[Section, ...]
    example: tuple[str, ...] = ()
    """Lines as they are typed; what follows ``#`` is a remark."""
    json: tuple[Entry, ...] = ()
    """The fields that ``--json`` prints."""
    exit_codes: tuple[Entry, ...] = field(default=())
    """Only where they are not those of all commands."""

    @property
    def terms(self) -> set[str]:
        """The terms of all sections."""
        return {entry.term for section in self.sections for entry in section.entries}
