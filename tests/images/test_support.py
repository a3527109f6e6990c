# SPDX-License-Identifier: Apache-2.0
"""The hand-made images and the registry helper, checked with the real tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.images import (
    COMPRESSIONS,
    Sample,
    run,
    write_docker_archive,
    write_oci_archive,
    write_oci_layout,
)
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_umoci_reads_a_layout_made_by_hand(
    tmp_path: Path, tool: Callable[[str], str], compression: str
) -> None:
    write_oci_layout(tmp_path / "layout", [Sample(compression=compression)])
    if compression == "zstd":  # umoci 0.4.7 does not know zstd; skopeo does
        run(
            tool("skopeo"),
            "--insecure-policy",
            "copy",
            f"oci:{tmp_path}/layout:latest",
            f"dir:{tmp_path}/out",
        )
        return
    run(
        tool("umoci"),
        "raw",
        "unpack",
        "--rootless",
        "--image",
        f"{tmp_path}/layout:latest",
        tmp_path / "root",
    )
    assert (tmp_path / "root/etc/hostname").read_bytes() == b"changed\n"
    assert not (tmp_path / "root/old").exists()
    assert [path.name for path in (tmp_path / "root/new").iterdir()] == ["other"]


@pytest.mark.parametrize("style", ["classic", "modern"])
def test_skopeo_reads_a_docker_archive_made_by_hand(
    tmp_path: Path, tool: Callable[[str], str], style: str
) -> None:
    sample = Sample()
    write_docker_archive(tmp_path / "image.tar", [sample], style=style)
    seen = json.loads(
        run(tool("skopeo"), "inspect", "--raw", "--config", f"docker-archive:{tmp_path}/image.tar")
    )
    assert seen["rootfs"]["diff_ids"] == sample.diff_ids


@pytest.mark.parametrize("basic", [False, True])
def test_an_image_goes_into_the_real_registry(
    tmp_path: Path, tool: Callable[[str], str], basic: bool
) -> None:
    tool("skopeo")
    write_oci_archive(tmp_path / "image.tar")
    with running_registry(tmp_path / "registry", basic=basic) as registry:
        name = registry.push(f"oci-archive:{tmp_path}/image.tar", "some/image:1")
        assert name.endswith("/some/image:1")
        assert (registry.storage / "docker/registry/v2/repositories/some/image/_manifests/tags/1").is_dir()
