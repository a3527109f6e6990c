# SPDX-License-Identifier: Apache-2.0
"""Pulling from the real registry, and from one that misbehaves."""

from __future__ import annotations

import contextlib
import os
import random
import ssl
import stat
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.errors import (
    BadInputError,
    LamellaError,
    NetworkError,
    NoSpaceError,
    NotFoundError,
    UnsupportedError,
)
from lamella.images import transport as transport_module
from lamella.images.credentials import ANONYMOUS, Credentials
from lamella.images.digest import file_name
from lamella.images.download import Downloader
from lamella.images.registry import RegistrySource
from lamella.images.transport import Transport, is_loopback, retry_after
from tests.images.fake_registry import (
    PASSWORD,
    REFRESH,
    USER,
    Handler,
    Server,
    body,
    broken_after,
    fake_registry,
    raw,
    status,
)
from tests.support import registry as real
from tests.support.debian import busybox_image, debian_image
from tests.support.images import SAMPLE_LAYERS, Sample, compact, make_tar, run, sha256, write_oci_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BIG = Sample(
    layers=[make_tar({f"file{n}": random.Random(n).randbytes(900_000)}) for n in range(5)],
    compression="plain",
)


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; what would have been waited is written down."""
    slept: list[float] = []
    original = Downloader.__init__

    def start(self: Downloader, *args: object, **options: object) -> None:
        original(self, *args, **(options | {"sleep": slept.append}))  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Downloader, "__init__", start)
    return slept


@pytest.fixture
def server() -> Iterator[Server]:
    with fake_registry() as found:
        found.behaviour.add(Sample())
        yield found


def pull(
    server: Server,
    folder: Path,
    name: str = "lib/it:1",
    *,
    sample: Sample | None = None,
    sleeps: list[float] | None = None,
    credentials: Credentials = ANONYMOUS,
    **options: object,
) -> RegistrySource:
    """Pull and check everything; gives the (closed) source."""
    slept = sleeps if sleeps is not None else []
    carrier = Transport(verify=False, sleep=slept.append)
    reference = f"{server.host}/{name}"
    source = RegistrySource(reference, folder, credentials=credentials, transport=carrier, **options)  # type: ignore[arg-type]
    expected = sample or Sample()
    with source:
        (image,) = source.images()
        assert image.config_digest == expected.image_id
        source.prefetch(image.layers)
        for layer, data in zip(image.layers, expected.layers, strict=True):
            with layer.open() as stream:
                assert stream.read() == data
            source.release(layer)
    assert list(folder.iterdir()) == []
    return source


# The real one --------------------------------------------------------------------------------


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


# Authorization -------------------------------------------------------------------------------


def test_bearer_tokens(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth = "bearer"
    pull(server, tmp_path / "dl")
    (asked,) = server.behaviour.paths("/token")
    assert asked == "/token?service=the+registry&scope=repository%3Alib%2Fit%3Apull"


def test_bearer_tokens_with_a_password(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth, server.behaviour.anonymous_ok = "bearer", False
    pull(server, tmp_path / "dl", credentials=Credentials(USER, PASSWORD))
    (asked,) = server.behaviour.paths("/token")
    assert asked.endswith("&account=user")
    for wrong in (ANONYMOUS, Credentials(USER, "wrong")):
        with pytest.raises(NetworkError, match="unauthorized"):
            pull(server, tmp_path / "dl", credentials=wrong)


def test_identity_tokens(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth, server.behaviour.anonymous_ok = "bearer", False
    pull(server, tmp_path / "dl", credentials=Credentials(identity_token=REFRESH))
    (asked,) = [asked for asked in server.behaviour.asked if asked.method == "POST"]
    assert "grant_type=refresh_token" in asked.body
    assert "scope=repository%3Alib%2Fit%3Apull" in asked.body
    with pytest.raises(NetworkError, match="unauthorized"):
        pull(server, tmp_path / "dl", credentials=Credentials(identity_token="old"))


def test_a_token_that_ends_early_is_fetched_again(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth = "bearer"

    def expire(handler: object) -> bool:
        server.behaviour.tokens += 1
        return False

    server.behaviour.faults = [("/blobs/", expire)]
    pull(server, tmp_path / "dl")
    assert len(server.behaviour.paths("/token")) == 2


def test_basic_with_a_comma_in_its_realm(tmp_path: Path, server: Server) -> None:
    server.behaviour.auth = "basic"
    pull(server, tmp_path / "dl", credentials=Credentials(USER, PASSWORD))
    with pytest.raises(NetworkError, match="pull access denied"):
        pull(server, tmp_path / "dl")


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Bearer",
        'Bearer realm="file:///etc/passwd"',
        'Bearer realm="http://[::1"',
        "Negotiate x",
        "Basic",
        "\xff==",
    ],
)
def test_strange_challenges(tmp_path: Path, server: Server, challenge: str) -> None:
    server.behaviour.faults = [(".*", status(401, WWW_Authenticate=challenge)) for _ in range(20)]
    with pytest.raises(LamellaError):
        pull(server, tmp_path / "dl")


@pytest.mark.parametrize(
    "answer", [b"", b"{}", b"[]", b'{"token":5}', b'{"token":"a\\nb"}', b'{"token":"a","expires_in":"x"}']
)
def test_strange_tokens(tmp_path: Path, server: Server, answer: bytes) -> None:
    server.behaviour.auth = "bearer"
    server.behaviour.faults = [("/token", body(answer))]
    with pytest.raises(BadInputError):
        pull(server, tmp_path / "dl")


# Redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_redirects_to_a_storage_carry_no_secret(tmp_path: Path, server: Server, auth: str) -> None:
    with fake_registry() as storage:
        storage.behaviour.blobs = server.behaviour.blobs
        server.behaviour.auth, server.behaviour.redirect_blobs = auth, True
        server.behaviour.storage = storage.url
        pull(server, tmp_path / "dl", credentials=Credentials(USER, PASSWORD))
        assert storage.behaviour.asked
        assert all("Authorization" not in asked.headers for asked in storage.behaviour.asked)
        assert all(
            "Authorization" in asked.headers for asked in server.behaviour.asked if "/blobs/" in asked.path
        )


@pytest.mark.parametrize(
    "location", ["/v2/lib/it/blobs/x", "file:///etc/passwd", "http://[", "ftp://x/", "http://a:b/"]
)
def test_bad_redirects(tmp_path: Path, server: Server, location: str) -> None:
    server.behaviour.faults = [("/manifests/", status(302, Location=location))] + [
        ("/blobs/x", status(302, Location="/v2/lib/it/blobs/x")) for _ in range(30)
    ]
    with pytest.raises(LamellaError):
        pull(server, tmp_path / "dl")


# Faults --------------------------------------------------------------------------------------


def test_servers_that_are_busy_are_asked_again(tmp_path: Path, server: Server) -> None:
    slept: list[float] = []
    server.behaviour.faults = [
        ("/manifests/", status(503)),
        ("/manifests/", status(429, Retry_After="7")),
        ("/manifests/", raw(b"")),
        ("/manifests/", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n")),
        ("/blobs/", status(500)),
        ("/blobs/", status(502)),
    ]
    pull(server, tmp_path / "dl", sleeps=slept)
    assert 7.0 in slept
    assert len(slept) >= 6


def test_servers_that_stay_busy_are_reported(tmp_path: Path, server: Server) -> None:
    for fault, why in (
        (status(503), "failed with the status 503"),
        (status(429), "toomanyrequests"),
        (status(429, Retry_After="86400"), "toomanyrequests"),
        (raw(b""), "cannot reach"),
        (raw(b"garbage\r\n\r\n"), "cannot reach"),
    ):
        server.behaviour.faults = [("/manifests/", fault) for _ in range(10)]
        with pytest.raises(NetworkError, match=why):
            pull(server, tmp_path / "dl")
        assert len(server.behaviour.faults) == 9 if "86400" in str(fault) else True


def test_nobody_there(tmp_path: Path) -> None:
    host = f"127.0.0.1:{real.free_port()}"
    slept: list[float] = []
    source = RegistrySource(f"{host}/a:1", tmp_path, transport=Transport(sleep=slept.append))
    with pytest.raises(NetworkError, match="Connection refused"):
        source.images()
    assert len(slept) == 1


def test_http_where_https_was_expected(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamella.images.registry_client.is_loopback", lambda host: False)
    source = RegistrySource(f"{server.host}/lib/it:1", tmp_path, credentials=ANONYMOUS)
    with pytest.raises(NetworkError, match="HTTP response to an HTTPS client") as caught:
        source.images()
    assert "--insecure-registry" in (caught.value.hint or "")
    with RegistrySource(f"{server.host}/lib/it:1", tmp_path, insecure=True, credentials=ANONYMOUS) as source:
        assert source.images()[0].config_digest == Sample().image_id


def test_a_download_goes_on_where_it_broke_off(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    server.behaviour.add(BIG)
    layer = BIG.diff_ids[0]
    server.behaviour.faults = [
        (layer, broken_after(300_000)),
        (layer, broken_after(200_000)),
        (layer, raw(b"")),
    ]
    pull(server, tmp_path / "dl", sample=BIG)
    asked = [asked.headers.get("Range", "") for asked in server.behaviour.asked if layer in asked.path]
    starts = [int(value.removeprefix("bytes=").rstrip("-") or 0) for value in asked]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert starts[-1] > 200_000
    assert len(sleeps) == 2


def test_a_server_without_ranges(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    server.behaviour.add(BIG)
    server.behaviour.ranges = False
    server.behaviour.faults = [(BIG.diff_ids[1], broken_after(300_000)), (BIG.diff_ids[1], broken_after(200))]
    pull(server, tmp_path / "dl", sample=BIG)
    assert len(sleeps) == 2


def test_a_download_goes_on_in_a_later_pull(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    server.behaviour.add(BIG)
    blob = server.behaviour.blobs[BIG.diff_ids[0]]
    folder = tmp_path / "dl"
    folder.mkdir()
    (folder / (file_name(BIG.diff_ids[0]) + ".partial")).write_bytes(blob[:500_000])
    (folder / (file_name(BIG.diff_ids[1]) + ".partial")).write_bytes(b"rubbish" * 1000)
    (folder / (file_name(BIG.diff_ids[2]) + ".partial")).write_bytes(blob + b"too long" * 100_000)
    (folder / file_name(BIG.diff_ids[3])).write_bytes(server.behaviour.blobs[BIG.diff_ids[3]])
    (folder / file_name(BIG.diff_ids[4])).write_bytes(b"x" * len(server.behaviour.blobs[BIG.diff_ids[4]]))
    pull(server, folder, sample=BIG)
    assert server.behaviour.paths(BIG.diff_ids[3]) == []
    ranges = [asked.headers.get("Range") for asked in server.behaviour.asked if BIG.diff_ids[0] in asked.path]
    assert ranges == ["bytes=500000-"]


def test_a_dead_download_stays_for_later(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    server.behaviour.add(BIG)
    server.behaviour.faults = [(BIG.diff_ids[0], broken_after(1000)) for _ in range(20)]
    with pytest.raises(NetworkError, match="was interrupted 5 times"):
        pull(server, tmp_path / "dl", sample=BIG)
    assert (tmp_path / "dl" / (file_name(BIG.diff_ids[0]) + ".partial")).stat().st_size > 0
    server.behaviour.faults.clear()
    for path in (tmp_path / "dl").iterdir():
        if not path.name.endswith(".partial"):
            path.unlink()
    pull(server, tmp_path / "dl", sample=BIG)


def test_wrong_blobs_never_get_through(tmp_path: Path, server: Server, sleeps: list[float]) -> None:
    digest = Sample().manifest()[0]["layers"][0]["digest"]
    good = server.behaviour.blobs[digest]
    for bad, why in (
        (good[:-1] + b"X", "wrong digest"),
        (good + b"more", "longer than"),
        (good[:-9], "bytes are missing|was interrupted"),
        (b"", "missing|was interrupted"),
    ):
        server.behaviour.blobs[digest] = bad
        with pytest.raises(LamellaError, match=why):
            pull(server, tmp_path / "dl")
    del server.behaviour.blobs[digest]
    with pytest.raises(NetworkError, match="blob unknown"):
        pull(server, tmp_path / "dl")
    server.behaviour.blobs[digest] = good
    for path in (tmp_path / "dl").iterdir():
        path.unlink()
    pull(server, tmp_path / "dl")


def test_wrong_manifests(tmp_path: Path, server: Server) -> None:
    it = server.behaviour
    kind, good = it.manifests["1"]
    digest = sha256(good)
    it.manifests[digest] = (kind, good + b" ")
    with pytest.raises(BadInputError, match="does not have the digest"):
        pull(server, tmp_path / "dl", f"lib/it@{digest}")
    it.headers = {"Docker-Content-Digest": sha256(b"other")}
    with pytest.raises(BadInputError, match="does not have the digest"):
        pull(server, tmp_path / "dl")
    it.headers = {"Docker-Content-Digest": "rubbish"}
    source = pull(server, tmp_path / "dl")
    assert source.digest == digest
    it.manifests["1"] = ("application/vnd.docker.distribution.manifest.v1+prettyjws", b'{"schemaVersion":1}')
    with pytest.raises(UnsupportedError, match="schema 1"):
        pull(server, tmp_path / "dl")
    it.manifests["1"] = (kind, b" " * (5 << 20))
    with pytest.raises(BadInputError, match="more than"):
        pull(server, tmp_path / "dl")
    it.manifests["1"] = ("text/html; charset=utf-8", b"<html>a portal that wants money</html>")
    with pytest.raises(BadInputError, match="not valid JSON"):
        pull(server, tmp_path / "dl")
    config = Sample().image_id
    it.manifests["1"] = (kind, good)
    it.blobs[config] = it.blobs[config][:-1] + b" "
    with pytest.raises(BadInputError, match="does not have the digest"):
        pull(server, tmp_path / "dl")
    del it.blobs[config]
    with pytest.raises(BadInputError, match="does not have the configuration"):
        pull(server, tmp_path / "dl")


def test_what_is_not_there(tmp_path: Path, server: Server) -> None:
    with pytest.raises(NotFoundError, match=r"manifest for .*lib/it:2 not found: manifest unknown"):
        pull(server, tmp_path / "dl", "lib/it:2")
    with pytest.raises(
        NotFoundError, match=r"pull access denied for .*/unknown/it, repository does not exist or may"
    ):
        pull(server, tmp_path / "dl", "unknown/it:2")
    server.behaviour.faults = [("/manifests/", status(403))]
    with pytest.raises(NetworkError, match="may require 'docker login'"):
        pull(server, tmp_path / "dl")


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
        def start(self, what: str, total: int | None) -> None:
            assert what.startswith("downloading ")
            seen.append(("start", total))

        def advance(self, amount: int) -> None:
            seen.append(amount)

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


def test_a_storage_that_calls_a_layer_encoded(tmp_path: Path, server: Server) -> None:
    digest = Sample().manifest()[0]["layers"][0]["digest"]
    server.behaviour.faults = [(digest, body(server.behaviour.blobs[digest], Content_Encoding="gzip"))]
    pull(server, tmp_path / "dl")


def test_an_error_that_would_steer_the_terminal(tmp_path: Path, server: Server) -> None:
    answer = compact({"errors": [{"code": "DENIED", "message": "\x1b[2Jgone\n"}]})

    def denied(handler: Handler) -> bool:
        handler.reply(403, answer)
        return True

    server.behaviour.faults = [("/manifests/", denied)]
    with pytest.raises(NetworkError, match=r"denied:  \[2Jgone"):
        pull(server, tmp_path / "dl")


# Details -------------------------------------------------------------------------------------


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


def test_retry_after() -> None:
    assert retry_after("12") == 12.0
    assert retry_after(None) is retry_after("soon") is None
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    later = retry_after("Wed, 21 Oct 2099 07:28:00 GMT")
    assert later is not None
    assert later > 1e6


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200) | st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 999 X\r\n\r\n"]),
    st.sampled_from(["/v2/$", "/manifests/", "/blobs/", "/token"]),
)
def test_any_answer_of_a_server(
    tmp_path: Path, server: Server, sleeps: list[float], data: bytes, part: str
) -> None:
    server.behaviour.auth = "bearer"
    server.behaviour.faults = [(part, raw(data)), (part, body(data))]
    with contextlib.suppress(LamellaError):
        pull(server, tmp_path / "dl")
    server.behaviour.faults.clear()
    for path in (tmp_path / "dl").glob("*"):
        path.unlink()


def test_the_server_speaks_tls_and_nothing_is_known(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("openssl")
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with fake_registry(context=context) as server:
        server.behaviour.add(Sample())
        pull(server, tmp_path / "dl")
    assert stat.S_ISREG(key.stat().st_mode)
