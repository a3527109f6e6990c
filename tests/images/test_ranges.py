# SPDX-License-Identifier: Apache-2.0
"""A download that was cut goes on, whatever a registry answers to a Range request.

RFC 9110, section 14.2: a server may ignore the field; 15.3.7: what a 206 holds, its Content-Range says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.errors import BadInputError
from lamella.images.digest import file_name
from tests.images.fake_registry import Handler, Server, broken_after
from tests.images.pulling import BIG, pull
from tests.support.images import Sample, compact, sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAYER = BIG.diff_ids[0]
HAD = 300_000


def answer(code: int, start: int | None = None, length: int | None = None, **headers: str) -> object:
    """A fault, in answer to any range: *length* bytes of the blob from *start* on."""

    def fault(handler: Handler) -> bool:
        if "Range" not in handler.headers:
            return False
        blob = handler.it.blobs[LAYER]
        body = b"no" if start is None else blob[start : len(blob) if length is None else start + length]
        handler.reply(code, body, **headers)
        return True

    return fault


def piecewise(size: int) -> Callable[[Handler], bool]:
    """A fault: at most *size* bytes in answer to a range, with a right Content-Range."""

    def fault(handler: Handler) -> bool:
        wanted = handler.headers.get("Range", "")
        if not wanted:
            return False
        blob, start = handler.it.blobs[LAYER], int(wanted[6:-1])
        end = min(start + size, len(blob))
        handler.reply(206, blob[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(blob)}")
        return True

    return fault


@pytest.mark.parametrize(
    "fault",
    [
        answer(200, 0),
        answer(206, HAD),
        answer(206, HAD, Content_Range="bytes"),
        answer(206, 0, Content_Range="bytes 0-899999/*"),
        answer(206, HAD - 1, Content_Range=f"bytes {HAD - 1}-899999/*"),
        answer(206, HAD + 1, Content_Range=f"bytes {HAD + 1}-899999/*"),
        answer(206, HAD, Content_Range=f"items {HAD}-899999/*"),
        answer(206, HAD, Content_Type="multipart/byteranges; boundary=x"),
        answer(400),
        answer(403),
        answer(404),
        answer(405),
        answer(416),
        answer(416, Content_Range="bytes */1"),
        answer(500),
        answer(501),
        answer(204),
    ],
)
def test_it_goes_on(
    tmp_path: Path, server: Server, sleeps: list[float], fault: Callable[[Handler], bool]
) -> None:
    server.behaviour.add(BIG)
    folder = tmp_path / "dl"
    folder.mkdir()
    (folder / (file_name(LAYER) + ".partial")).write_bytes(server.behaviour.blobs[LAYER][:HAD])
    server.behaviour.faults = [(LAYER, fault)] * 3
    pull(server, folder, sample=BIG)


def test_pieces_are_asked_for_one_after_another(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    server.behaviour.add(BIG)
    folder = tmp_path / "dl"
    folder.mkdir()
    (folder / (file_name(LAYER) + ".partial")).write_bytes(server.behaviour.blobs[LAYER][:HAD])
    server.behaviour.faults = [(LAYER, piecewise(20_000))] * 100
    pull(server, folder, sample=BIG)
    assert not sleeps


def test_a_range_from_elsewhere_is_not_put_in(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    """Of the same length and at the wrong place: the bytes are not taken, whatever the digest would say."""
    server.behaviour.add(BIG)
    server.behaviour.faults = [
        (LAYER, broken_after(HAD)),
        (LAYER, answer(206, 0, Content_Range=f"bytes {HAD // 2}-{HAD // 2 + 10}/900000")),
    ]
    pull(server, tmp_path / "dl", sample=BIG)
    asked = [asked.headers.get("Range") for asked in server.behaviour.asked if LAYER in asked.path]
    assert asked[0] is None
    assert asked[1:] == ["bytes=300000-", None], "once refused, the whole is asked for"


def _with_size(server: Server, size: int, digest: str | None = None) -> None:
    described, _ = Sample().manifest()
    described["layers"][0] |= {"size": size} | ({"digest": digest} if digest else {})
    body = compact(described)
    server.behaviour.manifests["1"] = (Sample().manifest_type(), body)


def test_a_layer_of_size_0_is_the_manifests_fault(tmp_path: Path, server: Server) -> None:
    _with_size(server, 0)
    with pytest.raises(BadInputError, match=r"the manifest says that the layer .* has 0 bytes"):
        pull(server, tmp_path / "dl")
    assert not server.behaviour.paths(Sample().manifest()[0]["layers"][0]["digest"])


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
def test_an_empty_layer(tmp_path: Path, server: Server, compression: str) -> None:
    empty = Sample(layers=[b"", *Sample().layers], compression=compression)
    server.behaviour.add(empty)
    assert compression != "plain" or sha256(b"") in empty.diff_ids
    pull(server, tmp_path / "dl", sample=empty)


@pytest.mark.usefixtures("sleeps")
@pytest.mark.parametrize("more", [1, 500_000])
def test_bytes_after_a_layer_are_told(tmp_path: Path, server: Server, more: int) -> None:
    server.behaviour.add(BIG)
    server.behaviour.blobs[LAYER] += bytes(more)
    with pytest.raises(BadInputError, match=r"is longer than the \d+ bytes of its manifest"):
        pull(server, tmp_path / "dl", sample=BIG)
    assert not (tmp_path / "dl" / (file_name(LAYER) + ".partial")).exists()


@pytest.mark.usefixtures("sleeps")
def test_a_download_is_compared_to_the_last_digit(tmp_path: Path, server: Server) -> None:
    wrong = LAYER[:-1] + ("0" if LAYER[-1] != "0" else "1")
    described, _ = BIG.manifest()
    described["layers"][0]["digest"] = wrong
    server.behaviour.add(BIG)
    server.behaviour.blobs[wrong] = server.behaviour.blobs[LAYER]
    server.behaviour.manifests["1"] = (BIG.manifest_type(), compact(described))
    with pytest.raises(BadInputError, match=f"has the wrong digest: {wrong} expected, {LAYER} found"):
        pull(server, tmp_path / "dl", sample=BIG)
