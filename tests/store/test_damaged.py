# SPDX-License-Identifier: Apache-2.0
"""What a repair of the pool could not save is marked, refused, named, and unpacked anew by the next load."""

from __future__ import annotations

import hashlib
import io
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from lamella.cli.main import main
from lamella.driver.state import BASE, State
from lamella.errors import CorruptError, LamellaError
from lamella.store import Store, schema
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.check import check
from tests.support.images import SAMPLE_LAYERS, Sample, write_oci_layout
from tests.support.registry import running_registry
from tests.support.stores import assert_sound, assert_sound_for_real_tools, pool_devices, yes
from tests.thin.judges import since_1

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOISE = bytes(range(256)) * (BLOCK_SIZE // 256)


def _devices(root: Path) -> dict[str, int]:
    """Thin device ids: of the base, of the layers from the lowest as "0" and so on, and of containers."""
    with closing(State.open(root / "state.db", schema, read_only=True)) as state:
        found = {BASE: state.device(BASE)}
        rows = {row["parent"]: row for row in state.rows("SELECT * FROM layers")}
        parent, number = None, 0
        while parent in rows:
            found[str(number)] = state.device(rows[parent]["device"])
            parent, number = rows[parent]["chain_id"], number + 1
        for row in state.rows("SELECT * FROM containers"):
            found[row["name"]] = state.device(row["device"])
    return {name: device.device_id for name, device in found.items() if device is not None}


def _lose(root: Path, *names: str) -> None:
    """Lose the mappings of these devices, which they share with no other, and repair the pool."""
    _damage(root, *names)
    assert Store.repair(root, agree=yes).kept


def _damage(root: Path, *names: str) -> None:
    """Overwrite the mappings of these devices, and older copies of them: nothing can be saved from these."""
    numbers = _devices(root)
    with pool_devices(root) as devices:
        found = Metadata.open(devices.metadata)
        references = check(devices.metadata).metadata_references
        assert references is not None
        for block in np.flatnonzero(
            references.counts(0, found.superblock.metadata_sm_root.nr_blocks) == 0
        ).tolist():
            if any(devices.metadata.read(block * BLOCK_SIZE, BLOCK_SIZE)):
                devices.metadata.write(block * BLOCK_SIZE, NOISE)
        for name in names:
            devices.metadata.write(found.roots[numbers[name]] * BLOCK_SIZE, NOISE)
        devices.metadata.flush()


def _lose_to_thin_repair(root: Path, *names: str) -> None:
    """The same, repaired by the program that LVM2 runs."""
    if since_1():
        pytest.skip("this version of thin_repair gives the whole metadata up when one device is lost")
    _damage(root, *names)
    _replace_metadata(root, "thin_repair")


def _lose_a_mapping(root: Path, *names: str) -> None:
    """Take one mapping from each of these devices, as a lost leaf does, with the real tools."""
    numbers = _devices(root)
    _replace_metadata(root, "thin_dump", "thin_restore", without_one_of={numbers[name] for name in names})


def _replace_metadata(root: Path, *programs: str, without_one_of: set[int] | None = None) -> None:
    """Put in the place of the pool's metadata what these programs make of it."""
    old, new, xml = (root.parent / name for name in ("old.metadata", "new.metadata", "metadata.xml"))
    with pool_devices(root) as devices:
        old.write_bytes(devices.metadata.read(0, devices.metadata.size))
        new.write_bytes(bytes(devices.metadata.size))
        if programs == ("thin_repair",):
            subprocess.run(["thin_repair", "-i", old, "-o", new], check=True, stdout=subprocess.DEVNULL)
        else:
            subprocess.run(["thin_dump", old, "-o", xml], check=True)
            tree = ElementTree.parse(xml)
            shared = {each.attrib["name"]: _mapped(each) for each in tree.iter("def")}
            for device in tree.iter("device"):
                if int(device.attrib["dev_id"]) in (without_one_of or ()):
                    _drop_one_mapping(device)
                    device.attrib["mapped_blocks"] = str(_mapped(device, shared))
            tree.write(xml)
            subprocess.run(["thin_restore", "-i", xml, "-o", new], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["thin_check", new], check=True, stdout=subprocess.DEVNULL)
        devices.metadata.write(0, new.read_bytes())
        devices.metadata.flush()


def _mapped(parent: ElementTree.Element, shared: dict[str, int] | None = None) -> int:
    """The number of data blocks mapped below *parent*; *shared*: how many each ``def`` has."""
    counts = {"single_mapping": lambda each: 1, "range_mapping": lambda each: int(each.attrib["length"])}
    counts["ref"] = lambda each: (shared or {})[each.attrib["name"]]
    return sum(counts[each.tag](each) for each in parent)


def _drop_one_mapping(device: ElementTree.Element) -> None:
    """Or, where thin_dump writes what devices share only once, the last such part of them."""
    last = device[-1]
    if last.tag == "range_mapping" and last.attrib["length"] != "1":
        last.attrib["length"] = str(int(last.attrib["length"]) - 1)
    else:
        device.remove(last)


def _delete(root: Path, *names: str) -> None:
    """Delete the thin devices as another program would."""
    numbers = _devices(root)
    with (
        pool_devices(root) as devices,
        Pool.open(devices.metadata, devices.data, options=PoolOptions(zero=False)) as pool,
    ):
        for name in names:
            pool.delete(numbers[name])


def _image(store: Store, name: str) -> tuple[bytes, str]:
    """All files of *name*, and the digest of what saving it writes."""
    tree, saved = io.BytesIO(), io.BytesIO()
    store.export(name, tree)
    store.save([name], saved)
    return tree.getvalue(), hashlib.sha256(saved.getvalue()).hexdigest()


@pytest.fixture
def boxed(root: Path) -> Path:
    """A store with a container, which has a file of its own, and mappings that no other device shares."""
    with Store.open(root) as store:
        store.create("sample", name="box")
        path = root.parent / "hello"
        path.write_bytes(b"hello" * 100_000)
        store.copy_in("box", path, b"/hello")
    return root


@pytest.mark.parametrize("how", [_lose, _delete, _lose_to_thin_repair, _lose_a_mapping])
@pytest.mark.parametrize("lost", [("2",), ("1",), ("0",), ("0", "2"), ("0", "1", "2")])
def test_a_lost_layer_is_unpacked_anew(
    boxed: Path, lost: tuple[str, ...], how: object, sample_layout: Path, tmp_path: Path
) -> None:
    assert callable(how)
    with Store.open(boxed, read_only=True) as store:
        whole = _image(store, "sample")
        changes = store.diff("box")
    how(boxed, *lost)
    with Store.open(boxed) as store:
        problems = store.check().problems
        assert len(problems) == len(lost)
        assert all(problem.startswith("image sample:latest: ") for problem in problems)
        assert all("load or pull the image again" in problem for problem in problems)
        assert "lamella load -i ARCHIVE" in store.check().advice
        with pytest.raises(CorruptError, match="cannot save sample: its layer"):
            store.save(["sample"], io.BytesIO())
        if "2" in lost:
            for refused in (
                lambda: store.create("sample"),
                lambda: store.diff("box"),
                lambda: store.commit("box", "mine:1"),
            ):
                with pytest.raises(CorruptError, match="is damaged"):
                    refused()
            assert [each.name for each in store.containers()] == ["box"]
        assert [image.references for image in store.load(sample_layout)] == [["sample:latest"]]
    with Store.open(boxed) as store:
        assert store.check().problems == []
        assert _image(store, "sample") == whole
        assert store.diff("box") == changes
        store.create("sample", name="new")
        assert store.diff("new") == []
        store.commit("box", "mine:1")
        store.create("mine:1", name="third")
        with store.tree("third") as tree:
            assert b"".join(tree.read(b"/hello")) == b"hello" * 100_000
    assert_sound(boxed)
    assert_sound_for_real_tools(boxed, tmp_path)


@pytest.mark.loop_lvm
def test_a_layer_of_an_image_that_was_removed_by_force_is_unpacked_anew(
    boxed: Path, sample_layout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _lose(boxed, "2")
    assert main(["--root", str(boxed), "rmi", "-f", "sample"]) == 0
    assert main(["--root", str(boxed), "check"]) == 6
    assert "a layer of container box" in capsys.readouterr().out
    assert main(["--root", str(boxed), "load", "-i", str(sample_layout)]) == 0
    assert main(["--root", str(boxed), "create", "--name", "new", "sample"]) == 0
    assert main(["--root", str(boxed), "ls", "new:/"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == ["bin", "etc", "new"]
    assert main(["--root", str(boxed), "check"]) == 0


@pytest.mark.loop_lvm
def test_a_lost_layer_is_pulled_again(boxed: Path, tmp_path: Path, sample_layout: Path) -> None:
    with running_registry(tmp_path / "registry") as registry:
        name = registry.push(f"oci:{sample_layout}:latest", "me/sample:1")
        with Store.open(boxed) as store:
            store.pull(name, insecure_registry=True)
        _lose(boxed, "1", "2")
        with Store.open(boxed) as store:
            assert f"lamella pull {store.images()[0].references[0]}" in store.check().advice
            store.pull(name, insecure_registry=True)
            assert store.check().problems == []
            store.create("sample", name="new")


@pytest.mark.loop_lvm
def test_a_load_that_fails_leaves_the_mark(boxed: Path, tmp_path: Path, sample_layout: Path) -> None:
    _lose(boxed, "2")
    broken = Sample()
    layout = write_oci_layout(tmp_path / "layout", [broken])
    manifest, _ = broken.manifest()
    (layout / "blobs/sha256" / manifest["layers"][2]["digest"].partition(":")[2]).write_bytes(b"")
    with Store.open(boxed) as store:
        before = store.check().problems
        with pytest.raises(LamellaError):
            store.load(layout)
        assert store.check().problems == before
        store.load(sample_layout)
        assert store.check().problems == []


@pytest.mark.parametrize("how", [_lose, _delete])
def test_a_lost_base_device_is_made_anew_by_the_next_lowest_layer(
    boxed: Path, how: object, tmp_path: Path
) -> None:
    assert callable(how)
    _lose(boxed, BASE)
    if how is _delete:
        _delete(boxed, BASE)
    with Store.open(boxed) as store:
        (problem,) = store.check().problems
        assert problem.startswith("the base device: ")
        store.create("sample", name="new")  # of a layer, which has its own mappings
        layers = [SAMPLE_LAYERS[2], SAMPLE_LAYERS[0]]
        store.load(write_oci_layout(tmp_path / "layout", [Sample(layers=layers, references=["other:1"])]))
        assert store.check().problems == []
        store.create("other:1", name="third")
    assert_sound(boxed)
    assert_sound_for_real_tools(boxed, tmp_path)


def test_a_damaged_container_is_named_and_can_be_read_and_removed(
    boxed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _lose(boxed, "box")
    assert main(["--root", str(boxed), "check"]) == 6
    said = capsys.readouterr().out
    assert "PROBLEM: container box: a repair saved 0 of its" in said
    assert "next: lamella cp box:/ FOLDER\nnext: lamella rm box" in said
    assert main(["--root", str(boxed), "commit", "box", "mine:1"]) == CorruptError.exit_code
    assert "lamella cp box:/ FOLDER" in capsys.readouterr().err
    assert main(["--root", str(boxed), "ls", "box:/"]) != 0
    assert "WARNING: box is damaged" in capsys.readouterr().err
    assert main(["--root", str(boxed), "rm", "box"]) == 0
    assert main(["--root", str(boxed), "check"]) == 0


def test_marks_of_a_swap_that_fails_are_removed(boxed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lamella.driver import backends

    numbers = _devices(boxed)
    with pool_devices(boxed) as devices:
        root = Metadata.open(devices.metadata).roots[numbers["box"]]
        devices.metadata.write(root * BLOCK_SIZE, NOISE)
        devices.metadata.flush()
    mode = "loop-lvm" if (boxed / "pool/metadata").exists() else "direct-lvm"

    def fail(*_: object) -> None:
        raise CorruptError("no swap today")

    monkeypatch.setattr(type(backends.backend(mode, boxed)), "replace_metadata", fail)
    with pytest.raises(CorruptError, match="no swap today"):
        Store.repair(boxed, agree=yes)
    with closing(State.open(boxed / "state.db", schema, read_only=True)) as state:
        assert {device.damage for device in state.devices()} == {""}


@pytest.mark.parametrize("how", [_lose_to_thin_repair, _lose_a_mapping])
def test_what_another_program_lost_of_a_container_is_named(
    boxed: Path, capsys: pytest.CaptureFixture[str], how: Callable[..., None]
) -> None:
    how(boxed, "box")
    assert main(["--root", str(boxed), "check"]) == 6
    said = capsys.readouterr().out
    assert "PROBLEM: container box: thin device" in said
    assert "next: lamella cp box:/ FOLDER\nnext: lamella rm box" in said
    assert main(["--root", str(boxed), "commit", "box", "mine:1"]) == CorruptError.exit_code
    assert "lamella cp box:/ FOLDER" in capsys.readouterr().err
    main(["--root", str(boxed), "ls", "box:/"])
    assert "WARNING: box is damaged" in capsys.readouterr().err
    assert main(["--root", str(boxed), "rm", "box"]) == 0
    assert main(["--root", str(boxed), "check"]) == 0


def test_the_mark_stays_when_the_container_is_written_to(boxed: Path) -> None:
    _lose_a_mapping(boxed, "box")
    with Store.open(boxed) as store:
        (before,) = store.check().problems
        more = boxed.parent / "more"
        more.write_bytes(b"more" * 500_000)
        store.copy_in("box", more, b"/more")
        store.resize("box", 96 << 20)
        assert store.check().problems == [before]
    with Store.open(boxed) as store:
        assert store.check().problems == [before]


def test_a_container_that_maps_less_by_its_own_changes_is_whole(boxed: Path, tmp_path: Path) -> None:
    with Store.open(boxed) as store:
        empty = tmp_path / "hello"
        empty.write_bytes(b"")
        store.copy_in("box", empty, b"/hello")
        store.copy_in("box", empty, b"/other")
        assert store.check().problems == []
    with Store.open(boxed) as store:
        assert store.check().problems == []


def test_a_store_of_the_former_version_gets_the_counts_of_its_layers(
    boxed: Path, sample_layout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(boxed / "state.db")) as database, database:
        database.execute("ALTER TABLE devices DROP COLUMN mapped")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        database.execute(f"PRAGMA user_version = {version - 1}")
    assert main(["--root", str(boxed), "check"]) == 0  # which only reads
    assert main(["--root", str(boxed), "create", "--name", "new", "sample"]) == 0
    assert main(["--root", str(boxed), "check"]) == 0
    _lose_a_mapping(boxed, "1")
    capsys.readouterr()
    assert main(["--root", str(boxed), "check"]) == 6
    assert "PROBLEM: image sample:latest: thin device" in capsys.readouterr().out
    assert main(["--root", str(boxed), "load", "-i", str(sample_layout)]) == 0
    assert main(["--root", str(boxed), "check"]) == 0
