# SPDX-License-Identifier: Apache-2.0
"""Pulling from the real registry, and what holds for all registries."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BadInputError, LamellaError, NetworkError, NoSpaceError, NotFoundError
from lamella.images import transport as transport_module
from lamella.images.credentials import ANONYMOUS, Credentials
from lamella.images.registry import RegistrySource
from lamella.images.transport import Transport, is_loopback
from tests.images.fake_registry import PASSWORD, USER, Server, fake_registry, status
from tests.images.pulling import BIG, pull
from tests.support import registry as real
from tests.support.debian import busybox_image, debian_image
from tests.support.images import SAMPLE_LAYERS, Sample, compact, run, write_oci_layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("basic", [False, True])
def test_the_real_registry(tmp_path: Path, tool: Callable[[str], str], basic: bool) -> None:
    tool("skopeo")
    samples = {
        "oci": Sample(),
        "docker": Sample(references=["docker.io/library/x:2"]),
        "zstd": Sample(compression="zstd", references=["docker.io/library/x:3"]),
    }
    with real.running_registry(tmp_path / "registry", basic=basic) as registry:
        credentials = Credentials(real.USER, real.PASSWORD) if basic else None
        for name, sample in samples.items():
            write_oci_layout(tmp_path / name, [sample])
            tag = sample.references[0].rpartition(":")[2]
            options = ["-f", "v2s2"] if name == "docker" else []
            full = registry.push(f"oci:{tmp_path / name}:{tag}", f"deep/er/{name}:1", *options)
            reference = full
            for _ in range(2):  # by tag, then by digest
                with RegistrySource(reference, tmp_path / "dl", credentials=credentials) as source:
                    (image,) = source.images()
                    assert image.config_digest == sample.image_id
                    assert image.diff_ids == sample.diff_ids
                    source.prefetch(image.layers)
                    for layer, data in zip(image.layers, sample.layers, strict=True):
                        with layer.open() as stream:
                            assert stream.read() == data
                reference = f"{full.rpartition(':')[0]}@{source.digest}"
            seen = run("skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", "--creds",
                       f"{real.USER}:{real.PASSWORD}", f"docker://{full}").strip()  # fmt: skip
            assert seen == source.digest
        for missing in ("deep/er/oci:none", "no/such:1"):
            with pytest.raises(NotFoundError, match=r"not found: manifest unknown|pull access denied"):
                RegistrySource(
                    f"{registry.host}/{missing}", tmp_path / "dl", credentials=credentials
                ).images()
        if basic:
            for wrong in (ANONYMOUS, Credentials("nobody", "x")):
                with pytest.raises(NetworkError, match=r"pull access denied for .*deep/er/oci"):
                    RegistrySource(
                        f"{registry.host}/deep/er/oci:1", tmp_path / "dl", credentials=wrong
                    ).images()


def test_a_list_in_the_real_registry(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("skopeo")
    samples = [Sample(architecture="arm64"), Sample(architecture="s390x")]
    write_oci_layout(tmp_path / "layout", samples, as_index=True)
    with real.running_registry(tmp_path / "registry") as registry:
        name = registry.push(f"oci:{tmp_path}/layout:latest", "many/platforms:1", "--all")
        for sample in samples:
            with RegistrySource(name, tmp_path / "dl", platform=f"linux/{sample.architecture}") as source:
                assert source.images()[0].config_digest == sample.image_id
        with pytest.raises(NotFoundError, match="available: linux/arm64, linux/s390x"):
            RegistrySource(name, tmp_path / "dl", platform="linux/riscv64").images()


def _certificate(folder: Path) -> tuple[Path, Path]:
    key, certificate = folder / "key.pem", folder / "certificate.crt"
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate)  # fmt: skip
    return certificate, key


def test_tls_with_the_real_registry(
    tmp_path: Path, tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("openssl")
    tool("skopeo")
    write_oci_layout(tmp_path / "layout")
    certificate = _certificate(tmp_path)
    with real.running_registry(tmp_path / "registry", certificate=certificate) as registry:
        name = registry.push(f"oci:{tmp_path}/layout:latest", "a/b:1")
        with RegistrySource(name, tmp_path / "dl") as source:  # loopback: insecure unasked
            assert source.images()[0].config_digest == Sample().image_id
        monkeypatch.setattr("lamella.images.registry_client.is_loopback", lambda host: False)
        with pytest.raises(NetworkError, match="certificate") as caught:
            RegistrySource(name, tmp_path / "dl").images()
        assert "--insecure-registry" in (caught.value.hint or "")
        authorities = tmp_path / "certs.d" / registry.host
        authorities.mkdir(parents=True)
        (authorities / "ca.crt").write_bytes(certificate[0].read_bytes())
        monkeypatch.setattr(transport_module, "CERTIFICATE_FOLDER", tmp_path / "certs.d")
        with RegistrySource(name, tmp_path / "dl") as source:
            assert source.images()[0].config_digest == Sample().image_id
        (authorities / "bad.crt").write_bytes(b"rubbish")
        with pytest.raises(BadInputError, match="certificate authority"):
            RegistrySource(name, tmp_path / "dl").images()


@pytest.mark.slow
def test_debian_and_busybox_from_the_real_registry(tmp_path: Path, tool: Callable[[str], str]) -> None:
    with real.running_registry(tmp_path / "registry") as registry:
        for built in (busybox_image(), debian_image()):
            name = registry.push(f"oci-archive:{built.oci_archive}", f"library/{built.name}:1")
            with RegistrySource(name, tmp_path / "dl") as source:
                (image,) = source.images()
                assert image.config_digest == built.image_id
                source.prefetch(image.layers)
                for layer in image.layers:
                    with layer.open() as stream:
                        stream.verify()
                    source.release(layer)


def test_foreign_layers_come_from_their_own_address(
    tmp_path: Path, server: Server, sleeps: list[float]
) -> None:
    sample = Sample()
    manifest, blobs = sample.manifest()
    it = server.behaviour
    digest = manifest["layers"][0]["digest"]
    manifest["layers"][0] |= {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "urls": [f"{server.url}/storage/{'0' * 64}", f"{server.url}/storage/{digest.partition(':')[2]}"],
    }
    it.manifests["1"] = (sample.manifest_type(), compact(manifest))
    it.auth = "basic"
    it.faults = [(f"blobs/{digest}", status(404))]
    pull(server, tmp_path / "dl", credentials=Credentials(USER, PASSWORD))
    outside = [asked for asked in it.asked if "/storage/" in asked.path]
    assert len(outside) == 2
    assert all("Authorization" not in asked.headers for asked in outside)
    assert blobs


def test_three_layers_at_once(tmp_path: Path, server: Server) -> None:
    server.behaviour.add(BIG)
    under_way, most = [0], [0]
    together = threading.Event()

    def slow(handler: object) -> bool:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        if under_way[0] > 1:
            together.set()
        together.wait(30)
        under_way[0] -= 1
        return False

    server.behaviour.faults = [(digest, slow) for digest in BIG.diff_ids]
    pull(server, tmp_path / "dl", sample=BIG)
    assert 2 <= most[0] <= 3


def test_progress_and_closing_early(tmp_path: Path, server: Server) -> None:
    server.behaviour.add(BIG)
    seen: list[object] = []

    class Record:
        def start(self, what: str, total: int | None, *, unit: str = "bytes", had: int = 0) -> None:
            assert what.endswith(": downloading")
            seen.append(("start", total))
            seen.append(had)

        def advance(self, amount: int) -> None:
            seen.append(amount)

        def waiting(self, why: str) -> None:
            pass

        def done(self) -> None:
            seen.append("done")

    def late(handler: object) -> bool:
        time.sleep(0.2)
        return False

    server.behaviour.faults = [("/blobs/" + BIG.diff_ids[0], late)]
    with RegistrySource(f"{server.host}/lib/it:1", tmp_path, credentials=ANONYMOUS) as source:
        (image,) = source.images()
        source.prefetch(image.layers, Record())
        for layer in image.layers:
            with layer.open():
                pass
    assert ("start", image.layers[0].size) in seen
    assert seen.count("done") == sum(isinstance(step, tuple) for step in seen)
    assert seen[-1] == "done"
    sizes = [step[1] for step in seen if isinstance(step, tuple)]
    assert sum(step for step in seen if isinstance(step, int)) == sum(sizes)

    server.behaviour.faults = [("/blobs/", late)] * 5
    with RegistrySource(f"{server.host}/lib/it:1", tmp_path / "other", credentials=ANONYMOUS) as source:
        source.prefetch(source.images()[0].layers)


def test_no_room_for_a_download(tmp_path: Path, server: Server, tool: Callable[[str], str]) -> None:
    server.behaviour.add(BIG)
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        with pytest.raises(NoSpaceError, match="No space left"):
            pull(server, folder, sample=BIG)
    finally:
        time.sleep(0.1)
        run("umount", "-l", folder)


def test_one_layer_twice(tmp_path: Path, server: Server) -> None:
    sample = Sample(layers=[SAMPLE_LAYERS[0], SAMPLE_LAYERS[1], SAMPLE_LAYERS[0]])
    server.behaviour.add(sample)
    pull(server, tmp_path / "dl", sample=sample)


def test_proxies_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_registry() as proxy:
        proxy.behaviour.add(Sample())
        monkeypatch.setenv("http_proxy", f"http://me:secret@{proxy.host}")
        monkeypatch.setenv("https_proxy", f"http://{proxy.host}")
        carrier = Transport(sleep=lambda seconds: None)
        response = carrier.get("http://registry.example/v2/", {})
        assert response.status == 200
        (asked,) = proxy.behaviour.asked
        assert asked.path == "http://registry.example/v2/"
        assert {name.lower() for name in asked.headers} >= {"proxy-authorization"}
        monkeypatch.setenv("no_proxy", "registry.example")
        with pytest.raises(NetworkError, match="no such host"):
            carrier.get("http://registry.example/v2/", {}, attempts=1)
        with pytest.raises(LamellaError):
            carrier.get("https://other.example/v2/", {}, attempts=1)
        monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
        with pytest.raises(LamellaError, match="no other kind is supported"):
            carrier.get("http://third.example/", {})


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("registry.local", False),
        ("10.0.0.1:5000", False),
        ("localhost.example", False),
    ],
)
def test_which_hosts_are_this_machine(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_the_server_speaks_tls_and_nothing_is_known(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("openssl")
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with fake_registry(context=context) as server:
        server.behaviour.add(Sample())
        pull(server, tmp_path / "dl")
    assert stat.S_ISREG(key.stat().st_mode)
