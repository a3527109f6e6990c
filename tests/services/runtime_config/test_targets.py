# SPDX-License-Identifier: Apache-2.0
"""What is written for each runtime: into a new file, into one with settings, and into one that has it all."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamella.errors import BadInputError
from lamella.services.runtime_config.containerd import for_containerd, for_firecracker, for_kata
from lamella.services.runtime_config.docker import for_docker
from lamella.services.runtime_config.k3s import for_k3s
from lamella.services.runtime_config.model import Facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.services.runtime_config.model import Plan, Reader

FACTS = Facts(Path("/var/lib/lamella"), Path("/var/lib/lamella/run/containerd.sock"))
OLD = Facts(FACTS.root, FACTS.socket, 1)
FILE, TEMPLATES = Path("/etc/containerd/config.toml"), Path("/t")
PLUGIN = {
    "type": "snapshot",
    "address": "/var/lib/lamella/run/containerd.sock",
    "exports": {"root": "/var/lib/lamella"},
}
DOCKERS = 'disabled_plugins = ["cri"]\n\n#root = "/var/lib/containerd"\n#[grpc]\n#  uid = 0\n'
"""As Docker's package containerd.io has it."""
VERSION_1 = 'root = "/var/lib/containerd"\n'
VERSION_2 = """\
version = 2
# ours
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.9"  # pinned
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-fc]
      runtime_type = "io.containerd.kata-fc.v2"
"""
VERSION_3 = """\
version = 3
[plugins]
  [plugins.'io.containerd.cri.v1.images']
    snapshotter = 'overlayfs' # the default
    [plugins.'io.containerd.cri.v1.images'.pinned_images]
      sandbox = 'registry.k8s.io/pause:3.10'
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata-qemu]
      runtime_type = 'io.containerd.kata-qemu.v2'
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
  platform = 'linux/amd64'
  snapshotter = 'overlayfs'
[proxy_plugins.stargz]
  type = 'snapshot'
  address = '/run/stargz.sock'
"""


CASES = [
    (plan, text)
    for plan in (for_containerd, for_kata, for_firecracker)
    for text in (None, "", "\n", "# nothing yet\n", VERSION_1, DOCKERS, VERSION_2, VERSION_3)
    if plan is not for_kata or text not in (VERSION_1, DOCKERS)  # version 1 has no snapshotters of runtimes
]


def reader(files: dict[Path, str]) -> Reader:
    return files.get


def content(plan: Plan, index: int = 0) -> Any:
    return tomllib.loads(plan.files[index].after)


def at(content: Any, *place: str) -> Any:
    for key in place:
        content = content[key]
    return content


@pytest.mark.parametrize("facts", [FACTS, OLD])
@pytest.mark.parametrize(("plan", "text"), CASES)
def test_containerd_gets_the_plugin_and_keeps_the_rest(
    text: str | None, facts: Facts, plan: Callable[[Path, Facts, Reader], Plan]
) -> None:
    made = plan(FILE, facts, reader({FILE: text} if text is not None else {}))
    (file,) = made.files
    assert file.changed
    assert "lamella serve --containerd" in made.next_steps[0]
    assert at(content(made), "proxy_plugins", "lamella") == PLUGIN
    for line in (text or "").splitlines():
        if "#" in line:
            assert line.partition("#")[2] in file.after
    again = plan(FILE, facts, reader({FILE: file.after}))
    assert not again.files[0].changed


@pytest.mark.parametrize(("facts", "version"), [(FACTS, 3), (OLD, 2)])
@pytest.mark.parametrize("text", [None, "# nothing yet\n"])
def test_a_new_file_has_the_version_of_the_installed_containerd(
    facts: Facts, version: int, text: str | None
) -> None:
    made = for_containerd(FILE, facts, reader({FILE: text} if text else {}))
    assert content(made)["version"] == version
    assert made.files[0].snippet.startswith(f"version = {version}\n")


@pytest.mark.parametrize(
    ("text", "place", "kept"),
    [
        (VERSION_2, ("plugins", "io.containerd.grpc.v1.cri", "containerd"), {"default_runtime_name": "runc"}),
        (VERSION_3, ("plugins", "io.containerd.cri.v1.images"), {}),
        (VERSION_3.replace("version = 3", "version = 4"), ("plugins", "io.containerd.cri.v1.images"), {}),
    ],
)
def test_kubernetes_uses_it_where_the_version_has_that(
    text: str, place: tuple[str, ...], kept: dict[str, str]
) -> None:
    made = at(content(for_containerd(FILE, FACTS, reader({FILE: text}))), *place)
    assert {"snapshotter": "lamella", "disable_snapshot_annotations": False, **kept}.items() <= made.items()


@pytest.mark.parametrize("text", [VERSION_1, DOCKERS])
def test_a_file_of_version_1_gets_the_plugins_alone(text: str) -> None:
    made = for_containerd(FILE, FACTS, reader({FILE: text}))
    assert list(content(made)["plugins"]) == ["io.containerd.service.v1.diff-service"]
    assert "of version 1" in made.warnings[-1]
    assert "plugins" not in content(for_containerd(FILE, OLD, reader({FILE: text})))


def test_images_are_unpacked_for_the_default_snapshotter_too() -> None:
    place = ("plugins", "io.containerd.transfer.v1.local", "unpack_config")
    new = at(content(for_containerd(FILE, FACTS, reader({}))), *place)
    assert [entry["snapshotter"] for entry in new] == ["overlayfs", "lamella"]
    added = at(content(for_containerd(FILE, FACTS, reader({FILE: VERSION_3}))), *place)
    assert added[0] == {"platform": "linux/amd64", "snapshotter": "overlayfs"}
    assert [entry["snapshotter"] for entry in added] == ["overlayfs", "lamella"]


def test_its_differ_is_asked_first_where_all_images_are_for_it() -> None:
    text = VERSION_3 + "[plugins.'io.containerd.service.v1.diff-service']\n  default = ['erofs', 'walking']\n"
    made = content(for_containerd(FILE, FACTS, reader({FILE: text})))
    assert made["proxy_plugins"]["lamella-diff"] == {"type": "diff", "address": PLUGIN["address"]}
    service = made["plugins"]["io.containerd.service.v1.diff-service"]
    assert service["default"] == ["lamella-diff", "erofs", "walking"]
    for plan, text, facts in (
        (for_kata, VERSION_3, FACTS),
        (for_firecracker, VERSION_2, FACTS),
        (for_containerd, VERSION_2, OLD),  # containerd 1 has no differs that are plugins
    ):
        assert "lamella-diff" not in content(plan(FILE, facts, reader({FILE: text})))["proxy_plugins"]


def test_only_katas_runtimes_use_it() -> None:
    cri = ("plugins", "io.containerd.grpc.v1.cri", "containerd")
    made = at(content(for_kata(FILE, FACTS, reader({FILE: VERSION_2}))), *cri)
    assert made["runtimes"]["kata-fc"] == {
        "runtime_type": "io.containerd.kata-fc.v2",
        "snapshotter": "lamella",
    }
    assert "snapshotter" not in made["runtimes"]["runc"]
    assert "kata" not in made["runtimes"]
    assert "snapshotter" not in made
    made = content(for_kata(FILE, FACTS, reader({FILE: VERSION_3})))
    images = at(made, "plugins", "io.containerd.cri.v1.images")
    assert images["snapshotter"] == "overlayfs"
    assert images["runtime_platforms"] == {"kata-qemu": {"snapshotter": "lamella"}}


def test_without_katas_runtime_there_is_one_after() -> None:
    made = content(for_kata(FILE, FACTS, reader({})))
    runtimes = at(made, "plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes")
    assert runtimes["kata"]["runtime_type"] == "io.containerd.kata.v2"
    assert runtimes["kata"]["snapshotter"] == "lamella"


@pytest.mark.parametrize(
    ("plan", "text", "says"),
    [
        (for_containerd, "version = 5\n", "has version 5"),
        (for_containerd, 'version = "3"\n', "has version '3'"),
        (for_containerd, "version = [\n", "no valid TOML"),
        (for_containerd, "version = 3\nproxy_plugins = 1\n", "is no table"),
        (for_kata, DOCKERS, "version 1"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    plan: Callable[[Path, Facts, Reader], Plan], text: str, says: str
) -> None:
    with pytest.raises(BadInputError, match=says):
        plan(FILE, FACTS, reader({FILE: text}))


def test_a_disabled_cri_is_told() -> None:
    assert "disables the plugin" in for_containerd(FILE, FACTS, reader({FILE: DOCKERS})).warnings[0]
    assert not for_containerd(FILE, FACTS, reader({FILE: VERSION_3})).warnings


# -- Docker --------------------------------------------------------------------------------------

DAEMON = Path("/etc/docker/daemon.json")


def test_docker_gets_the_driver_and_its_containerd_the_plugin() -> None:
    made = for_docker(DAEMON, FACTS, reader({FILE: DOCKERS}))
    containerd, daemon = made.files
    plugins = tomllib.loads(containerd.after)
    assert at(plugins, "proxy_plugins", "lamella") == PLUGIN
    assert list(plugins["plugins"]) == ["io.containerd.service.v1.diff-service"]
    wanted = {"features": {"containerd-snapshotter": True}, "storage-driver": "lamella"}
    assert json.loads(daemon.after) == json.loads(daemon.snippet) == wanted


def test_dockers_other_settings_stay_in_their_order() -> None:
    text = (
        '{\n    "log-driver": "local",\n    "features": {"buildkit": true},\n'
        '    "storage-driver": "overlay2"\n}\n'
    )
    made = for_docker(DAEMON, FACTS, reader({DAEMON: text}))
    after = made.files[1].after
    assert list(json.loads(after)) == ["log-driver", "features", "storage-driver"]
    assert json.loads(after)["features"] == {"buildkit": True, "containerd-snapshotter": True}
    assert after.startswith('{\n    "log-driver"')
    assert "overlay2" in made.warnings[0]
    again = for_docker(DAEMON, FACTS, reader({DAEMON: after, FILE: made.files[0].after}))
    assert not any(file.changed for file in again.files)
    assert not again.warnings


def test_a_file_that_has_all_is_left_as_it_is_written() -> None:
    text = '{"storage-driver":"lamella",   "features":{"containerd-snapshotter":true}}'
    assert for_docker(DAEMON, FACTS, reader({DAEMON: text})).files[1].after == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no valid JSON"),
        ("[]", "no JSON object"),
        ('{"features": 1}', "no object"),
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100000, "no valid JSON"),
    ],
)
def test_a_daemon_json_that_cannot_be_merged_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        for_docker(DAEMON, FACTS, reader({DAEMON: text}))


@pytest.mark.parametrize("setting", ['"storage-opts": ["overlay2.size=1G"]', '"userns-remap": "default"'])
def test_settings_that_may_not_go_with_it_are_told(setting: str) -> None:
    name = json.loads(f"{{{setting}}}").popitem()[0]
    assert name in for_docker(DAEMON, FACTS, reader({DAEMON: f"{{{setting}}}"})).warnings[1]


# -- k3s -----------------------------------------------------------------------------------------

K3S = Path("/etc/rancher/k3s/config.yaml")


def test_k3s_gets_a_template_upon_its_own_and_the_name() -> None:
    template, config = for_k3s(TEMPLATES, FACTS, reader({})).files
    assert template.path == TEMPLATES / "config-v3.toml.tmpl"
    first, _, rest = template.after.partition("\n")
    assert first == '{{ template "base" . }}'
    assert at(tomllib.loads(rest), "proxy_plugins", "lamella") == PLUGIN
    assert "snapshotter" not in tomllib.loads(rest)["plugins"].get("io.containerd.cri.v1.images", {})
    assert (config.path, config.after) == (K3S, "snapshotter: lamella\n")


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({}, "config-v3.toml.tmpl"),
        ({"config.toml": "version = 3\n"}, "config-v3.toml.tmpl"),
        ({"config.toml": "version = 2\n"}, "config.toml.tmpl"),
        ({"config.toml": "not toml ["}, "config-v3.toml.tmpl"),
        ({"config.toml": "version = 3\n", "config.toml.tmpl": "version = 2\n"}, "config.toml.tmpl"),
        (
            {"config-v3.toml.tmpl": "version = 3\n", "config.toml.tmpl": "version = 2\n"},
            "config-v3.toml.tmpl",
        ),
    ],
)
def test_the_template_is_the_one_that_this_k3s_reads(files: dict[str, str], name: str) -> None:
    have = {TEMPLATES / file: text for file, text in files.items()}
    assert for_k3s(TEMPLATES, FACTS, reader(have)).files[0].path == TEMPLATES / name


def test_a_template_of_ones_own_keeps_its_actions() -> None:
    text = (
        '{{ template "base" . }}\n\n'
        "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]\n"
        "  runtime_type = 'io.containerd.kata.v2' # mine\n"
        "  {{- if .IsRunningInUserNS }}\n"
        "  x = 1\n"
        "  {{ end }}\n"
        'path = "{{ .NodeConfig.Containerd.Opt }}"\n'
    )
    path = TEMPLATES / "config-v3.toml.tmpl"
    after = for_k3s(path, FACTS, reader({path: text})).files[0].after
    assert after.startswith(text)
    assert "[proxy_plugins.lamella]" in after[len(text) :]
    assert for_k3s(path, FACTS, reader({path: after})).files[0].after == after


def test_a_template_that_is_no_toml_between_its_actions_is_refused() -> None:
    path = TEMPLATES / "config-v3.toml.tmpl"
    with pytest.raises(BadInputError, match="no valid TOML"):
        for_k3s(path, FACTS, reader({path: "x = {{ .X }}\n"}))


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("write-kubeconfig-mode: 644", "write-kubeconfig-mode: 644\nsnapshotter: lamella\n"),
        ("# k3s\nsnapshotter: overlayfs # old\nx: 1\n", "# k3s\nsnapshotter: lamella # old\nx: 1\n"),
        ("snapshotter:\nx: 1\n", "snapshotter: lamella\nx: 1\n"),
        ('"snapshotter": "native"\n', "snapshotter: lamella\n"),
        ("snapshotter: 'lamella'\n", "snapshotter: 'lamella'\n"),
        (
            "---\ntls-san:\n  - snapshotter: no\n",
            "---\ntls-san:\n  - snapshotter: no\nsnapshotter: lamella\n",
        ),
    ],
)
def test_the_name_is_put_into_k3s_own_file(text: str, after: str) -> None:
    made = for_k3s(TEMPLATES, FACTS, reader({K3S: text})).files[1]
    assert made.after == after


@pytest.mark.parametrize(
    "text",
    [
        "{a: 1}\n",
        "- a\n",
        "a: 1\n---\nb: 2\n",
        "---\na: 1\n---\nb: 2\n",
        "snapshotter: a\nsnapshotter: b\n",
        "--- !x\n[a]\n",
    ],
)
def test_a_yaml_that_cannot_be_merged_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        for_k3s(TEMPLATES, FACTS, reader({K3S: text}))


# -- the real containerd --------------------------------------------------------------------------


@pytest.mark.parametrize(("plan", "text"), CASES)
def test_containerd_reads_it(
    text: str | None, plan: Callable[[Path, Facts, Reader], Plan], tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """``config dump`` shows what containerd understands, in the newest version that it knows."""
    containerd = tool("containerd")
    told = subprocess.run([containerd, "--version"], capture_output=True, text=True, check=True).stdout
    old = " 1." in told or " v1." in told
    if text == VERSION_3 and old:
        pytest.skip("containerd 1 does not read version 3")
    facts = OLD if old else FACTS
    made = plan(FILE, facts, reader({FILE: text} if text is not None else {}))
    path = tmp_path / "config.toml"
    path.write_text(made.files[0].after)
    done = subprocess.run(
        [containerd, "--config", str(path), "config", "dump"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    understood = tomllib.loads(done.stdout)
    plugin = understood["proxy_plugins"]["lamella"]
    assert (plugin["type"], plugin["address"]) == (PLUGIN["type"], PLUGIN["address"])
    place = ("io.containerd.grpc.v1.cri", "containerd") if old else ("io.containerd.cri.v1.images",)
    if text != DOCKERS:  # there Kubernetes' plugin is disabled
        cri = at(understood, "plugins", *place)
        used = plan is for_containerd and text != VERSION_1
        assert cri["snapshotter"] == ("lamella" if used else "overlayfs")
        assert cri["disable_snapshot_annotations"] is not used
    if plan is for_containerd and not old:
        service = understood["plugins"]["io.containerd.service.v1.diff-service"]
        assert service["default"] == ["lamella-diff", "walking"]
        assert understood["proxy_plugins"]["lamella-diff"]["type"] == "diff"
    if not old:
        assert plugin["capabilities"] == []
        assert plugin["exports"]["root"] == "/var/lib/lamella"
    if plan is for_kata and not old:
        runtimes = at(understood, "plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes")
        kata = {name: each for name, each in runtimes.items() if name.startswith("kata")}
        assert kata
        assert all(runtime["snapshotter"] == "lamella" for runtime in kata.values())
    if plan is not for_firecracker and text not in (VERSION_1, DOCKERS) and not old:
        entries = at(understood, "plugins", "io.containerd.transfer.v1.local", "unpack_config")
        assert [entry["snapshotter"] for entry in entries] == ["overlayfs", "lamella"]
