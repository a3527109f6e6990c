# SPDX-License-Identifier: Apache-2.0
"""What is logged, where it goes, and what is never in it."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import lamella
from lamella.block import programs
from lamella.cli import log_output
from lamella.cli.main import main
from lamella.devicemapper.table import Linear, Target
from lamella.errors import NotFoundError
from tests.images.fake_registry import PASSWORD, REFRESH, USER, Behaviour, fake_registry
from tests.support.fake_kernel import fake_kernel
from tests.support.images import Sample, write_docker_archive
from tests.support.stores import SMALL

LAMELLA = [sys.executable, "-m", "lamella"]
RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ (DEBUG|INFO) (lamella[a-z_.0-9]*): (.*)")


def lamella_command(
    *words: str | os.PathLike[str], log: str = "", code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of Lamella with ``LAMELLA_LOG=log``; its exit code is *code*."""
    environment = {**os.environ, **environment}
    environment.pop("LAMELLA_LOG", None)
    if log:
        environment["LAMELLA_LOG"] = log
    done = subprocess.run([*LAMELLA, *words], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code, done
    return done


def records(text: str) -> list[tuple[str, str, str]]:
    """(level, logger, message) of each line, all of which are records."""
    found = [RECORD.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [(each[1], each[2], each[3]) for each in found if each is not None]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the sample image; engine: this process."""
    folder = tmp_path_factory.mktemp("logging")
    place = folder / "root"
    options = [word for option in SMALL for word in ("--storage-opt", option)]
    lamella_command("setup", "loop-lvm", "--root", place, "--engine", "user", *options)
    lamella_command("load", "--root", place, "-i", write_docker_archive(folder / "sample.tar"), "--quiet")
    return place


@pytest.fixture(autouse=True)
def _quiet_afterwards(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.delenv("LAMELLA_LOG", raising=False)
    raising = logging.raiseExceptions
    yield
    log_output._install([])
    logging.raiseExceptions = raising


# Levels and places ---------------------------------------------------------------------------


def test_nothing_is_logged_unless_it_is_asked_for(root: Path) -> None:
    assert lamella_command("ps", "--root", root).stderr == ""


def test_verbose_logs_decisions(root: Path) -> None:
    done = lamella_command("create", "--root", root, "--name", "verbose", "sample", "--verbose", "--quiet")
    found = records(done.stderr)
    assert {level for level, _, _ in found} == {"INFO"}
    said = [message for _, _, message in found]
    assert f"store {root}: mode loop-lvm" in said
    assert any(message.startswith("engine user: ") for message in said)
    assert any(re.fullmatch(r"device \w+ \(id \d+\): a snapshot of \w+ \(id \d+\)", text) for text in said)
    assert any(re.fullmatch(r"transaction \d+ committed", message) for message in said)


def test_debug_logs_requests_too(root: Path) -> None:
    done = lamella_command("create", "--debug", "--root", root, "--name", "debug", "sample", "--quiet")
    found = records(done.stderr)
    assert {level for level, _, _ in found} == {"DEBUG", "INFO"}
    said = [message for _, logger, message in found if logger == "lamella.driver.state"]
    assert f"SQL transaction begun in {root}/state.db" in said
    assert "SQL transaction committed" in said
    assert ("DEBUG", "lamella.store.lock", f"exclusive lock on {root}/run/lock") in found


def test_what_is_undone_is_logged(root: Path, tmp_path: Path) -> None:
    bad = write_docker_archive(tmp_path / "bad.tar", [Sample(layers=[b"\1" * 1024])])
    done = lamella_command("load", "--root", root, "-i", bad, "--verbose", "--quiet", code=9)
    said = [match[3] for match in map(RECORD.fullmatch, done.stderr.splitlines()) if match]
    assert any(re.fullmatch(r"transaction \d+ fails: rolling it back", message) for message in said)
    assert any(re.fullmatch(r"transaction \d+ rolled back", message) for message in said)


def test_a_layer_that_is_there_is_said_to_be_reused(root: Path, tmp_path: Path) -> None:
    again = write_docker_archive(tmp_path / "again.tar")
    done = lamella_command("load", "--root", root, "-i", again, "--verbose", "--quiet")
    assert "is there already, as device" in done.stderr


def test_into_a_file(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "a file.log"
    for _ in range(2):
        assert lamella_command("ps", "--root", root, log=f"info:{file}").stderr == ""
    found = records(file.read_text())
    assert {level for level, _, _ in found} == {"INFO"}
    assert sum(message.startswith("Lamella ") for _, _, message in found) == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # Options go to standard error, and leave the file's level as it is.
    done = lamella_command("ps", "--root", root, "--debug", log=f"info:{file}")
    assert {level for level, _, _ in records(done.stderr)} == {"DEBUG", "INFO"}
    assert {level for level, _, _ in records(file.read_text())} == {"INFO"}


def test_one_logger_alone(root: Path) -> None:
    done = lamella_command("tag", "--root", root, "sample", "other:1", log="driver.state=debug")
    assert {logger for _, logger, _ in records(done.stderr)} == {"lamella.driver.state"}
    done = lamella_command("tag", "--root", root, "sample", "other:1", log="debug,lamella.driver=off")
    loggers = {logger for _, logger, _ in records(done.stderr)}
    assert "lamella.store.lock" in loggers
    assert not any(logger.startswith("lamella.driver") for logger in loggers)


@pytest.mark.parametrize("value", ["loud", "=debug", "store=", "info,,debug", "debug, ", ":/tmp/x"])
def test_values_that_are_not_understood(root: Path, value: str) -> None:
    done = lamella_command("ps", "--root", root, log=value, code=2)
    assert done.stderr.startswith(f"lamella: error: LAMELLA_LOG={value}: ")
    assert not RECORD.search(done.stderr)


def test_a_file_that_cannot_be_opened(root: Path, tmp_path: Path) -> None:
    done = lamella_command("ps", "--root", root, log=f"debug:{tmp_path}/none/log", code=3)
    assert done.stderr.startswith(f"lamella: error: cannot open the log file {tmp_path}/none/log")


def test_a_full_disk_stops_no_command(root: Path) -> None:
    assert lamella_command("images", "--root", root, log="debug:/dev/full").stdout


# The tools that Lamella replaces -------------------------------------------------------------


def test_lvm_verbosity(tmp_path: Path) -> None:
    disk, file = tmp_path / "disk", tmp_path / "log"
    disk.write_bytes(bytes(64 << 20))
    place = {"LAMELLA_ROOT": str(tmp_path / "root"), "LAMELLA_DEVICES": str(disk)}
    lamella_command("pvcreate", disk, **place)
    done = lamella_command("vgcreate", "vg", disk, "-v", **place)
    assert not any(map(RECORD.fullmatch, done.stderr.splitlines()))
    done = lamella_command("lvcreate", "-vv", "-l1", "-n", "a", "vg", **place)
    assert "INFO lamella.lvm.session.commit: volume group vg: sequence number 2 committed" in done.stderr
    assert "DEBUG" not in done.stderr
    done = lamella_command("lvcreate", "-vvvv", "-l1", "-n", "b", "vg", **place)
    assert "bytes of metadata at byte" in done.stderr
    # As LVM2's -d, which is for the log file.
    done = lamella_command("lvs", "-d", "vg", **place)
    assert "DEBUG" not in done.stderr
    lamella_command("lvremove", "-y", "-d", "vg/b", log=f"info:{file}", **place)
    assert "bytes of metadata at byte" in file.read_text()


def test_thin_tools_and_dmsetup(root: Path, tmp_path: Path) -> None:
    metadata = root / "pool" / "metadata"
    broken = tmp_path / "broken"
    broken.write_bytes(metadata.read_bytes())
    with open(broken, "r+b") as opened:
        opened.write(bytes(4096))  # the superblock
    (tmp_path / "out").write_bytes(bytes(4 << 20))
    words = ["--transaction-id", "3", "--data-block-size", "128", "--nr-data-blocks", "4096"]
    done = lamella_command("thin_repair", "-i", broken, "-o", tmp_path / "out", "-v", *words)
    assert "INFO lamella.thin.tools.repair: device lists: found by searching" in done.stderr
    done = lamella_command("dmsetup", "ls", "--root", root, "--engine", "user", "-v")
    assert done.stderr == ""
    done = lamella_command("dmsetup", "ls", "--root", root, "--engine", "user", "-vvv")
    assert "DEBUG lamella.store.lock: shared lock on " in done.stderr


# What is logged of programs, and of texts from outside ---------------------------------------


def test_programs_are_logged_without_what_they_say(capfd: pytest.CaptureFixture[str]) -> None:
    log_output.configure(debug=True)
    programs.run(["sh", "-c", "cat; exit 3"], input=b"a secret", capture_output=True)
    with pytest.raises(OSError, match="none"):
        programs.run(["/none/such"])
    said = [message for _, logger, message in records(capfd.readouterr().err) if logger.endswith("programs")]
    assert said[:3] == ["run: sh -c 'cat; exit 3'", "sh: exit code 3", "run: /none/such"]
    assert said[3].startswith("/none/such: [Errno 2]")


def test_a_record_is_one_line_without_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    log_output.configure(verbose=True)
    capfd.readouterr()
    logging.getLogger("lamella.images").info("name %s", "a\nb\x1b[31m")
    logging.getLogger("lamella.images").info("disk %s", "nbd://user:pass%20word@host/export")
    shown = [message for _, _, message in records(capfd.readouterr().err)]
    assert shown == ["name a\\nb\\x1b[31m", "disk nbd://***@host/export"]


def test_each_ioctl_is_logged_with_its_table_but_no_key(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="lamella"), fake_kernel() as kernel:
        dm = kernel.client
        dm.create("one", "LVM-1")
        dm.load("one", [Linear(0, 8, device="8:0", offset=16), Target(8, 8, "crypt", "aes 00ff00ff 0 8:0 0")])
        with pytest.raises(NotFoundError):
            dm.suspend("two")
    said = [record.getMessage() for record in caplog.records if record.name == "lamella.devicemapper.client"]
    assert said == [
        "ioctl VERSION device-mapper (ask)",
        "ioctl DEV_CREATE one (create)",
        "table for one: 0 8 linear 8:0 16; 8 8 crypt (not logged)",
        "ioctl TABLE_LOAD one (load a table into)",
        "ioctl DEV_SUSPEND two: No such device or address",
    ]


HELPER = f"""#!/bin/sh
cat >/dev/null
printf '{{"ServerURL":"x","Username":"{USER}","Secret":"{PASSWORD}"}}'
"""


@pytest.mark.parametrize("auth", ["basic", "bearer", "identity", "helper"])
def test_no_secret_is_logged(root: Path, tmp_path: Path, auth: str) -> None:
    behaviour = Behaviour(
        auth="basic" if auth == "basic" else "bearer", anonymous_ok=False, redirect_blobs=True
    )
    behaviour.add(Sample(references=[]))
    joined = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with fake_registry(behaviour) as server:
        behaviour.storage = server.url.replace("//", f"//{USER}:url-password@")
        entry = {"identitytoken": REFRESH} if auth == "identity" else {"auth": joined}
        config: dict[str, object] = {"auths": {server.host: entry}}
        if auth == "helper":
            config = {"credHelpers": {server.host: "test"}}
            helper = tmp_path / "docker-credential-test"
            helper.write_text(HELPER)
            helper.chmod(0o755)
        (tmp_path / "config.json").write_text(json.dumps(config))
        place = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        words = ["pull", "--root", str(root), f"{server.host}/lib/it:1", "--quiet"]
        done = lamella_command(*words, "--debug", **place, log=f"debug:{tmp_path}/log")
    logged = done.stderr + (tmp_path / "log").read_text()
    assert (
        f"DEBUG lamella.images.transport: GET http://{server.host}/v2/lib/it/manifests/1: status " in logged
    )
    if auth == "helper":
        assert "run: docker-credential-test get" in logged
    secrets = [PASSWORD, "pass%20word", "pass+word", joined, REFRESH, "signature", "url-password"]
    secrets += [f"token-{number}" for number in range(1, behaviour.tokens + 1)]
    assert any("Authorization" in asked.headers for asked in behaviour.asked)
    assert [secret for secret in [*secrets, "Bearer", "Basic", "Authorization"] if secret in logged] == []


# Costs and the library -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--version"], ["lvs"], ["thin_check", "--version"], ["dmsetup", "version"]]
)
def test_logging_is_imported_only_when_it_is_used(tmp_path: Path, words: list[str]) -> None:
    script = (
        "import sys; from lamella.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('logging' in sys.modules, file=sys.stderr)"
    )
    environment = {**os.environ, "LAMELLA_ROOT": str(tmp_path), "LAMELLA_DEVICES": ""}
    environment.pop("LAMELLA_LOG", None)
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stderr.splitlines()[-1] == "False"


def test_loggers_are_those_of_the_standard_library(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="lamella"), lamella.Store.open(root, engine="user") as store:
        store.tag("sample", "library:1")
    record = next(each for each in caplog.records if each.name == "lamella.driver.state")
    assert record.funcName == "transaction"
    assert record.levelno == logging.DEBUG
    assert record.pathname.endswith("lamella/driver/state.py")


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("--verbose", "--debug", "LAMELLA_LOG=LEVEL"))


def test_the_document_names_loggers_that_there_are() -> None:
    project = Path(__file__).parents[2]
    (document,) = (project / "docs").rglob("logging.md")
    text = document.read_text()
    named = set(re.findall(r"`lamella\.([a-z_.]+)`", text))
    assert named
    for name in named:
        path = project / "src" / "lamella" / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


_IN_2426 = """
import sys, time

def fails():
    raise OverflowError("timestamp too large to convert to C _PyTime_t")

time.time = time.time_ns = fails
time.clock_gettime = lambda which: 14_400_410_400.5
from lamella.cli.start import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("words", "log", "code"),
    [(["images", "--debug"], "", 3), (["images"], "debug", 3), (["--version"], "info", 0)],
)
def test_a_clock_that_python_cannot_count_to(tmp_path: Path, words: list[str], log: str, code: int) -> None:
    """Python's logging asks for the time when it is imported, by itself or by urllib3 (CPython 3.11,
    ``Lib/logging/__init__.py``), and for each record."""
    environment = {**os.environ, "TZ": "UTC", "LAMELLA_ROOT": str(tmp_path / "root"), "LAMELLA_LOG": log}
    done = subprocess.run(
        [sys.executable, "-c", _IN_2426, *words], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, "2426-05-01 10:00:00" in done.stderr) == (code, True), done
