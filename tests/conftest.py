# SPDX-License-Identifier: Apache-2.0
"""What all tests share: finding the oracles, and the stores and metadata made by the real programs."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import HealthCheck, settings

from tests.support.docker_stores import allow_time, docker_store  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A busy or slow machine is no reason to fail; and what must hold before a change lands looks at the same
# examples each time (CI is set there), so that a failure can be seen again. Elsewhere they are new ones.
settings.register_profile(
    "lamella", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lamella")

SAFELY: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""For ``extractall``; Python before 3.11.4 has no filters."""
REQUIRE_TOOLS = os.environ.get("LAMELLA_REQUIRE_TOOLS") == "1"
OWN_FIXTURES = Path(__file__).parent / "fixtures"
FIXTURES = Path(os.environ.get("LAMELLA_FIXTURES", OWN_FIXTURES))
"""Where fixtures are looked for before the project's own: those that were made anew, say."""

os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def missing(what: str) -> None:
    """Skip and say what is missing; fail instead where LAMELLA_REQUIRE_TOOLS=1 says that nothing may be."""
    if REQUIRE_TOOLS:
        pytest.fail(f"{what} is missing, and LAMELLA_REQUIRE_TOOLS=1 allows no skips")
    pytest.skip(f"{what} is not here")


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """``tool("thin_check")`` gives the program's path, or skips the test and says so."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing(f"the program {name}")
        assert path is not None
        return path

    return find


def fixture_path(name: str) -> Path:
    """Where the fixture *name* is; a test without it is skipped or fails, as :func:`missing` says."""
    for folder in (FIXTURES, OWN_FIXTURES):
        if (folder / name).exists():
            return folder / name
    missing(f"the fixture {name} (made by the real kernel, LVM2 or Docker)")
    raise AssertionError


def transcripts() -> dict[str, str]:
    """By name, what sessions with the real tools printed; ``tests/fixtures/README.md`` says of what."""
    found = {}
    for folder in (OWN_FIXTURES, FIXTURES):
        for path in (folder / "transcripts").glob("*.txt"):
            found[path.stem] = path.read_text()
    if not found:
        missing("the fixture transcripts (sessions with the real LVM2 and dmsetup)")
    return found


@pytest.fixture(scope="session")
def fixture_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """``fixture_dir("thin-a.tar.zst")`` unpacks a fixture once and gives the folder; removed at the end."""
    unpacked: dict[str, Path] = {}

    def get(name: str) -> Path:
        source = fixture_path(name)
        if name not in unpacked:
            target = tmp_path_factory.mktemp(name.split(".")[0])
            with (
                source.open("rb") as packed,
                zstandard.ZstdDecompressor().stream_reader(packed) as stream,
                tarfile.open(fileobj=stream, mode="r|") as archive,
            ):
                archive.extractall(target, **SAFELY)  # what is sparse in it stays so
            unpacked[name] = target
        return unpacked[name]

    yield get
    for folder in unpacked.values():  # pytest keeps them all where one test failed
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    allow_time(items)
