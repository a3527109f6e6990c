# SPDX-License-Identifier: Apache-2.0
"""Archives that are cut, damaged, contradictory or malicious: one clear error each, never a traceback."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.errors import BadInputError, LamellaError, NotFoundError, UnsupportedError
from lamella.images import tar_index
from lamella.images.archive import open_archive
from tests.support.images import (
    Sample,
    compact,
    compress,
    make_tar,
    run,
    sha256,
    write_docker_archive,
    write_index,
    write_oci_archive,
    write_oci_layout,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def read_everything(path: Path) -> None:
    """Open *path* and read all layers of all images."""
    with open_archive(path) as source:
        for image in source.images():
            for layer in image.layers:
                with layer.open(max_size=1 << 26):
                    pass


def _archive(tmp_path: Path, files: dict[str, bytes | None], *extra: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(make_tar(files, members=list(extra)))
    return path


def _files(**changes: Any) -> dict[str, bytes | None]:
    sample = Sample()
    names = ["a.tar", "b.tar", "c.tar"]
    entry = {"Config": "config.json", "RepoTags": ["x:1"], "Layers": names} | changes
    files: dict[str, bytes | None] = dict(zip(names, sample.layers, strict=True))
    return files | {"config.json": sample.config, "manifest.json": compact([entry])}


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def test_the_base_of_these_tests_is_good(tmp_path: Path) -> None:
    read_everything(_archive(tmp_path, _files()))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Config": None}, "names no configuration"),
        ({"Config": "nowhere"}, "does not have the configuration"),
        ({"Config": "../../../etc/passwd"}, "does not have the configuration"),
        ({"Config": 5}, "should be a string"),
        ({"Config": "a.tar"}, "not valid JSON"),
        ({"Layers": ["a.tar"]}, "3 diff ids, but 1 layers"),
        ({"Layers": ["a.tar", "b.tar", "nowhere"]}, "does not have the layer"),
        ({"Layers": ["a.tar", "b.tar", "/etc/passwd"]}, "does not have the layer"),
        ({"Layers": ["a.tar", "c.tar", "b.tar"]}, "diff id it should have"),
        ({"Layers": ["a.tar", "b.tar", "config.json"]}, "diff id it should have"),
        ({"Layers": "a.tar"}, "should be a list"),
        ({"Layers": [1, 2, 3]}, "should be a string"),
        ({"RepoTags": ["UPPER:1"]}, "must be lowercase"),
        ({"RepoTags": "x:1"}, "should be a list"),
        ({"RepoTags": ["x:1\n\x1b[31m"]}, "invalid reference format"),
    ],
)
def test_a_wrong_manifest_json(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        read_everything(_archive(tmp_path, _files(**changes)))


@pytest.mark.parametrize("body", [b"{}", b"[]", b"[5]", b"null", b"", b"[" * 50_000, b"\xff"])
def test_no_manifest_json_at_all(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(BadInputError):
        open_archive(_archive(tmp_path, _files() | {"manifest.json": body}))


def test_a_configuration_under_a_false_name(tmp_path: Path) -> None:
    name = "0" * 64 + ".json"
    files = _files(Config=name)
    files[name] = files["config.json"]
    with pytest.raises(BadInputError, match="does not have the digest"):
        open_archive(_archive(tmp_path, files))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "/../x"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match="points outside the archive"):
        open_archive(_archive(tmp_path, _files() | {name: b"x"}))


@pytest.mark.parametrize(
    ("target", "kind"),
    [("/etc/passwd", tarfile.SYMTYPE), ("../../etc/passwd", tarfile.SYMTYPE), ("../x", tarfile.LNKTYPE)],
)
def test_links_that_lead_out(tmp_path: Path, target: str, kind: bytes) -> None:
    files = _files()
    del files["c.tar"]
    with pytest.raises(BadInputError, match="points outside the archive"):
        read_everything(_archive(tmp_path, files, _link("c.tar", target, kind)))


def test_links_in_circles_and_to_nothing(tmp_path: Path) -> None:
    files = _files()
    del files["c.tar"]
    with pytest.raises(BadInputError, match="cannot be resolved"):
        read_everything(_archive(tmp_path, files, _link("c.tar", "d"), _link("d", "c.tar")))
    with pytest.raises(BadInputError, match="does not have the layer"):
        read_everything(_archive(tmp_path, files, _link("c.tar", "nothing")))
    files["real"] = Sample().layers[2]
    read_everything(_archive(tmp_path, files, _link("c.tar", "d"), _link("d", "real", tarfile.LNKTYPE)))


def test_a_second_manifest_is_not_believed(tmp_path: Path) -> None:
    info = tarfile.TarInfo("./manifest.json")
    info.size = 2
    with pytest.raises(BadInputError, match=r"two members called manifest\.json"):
        open_archive(_archive(tmp_path, _files(), (info, b"[]")))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_device_nodes_and_pipes_as_layers(tmp_path: Path, kind: bytes) -> None:
    files = _files()
    del files["c.tar"]
    with pytest.raises(BadInputError, match="does not have the layer"):
        read_everything(_archive(tmp_path, files, _link("c.tar", "", kind)))


def test_absurd_sizes(tmp_path: Path) -> None:
    path = _archive(tmp_path, _files())
    data = bytearray(path.read_bytes())
    for size in (b"77777777777\0", b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7, b"\xff" * 12, b"9" * 12):
        data[124:136] = size
        data[148:156] = b"        "
        data[148:156] = b"%06o\0 " % sum(data[:512])
        path.write_bytes(data)
        with pytest.raises(BadInputError):
            open_archive(path)
    for pax in ("99999999999999999999999", "-1", "1e5", ""):
        info = tarfile.TarInfo("x")
        info.pax_headers = {"size": pax, "comment": "x"}
        with contextlib.suppress(BadInputError):
            open_archive(_archive(tmp_path, _files(), (info, b"")))


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_index, "MEMBER_LIMIT", 4)
    with pytest.raises(BadInputError, match="more than 4 members"):
        open_archive(_archive(tmp_path, _files()))


def test_sparse_members_and_bad_extensions(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.pax_headers = {"GNU.sparse.major": "1"}
    with pytest.raises(BadInputError, match="sparse"):
        open_archive(_archive(tmp_path, {}, (info, b"")))
    for body in (
        b"5 a=b",
        b"99 path=x\n",
        b"path=x\n",
        b"-5 a=b\n",
        b"9" * 30,
        b"10 path=x\n" * 2,
        b"6 ab=\n7 c\n",
    ):
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, len(body)
        raw = header.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0") + make_tar(_files())
        (tmp_path / "pax.tar").write_bytes(raw)
        with contextlib.suppress(BadInputError):
            open_archive(tmp_path / "pax.tar")
    header.size = 1 << 30
    (tmp_path / "pax.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(BadInputError):
        open_archive(tmp_path / "pax.tar")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"hello\n", id="short text"),
        pytest.param(b"x" * 5000, id="long text"),
        pytest.param(b"\x1f\x8b\x08rubbish", id="gzip"),
        pytest.param(b"\x28\xb5\x2f\xfdrubbish", id="zstd"),
        pytest.param(b"", id="empty"),
        pytest.param(bytes(10240), id="zeros"),
        pytest.param(b"PK\x03\x04", id="zip"),
    ],
)
def test_content_of_another_kind(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "it").write_bytes(body)
    with pytest.raises(BadInputError):
        open_archive(tmp_path / "it")


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(make_tar({"etc/": None}))
    with pytest.raises(BadInputError, match=r"neither manifest\.json nor index\.json"):
        open_archive(tmp_path / "it")
    with pytest.raises(NotFoundError):
        open_archive(tmp_path / "none")
    with pytest.raises(BadInputError, match="not an OCI layout"):
        open_archive(tmp_path)
    with pytest.raises(BadInputError, match="not a file"):
        open_archive("/dev/null")


@pytest.mark.parametrize("make", [write_docker_archive, write_oci_archive])
def test_an_archive_cut_at_every_place(tmp_path: Path, make: Callable[..., Path]) -> None:
    whole = make(tmp_path / "whole.tar", [Sample(layers=[make_tar({"a": b"1"})])]).read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in [*range(0, end, 97), *range(0, end, 512)]:
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        try:
            read_everything(tmp_path / "cut.tar")
        except BadInputError:
            continue
        # Only what nobody needs is missing: `repositories`, or `oci-layout`, which are last.
        assert (
            length >= whole.index(b"manifest.json" if make is write_docker_archive else b"index.json") + 512
        )


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_a_compressed_archive_that_is_cut(tmp_path: Path, how: str) -> None:
    whole = compress(write_docker_archive(tmp_path / "whole.tar").read_bytes(), how)
    for length in (20, len(whole) // 3, len(whole) // 2):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(BadInputError):
            read_everything(tmp_path / "cut.tar")


def test_a_layout_with_wrong_blobs(tmp_path: Path) -> None:
    layout = write_oci_layout(tmp_path / "layout")
    blobs = sorted((layout / "blobs/sha256").iterdir())
    for blob in blobs:
        good = blob.read_bytes()
        for bad in (good[:-1], good + b" ", good[:10] + b"X" + good[11:], b""):
            blob.write_bytes(bad)
            with pytest.raises(BadInputError):
                read_everything(layout)
        blob.unlink()
        with pytest.raises((BadInputError, NotFoundError)):
            read_everything(layout)
        os.mkfifo(blob)
        with pytest.raises(BadInputError, match="not a regular file"):
            read_everything(layout)
        blob.unlink()
        blob.mkdir()
        with pytest.raises(BadInputError):
            read_everything(layout)
        blob.rmdir()
        blob.write_bytes(good)
    read_everything(layout)


def test_a_layout_that_lies_about_sizes_and_versions(tmp_path: Path) -> None:
    layout = write_oci_layout(tmp_path / "layout")
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0]["size"] += 1
    write_index(layout, index["manifests"])
    with pytest.raises(BadInputError, match="wrong size"):
        read_everything(layout)
    index["manifests"][0]["size"] = 1 << 40
    write_index(layout, index["manifests"])
    with pytest.raises(BadInputError, match="no more than"):
        read_everything(layout)
    write_index(layout, [])
    with pytest.raises(BadInputError, match="contains no images"):
        read_everything(layout)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "7"}')
    with pytest.raises(UnsupportedError, match="unknown version"):
        read_everything(layout)


def test_a_huge_document_is_not_read(tmp_path: Path) -> None:
    layout = write_oci_layout(tmp_path / "layout")
    with (layout / "index.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadInputError, match="no more than"):
        open_archive(layout)


def test_a_layer_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(1 << 27), 9)
    config = compact({"rootfs": {"type": "layers", "diff_ids": [sha256(b"?")]}})
    entry = [{"Config": "c", "RepoTags": [], "Layers": ["l"]}]
    path = _archive(tmp_path, {"c": config, "l": bomb, "manifest.json": compact(entry)})
    with pytest.raises(BadInputError, match="larger than"):
        read_everything(path)


def test_no_room_for_the_copy(tmp_path: Path) -> None:
    path = write_docker_archive(tmp_path / "image.tar", whole="gzip")
    code = (
        "import resource, sys\n"
        "from lamella.errors import NoSpaceError\n"
        "from lamella.images.archive import open_archive\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))\n"
        "try:\n    open_archive(sys.argv[1])\n"
        "except NoSpaceError as error:\n    print(error)\n"
    )

    assert "cannot write a temporary copy" in run(sys.executable, "-c", code, path)


_SMALL = Sample(layers=[make_tar({"a": b"1"}), make_tar({".wh.a": b""})])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_in_an_archive(tmp_path: Path, data: st.DataObject) -> None:
    style = data.draw(st.sampled_from(["classic", "modern", "oci"]))
    path = tmp_path / "fuzz.tar"
    if style == "oci":
        write_oci_archive(path, [_SMALL])
    else:
        write_docker_archive(path, [_SMALL], style=style)
    body = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        noise = data.draw(
            st.binary(min_size=1, max_size=40) | st.sampled_from([b"\0" * 512, b"\xff" * 12, b"../", b"9"])
        )
        body[place : place + len(noise)] = noise
    path.write_bytes(body)
    with contextlib.suppress(LamellaError):
        read_everything(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "Config": st.sampled_from(["config.json", "a.tar", "", "x"]) | st.integers() | st.none(),
                "RepoTags": st.lists(st.text(max_size=5) | st.sampled_from(["a:1", "b"]), max_size=2)
                | st.text(),
                "Layers": st.lists(
                    st.sampled_from(["a.tar", "b.tar", "c.tar", "config.json", ""]), max_size=4
                ),
            },
        ),
        max_size=3,
    )
)
def test_any_manifest_json(tmp_path: Path, entries: list[dict[str, Any]]) -> None:
    files = _files() | {"manifest.json": compact(entries)}
    with contextlib.suppress(LamellaError):
        read_everything(_archive(tmp_path, files))


def test_an_empty_layer_blob(tmp_path: Path) -> None:
    config = compact({"rootfs": {"type": "layers", "diff_ids": [sha256(b"")]}})
    entry = [{"Config": "c", "RepoTags": None, "Layers": ["l"]}]
    read_everything(_archive(tmp_path, {"c": config, "l": b"", "manifest.json": compact(entry)}))
