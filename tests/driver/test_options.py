# SPDX-License-Identifier: Apache-2.0
"""The ``dm.*`` options: Docker's defaults, checks and words."""

from __future__ import annotations

import pytest

from lamella.driver.engines import check_filesystem
from lamella.driver.options import GIB, METADATA_MAX, REFUSED, Options, merge, parse
from lamella.errors import UnsupportedError, UsageError


def test_defaults_are_dockers() -> None:
    made = parse([])
    assert made == Options()
    assert (made.base_size, made.loop_data_size, made.loop_metadata_size) == (10 * GIB, 100 * GIB, 2 * GIB)
    assert (made.chunk_size, made.min_free_percent) == (64 << 10, 10)
    assert made.deferred_deletion
    assert made.deferred_removal
    assert made.discard_on_delete


def test_all_options() -> None:
    made = parse(
        [
            "DM.BaseSize=20G",
            "dm.fs=ext4",
            "dm.mkfsarg=-O",
            "dm.mkfsarg=^has_journal",
            "dm.mountopt=nodiscard,noatime",
            "dm.mountopt=ro",
            "dm.loopdatasize=1t",
            "dm.loopmetadatasize=4GB",
            "dm.blocksize=512k",
            "dm.min_free_space=0%",
            "dm.use_deferred_removal=T",
            "dm.use_deferred_deletion=1",
            "dm.blkdiscard=false",
            "dm.override_udev_sync_check=true",
        ]
    )
    assert made == Options(
        base_size=20 * GIB,
        mkfs_args=("-O", "^has_journal"),
        mount_options=("nodiscard", "noatime", "ro"),
        loop_data_size=1024 * GIB,
        loop_metadata_size=4 * GIB,
        chunk_size=512 << 10,
        min_free_percent=0,
        discard_on_delete=False,
    )
    assert "dm.basesize" in made.given


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("dm.nonsense=1", "devmapper: Unknown option dm.nonsense"),
        ("dm.basesize", "Unable to parse key/value option: dm.basesize"),
        ("dm.basesize=\n1G", "Unable to parse key/value option"),
        ("dm.basesize=big", "invalid size for dm.basesize"),
        ("dm.basesize=1", "Invalid value 1 for option dm.basesize"),
        ("dm.fs=btrfs", "devmapper: Unsupported filesystem btrfs"),
        ("dm.blocksize=100k", "Invalid value 100k for option dm.blocksize"),
        ("dm.blocksize=2G", "Invalid value 2G for option dm.blocksize"),
        ("dm.loopmetadatasize=16G", "Invalid value 16G for option dm.loopmetadatasize"),
        ("dm.min_free_space=10", "devmapper: Option dm.min_free_space requires % suffix"),
        ("dm.min_free_space=100%", "devmapper: Invalid value 100% for option dm.min_free_space"),
        ("dm.min_free_space=-1%", "devmapper: Invalid value -1% for option dm.min_free_space"),
        ("dm.blkdiscard=yes", "Invalid value yes for option dm.blkdiscard"),
        ("dm.mkfsarg=", "Invalid value  for option dm.mkfsarg"),
        ("dm.xfs_nospace_max_retries=-1", "Invalid value -1 for option dm.xfs_nospace_max_retries"),
    ],
)
def test_what_makes_no_sense(option: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse([option])
    assert words in caught.value.message
    assert caught.value.hint


def test_the_largest_metadata_device() -> None:
    assert parse([f"dm.loopmetadatasize={METADATA_MAX}"]).loop_metadata_size == METADATA_MAX


def test_xfs_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedError, match="kernel that mounts") as caught:
        check_filesystem("user", parse(["dm.fs=xfs"]))
    assert "dm.fs=ext4" in str(caught.value.hint)
    with pytest.raises(UsageError, match="too small"):
        check_filesystem("kernel", parse(["dm.fs=xfs", "dm.basesize=64M"]))
    made = parse(["dm.fs=xfs", "dm.xfs_nospace_max_retries=0"])
    assert (made.filesystem, made.xfs_nospace_max_retries) == ("xfs", 0)


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_options_of_other_modes_are_refused_with_the_reason(key: str) -> None:
    with pytest.raises(UnsupportedError, match=key):
        parse([f"{key}=1"])


def test_deferred_deletion_needs_deferred_removal() -> None:
    with pytest.raises(UsageError, match="Deferred deletion can not be enabled as deferred removal"):
        parse(["dm.use_deferred_removal=false", "dm.use_deferred_deletion=true"])
    made = parse(["dm.use_deferred_removal=false"])
    assert not made.deferred_deletion


def test_merging_replaces_what_is_given_again() -> None:
    stored = ["dm.basesize=10G", "dm.mkfsarg=-O", "dm.mkfsarg=x", "dm.min_free_space=5%"]
    assert merge(stored, ["DM.basesize=20G"]) == [*stored[1:], "DM.basesize=20G"]
    assert merge(stored, ["dm.mkfsarg=y"]) == ["dm.basesize=10G", "dm.min_free_space=5%", "dm.mkfsarg=y"]
