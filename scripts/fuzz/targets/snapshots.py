# SPDX-License-Identifier: Apache-2.0
"""What containerd's clients send beside the messages themselves, which protobuf reads."""

from __future__ import annotations

from scripts.fuzz.target import Target

from lamella.services.containerd.filters import MOST_BYTES, parse
from lamella.store.snapshot_model import Kind, Snapshot

_SNAPSHOTS = (
    Snapshot(
        "default/1/extract sha256:00", "", Kind.ACTIVE, 0, 0, {"containerd.io/gc.root": "now", "a": "\u00e9"}
    ),
    Snapshot("sha256:00", "sha256:01", Kind.COMMITTED, 0, 0, {}),
)


def _read_filters(data: bytes) -> object:
    matches = parse(data.decode("utf-8", "replace").split("\0"))
    return tuple(matches(snapshot) for snapshot in _SNAPSHOTS)


def _long() -> list[bytes]:
    units = (
        b"name,",
        b"labels.",
        b"name~=a,",
        b'"\\x41".',
        b"=",
        b" ",
        b'"',
        b"/",
        b"\\",
        b"\0",
        b"(",
        b"(a*)*",
    )
    made = [(unit * MOST_BYTES)[: MOST_BYTES - 1] for unit in units]
    return [*made, *(b"name~=|" + text.replace(b'"', b"x")[: MOST_BYTES - 9] + b"|" for text in made)]


TARGETS = [
    Target(
        "snapshot-filters",
        lambda: [
            b"kind==active",
            b'labels."containerd.io/gc.root",parent!=""\0name~=|^default/.*/extract|',
            rb'labels."\x61"=="\u00e9", name ~= /sha256:[0-9a-f]{2}(?i)\101/',
            b"labels.a==\xc3\xa9,name!=foo-bar.baz_1,parent~=sha",
        ],
        _read_filters,
        large=_long,
        words=(
            b"==",
            b"!=",
            b"~=",
            b"labels.",
            b"name",
            b"kind",
            b"\\x",
            b"\\u",
            b"\\U",
            b"(?P<n>",
            b"{1,1000}",
        ),
    )
]
