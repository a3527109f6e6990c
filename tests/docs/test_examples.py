# SPDX-License-Identifier: Apache-2.0
"""The example of each command's page is run, in few stores of the user engine, as a reader would type it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from scripts.reference.commands import all_pages

from lamella.cli.command_line import split_command
from lamella.cli.command_table import LVM, LVM_NAMES
from lamella.cli.lvm.syntax.grammar import find_command
from lamella.cli.lvm.syntax.parse import parse as parse_lvm
from lamella.cli.lvm.syntax.usage import EXAMPLES
from lamella.cli.parsing import parse
from tests.support.images import Sample, make_tar, write_docker_archive
from tests.support.pages import outputs_of, shell_script
from tests.support.stores import lvm_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = {page.name: page for page in all_pages()}

FILES = (
    "lamella quickstart",
    "lamella load -i debian.tar",
    "docker save debian:12 | lamella load",
    "lamella images",
    "lamella images -q",
    "lamella images --filter dangling=true --format '{{.ID}} {{.Size}}'",
    "lamella history debian:12",
    "lamella history --no-trunc --format '{{.CreatedBy}}' debian:12",
    "lamella tag debian:12 mine:latest",
    "lamella inspect debian:12",
    "lamella create --name web debian:12",
    "lamella ps",
    r"lamella ps --filter ancestor=debian:12 --format 'table {{.Names}}\t{{.CreatedAt}}'",
    "lamella inspect --format '{{.GraphDriver.Data.DeviceName}}' web",
    "lamella ls -l web:/etc",
    "lamella ls web /etc",
    "lamella cat web:/etc/hostname",
    "lamella cp web:/etc/hosts .",
    "lamella cp ./site web:/var/www",
    "lamella diff web",
    'lamella commit -m "add the site" -c \'CMD ["/bin/serve"]\' web mine:1',
    "lamella export web -o web.tar",
    "lamella save -o debian.tar debian:12",
    "lamella save --format oci-archive debian:12 > debian.oci",
    "lamella resize web 20G",
    "lamella resize web +5G",
    "lamella info",
    "lamella info --json",
    "lamella info --format '{{.Driver}} {{.DockerRootDir}}'",
    "lamella df",
    "lamella map --tree",
    "lamella map --json",
    "lamella check",
    "lamella check && echo all is well",
    "lamella grow --data +20%",
    "lamella grow --metadata +100%",
    "lamella dmsetup ls --tree",
    "lamella dmsetup info -c -o name,blkdevs_used",
    "lamella deactivate           # where the kernel has the pool",
    "lamella deactivate",
    "lamella deactivate web",
    "lamella repair",
    "lamella repair --to /backup/metadata.repaired",
    "lamella activate --print-unit > /etc/systemd/system/lamella-activate.service",
    "lamella thin_check metadata",
    "lamella thin_dump -o metadata.xml metadata",
    "lamella thin_repair -i metadata -o repaired",
    "lamella thin_restore -i metadata.xml -o restored",
    "lamella prune --force",
    "lamella prune --all --force --filter until=240h",
    "lamella prune --unknown-devices           # shows them, and asks",
    "lamella rm web",
    "lamella rmi debian:12",
    "lamella teardown --force",
    "source <(lamella completion bash)     # in ~/.bashrc",
    "source <(lamella completion zsh)      # in ~/.zshrc, after compinit",
    "lamella completion fish | source      # in ~/.config/fish/config.fish",
)
"""In a store in files, in the order of a story."""
OTHERS = (
    ("lamella load -i debian.tar", "lamella create --name web debian:12", "lamella rename web old-web"),
    ("lamella setup loop-lvm --storage-opt dm.basesize=20G --storage-opt dm.loopdatasize=200G",),
    (
        "lamella setup direct-lvm /dev/vdb --plan",
        "lamella setup direct-lvm /dev/vdb",
        "lamella grow --disk /dev/vdc",
    ),
    ("lamella setup --for containerd", "lamella setup --for containerd --write --yes --file config.toml"),
    (
        "lamella setup direct-lvm /dev/vdb --pool-only",
        "lamella setup direct-lvm --storage-opt dm.thinpooldev=/dev/mapper/docker-thinpool",
    ),
)
"""Each in a store of its own."""
KERNEL = {
    "lamella activate",
    "lamella activate web db",
    "lamella create --activate debian:12",
    "lamella mount web",
    "lamella mount web /srv/web -o noatime",
    "lamella umount web",
    "lamella umount /srv/web",
}
"""What needs the kernel's engine; tests/guest has it. Here the arguments are parsed only."""
NETWORK = {
    "lamella pull debian:12",
    "lamella pull --insecure-registry localhost:5000/mine",
    "lamella quickstart debian:12",
}
"""What needs a registry; tests/images and the walkthrough have it. Here the arguments are parsed only."""
CONTAINERD = {
    "lamella snapshots ls",
    "lamella snapshots inspect k8s.io/12/web",
    "lamella snapshots rm k8s.io/12/web",
}
"""What needs containerd's snapshots; tests/cli has them. Here the arguments are parsed only."""
SERVED = {"lamella serve", "lamella serve --containerd --metrics 127.0.0.1:9110"}
"""What does not end by itself; tests/services has it. Here the arguments are parsed only."""
PRINTED = {
    "lamella images": r"debian +12 +[0-9a-f]{12} ",
    "lamella create --name web debian:12": r"[0-9a-f]{64}\n",
    "lamella ps": r"debian:12 .* web\n",
    "lamella history debian:12": r"<missing> .* layer 0 ",
    "lamella info --format '{{.Driver}} {{.DockerRootDir}}'": r"devicemapper /",
    "lamella prune --force": r"Total reclaimed space: 0B\n",
    "lamella prune --unknown-devices           # shows them, and asks": r"Every thin device of the pool",
    "lamella ls web /etc": r"hostname\nhosts\n",
    "lamella cat web:/etc/hostname": r"box\n",
    "lamella diff web": r"(?s)A /var/www/index\.html\n",
    "lamella check && echo all is well": r"The store is clean\.\nall is well\n",
    "lamella resize web 20G": r"web has 21\.47GB now\.\n",
    "lamella repair": r"there is nothing to repair\.\n",
    "lamella rm web": r"web\n",
    "lamella setup direct-lvm /dev/vdb": r"The store is ready in ",
    "lamella thin_check metadata": r"TRANSACTION_ID=\d+\n",
}
"""What is to be found in the output."""


def typed(example: str) -> str:
    """The example without its remark."""
    return re.sub(r"\s+# .*", "", example)


def test_each_example_is_run_or_parsed() -> None:
    written = {line for page in PAGES.values() if page.family != LVM for line in page.example if line}
    run = {*FILES, *(line for steps in OTHERS for line in steps)}
    assert written == (run & written) | KERNEL | NETWORK | CONTAINERD | SERVED
    assert not run - written - {"lamella check"}


@pytest.mark.parametrize("example", sorted(KERNEL | NETWORK | CONTAINERD | SERVED))
def test_arguments_are_those_of_the_command(example: str) -> None:
    assert parse(*split_command(example.split()[1:])).run


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_lvm_commands_are_accepted(name: str) -> None:
    assert name in LVM_NAMES
    command = find_command(name)
    assert command is not None
    (example,) = PAGES[name].example
    assert parse_lvm(command, example.split()[2:]).variant is not None


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with what the examples name: an image's archive, a site, disks, programs."""
    files = {"etc/": None, "etc/hostname": b"box\n", "etc/hosts": b"127.0.0.1 box\n", "var/": None}
    image = Sample(layers=[make_tar(files)], references=["debian:12"])
    write_docker_archive(tmp_path / "debian.tar", [image])
    for folder in ("bin", "site", "backup", "units", "lvm/profile"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "site/index.html").write_text("hello")
    for name in ("repaired", "restored"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(64 << 20)
    for name, line in (
        ("lamella", f'exec {sys.executable} -m lamella.cli.main "$@"'),
        ("docker", f"cat {tmp_path}/debian.tar"),
    ):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


@pytest.fixture
def settings(home: Path) -> Iterator[None]:
    with lvm_settings(home / "lvm"):
        yield


def run(steps: tuple[str, ...], home: Path, root: str) -> list[str]:
    """Run the lines in one shell that ends at the first that fails; what each has printed."""
    for name in ("vdb", "vdc"):
        with (home / name).open("wb") as file:
            file.truncate(4 << 30)
    metadata = f"{home}/{root}/pool/metadata"
    lines = []
    for step in steps:
        line = typed(step)
        for place, instead in (
            ("/dev/vd", f"{home}/vd"),
            ("/backup", f"{home}/backup"),
            ("/etc/systemd/system", f"{home}/units"),
            ("source <(lamella completion zsh)", "lamella completion zsh"),
            ("| source", ""),
        ):
            line = line.replace(place, instead)
        copied = f"cp --sparse=always {metadata} metadata\n" if line.startswith("lamella thin_check") else ""
        lines.append(copied + line)
    environment = {
        **os.environ,
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "LAMELLA_ROOT": str(home / root),
        "LAMELLA_ENGINE": "user",
    }
    environment.pop("LAMELLA_DEVICES", None)
    done = subprocess.run(
        ["bash", "-e"], input=shell_script(lines), cwd=home, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    outputs = outputs_of(done.stdout)
    assert len(outputs) == len(steps), f"{steps[len(outputs)]}:\n{done.stdout[-2000:]}"
    return outputs


@pytest.mark.slow
def test_examples_in_files(home: Path) -> None:
    for example, said in zip(FILES, run(FILES, home, "files"), strict=True):
        assert re.search(PRINTED.get(example, ""), said), (example, said)
    assert (home / "hosts").read_text() == "127.0.0.1 box\n"
    assert "ExecStart=" in (home / "units/lamella-activate.service").read_text()
    assert not (home / "files").exists()


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("steps", OTHERS, ids=lambda steps: steps[0].split()[2] + str(len(steps)))
def test_examples_of_setup(steps: tuple[str, ...], home: Path) -> None:
    for example, said in zip(steps, run(steps, home, "store"), strict=True):
        assert re.search(PRINTED.get(example, ""), said), (example, said)


def paths(value: Any, before: str = "") -> Iterator[str]:
    """The fields of a JSON value, as the pages write them."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from paths(part, f"{before}.{key}" if before else key)
    elif isinstance(value, list):
        yield f"{before}[]" if before else "[]"
        for part in value:
            yield from paths(part, f"{before}[]")
    if before:
        yield before


def normal(path: str) -> str:
    """A field of a node below another, or of a list in a list, as the page has it."""
    return re.sub(r"(\.children\[\])+", "", path).replace("[][]", "[]")


def covered(path: str, documented: set[str]) -> bool:
    """Whether the path is on the page, or below a field whose content depends on what is there."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        head = ".".join(parts[:end])
        if head in documented or (end < len(parts) and f"{head}.*" in documented):
            return True
        if any(one.startswith((f"{head}.", f"{head}[")) for one in documented) and end == len(parts):
            return True  # an object or a list whose fields are on the page
    return False


JSON_COMMANDS = {
    "setup": ["loop-lvm", "--for", "kata"], "load": ["-i", "debian.tar"],
    "create": ["--name", "more", "debian:12"],
    "commit": ["web", "mine:1"], "resize": ["web", "20G"], "history": ["debian:12"],
    "check": [], "df": [], "diff": ["web"], "grow": ["--data", "+20%"], "images": [], "info": [],
    "inspect": ["web", "debian:12"], "ls": ["web"], "map": [], "ps": [], "repair": [],
    "rm": ["more"], "rmi": ["mine:1"], "prune": ["--force"], "deactivate": [], "teardown": ["--force"],
}  # fmt: skip
"""In an order in which each finds what it needs."""
ELSEWHERE = {"activate", "mount", "pull", "snapshots", "umount"}
"""What needs the kernel's engine, a registry or containerd's snapshots: their values are those of other
commands, or one field, or are looked at in tests/cli."""
NOT_SEEN = {
    "check": {"problems", "harmless", "advice"},
    "inspect": {"[].Variant"},
    "setup": {"found", "commands", "pool"},
    "load": {"[].labels"},
    "create": {"labels"},
    "images": {"[].labels"},
    "ps": {"[].labels"},
    "prune": {"devices", "devices[].device_id", "devices[].mapped", "devices[].transaction_id", "removed"},
}
"""Fields that a healthy store has no value for, or other options give."""


def test_json_has_the_fields_of_its_page(home: Path) -> None:
    assert set(JSON_COMMANDS) | ELSEWHERE == {page.name for page in PAGES.values() if page.json}
    steps = [
        "lamella load -i debian.tar",
        "lamella create --name web debian:12",
        "lamella cp ./site web:/var/www",
        *(f"lamella {name} --json {' '.join(words)} 2>/dev/null" for name, words in JSON_COMMANDS.items()),
    ]
    for name, said in zip(JSON_COMMANDS, run(tuple(steps), home, "files")[3:], strict=True):
        documented = {entry.term for entry in PAGES[name].json}
        seen = {normal(path) for path in paths(json.loads(said))}
        for path in seen:
            assert covered(path, documented), (name, path)
        for term in documented:
            bare = re.sub(r"(\.\*|\[\])$", "", term)
            assert bare in seen or bare in NOT_SEEN.get(name, set()), (name, term)
