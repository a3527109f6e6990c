# SPDX-License-Identifier: Apache-2.0
"""Real images for tests: a Debian root file system in three layers, and busybox.

Built once with ``mmdebstrap`` and ``umoci`` from the machine's own package sources, and kept in
``LAMELLA_TEST_CACHE`` (or ``lamella-tests-UID`` in the temporary folder) until RECIPE changes. The guest has
no network: there, packages are copied as they are installed.

Use: ``debian_image()`` and ``busybox_image()`` give :class:`Built`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import missing
from tests.support.images import Sample, make_tar, run, write_oci_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

IN_GUEST = os.environ.get("LAMELLA_IN_GUEST") == "1"
RECIPE = "3"
"""Part of the cache's folder name: raise it when what is built below changes."""
SUITE = "bookworm"
PACKAGES = ("perl", "gnupg", "iputils-ping", "libcap2-bin")
"""Second layer; iputils-ping brings a file capability (an xattr), perl many small files."""
INSTALLED = ("base-files", "base-passwd", "bash", "coreutils", "libc6", "passwd", "perl-base", "sed", "tar")
MORE_INSTALLED = (f"libpython3.{sys.version_info.minor}-minimal", "mount", "util-linux")
"""What takes the place of both layers in the guest; mount brings setuid programs."""
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""cap_net_raw=ep, as iputils-ping's ping has it."""


@dataclass(frozen=True)
class Built:
    """One image in every form that a test may want."""

    folder: Path
    name: str
    tag: str

    @property
    def layout(self) -> Path:
        """The OCI layout folder, gzip layers."""
        return self.folder / "layout"

    @property
    def oci_archive(self) -> Path:
        return self.folder / "oci.tar"

    @property
    def docker_archive(self) -> Path:
        """As skopeo writes it: plain layers."""
        return self.folder / "docker.tar"

    @property
    def image_id(self) -> str:
        """The digest of the configuration: the same in all forms."""
        return str(self.manifest()["config"]["digest"])

    @property
    def reference(self) -> str:
        """The name that the archives carry: ``name:tag``."""
        return f"{self.name}:{self.tag}"

    def blob(self, digest: str) -> Path:
        return self.layout / "blobs" / digest.replace(":", "/")

    def manifest(self) -> dict[str, dict[str, str]]:
        index = json.loads((self.layout / "index.json").read_text())
        manifest: dict[str, dict[str, str]] = json.loads(
            self.blob(index["manifests"][0]["digest"]).read_text()
        )
        return manifest

    def config(self) -> dict[str, dict[str, list[str]]]:
        config: dict[str, dict[str, list[str]]] = json.loads(self.blob(self.image_id).read_text())
        return config


def cache_folder() -> Path:
    """Where built images are kept between test runs."""
    named = os.environ.get("LAMELLA_TEST_CACHE")
    return Path(named) if named else Path(tempfile.gettempdir()) / f"lamella-tests-{os.getuid()}"


def debian_image() -> Built:
    """Debian in three layers: a minimal base, PACKAGES on top, then deletions and replacements."""
    if os.getuid() != 0:
        pytest.skip("building the Debian image needs root (chroot and device nodes)")
    _need("umoci", "skopeo", *([] if IN_GUEST else ["mmdebstrap"]))
    return _built_once("debian", _build_debian)


def busybox_image() -> Built:
    """One layer: the static busybox with a link for each of its applets."""
    _need("busybox", "skopeo")
    return _built_once("busybox", _build_busybox)


def _need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            missing(f"the program {program}")


def _built_once(name: str, build: Callable[[Path], Built]) -> Built:
    """Build into a fresh folder and rename it, under a lock, so that no test sees half an image."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    final = cache / f"{name}-{RECIPE}"
    with _locked(cache / f"{name}.lock"):
        if not final.exists():
            work = Path(tempfile.mkdtemp(prefix=f"{name}-building-", dir=cache))
            try:
                built = build(work)
                _write_archives(built)
                work.chmod(0o755)
                work.rename(final)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return Built(final, name, "latest")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_archives(built: Built) -> None:
    source = f"oci:{built.layout}:{built.tag}"
    for kind, path in (("docker-archive", built.docker_archive), ("oci-archive", built.oci_archive)):
        run("skopeo", "--insecure-policy", "copy", "-q", source, f"{kind}:{path}:{built.reference}")


def _build_debian(work: Path) -> Built:
    built = Built(work, "debian", "latest")
    image, bundle = f"{built.layout}:{built.tag}", work / "bundle"
    root = bundle / "rootfs"
    run("umoci", "init", "--layout", built.layout)
    run("umoci", "new", "--image", image)
    run("umoci", "unpack", "--image", image, bundle)
    first, second = (_copy_base, _copy_more) if IN_GUEST else (_debootstrap, _install)
    first(root)
    _repack(image, bundle, "base system")
    second(root)
    _repack(image, bundle, "more packages")
    _change_things(root)
    _repack(image, bundle, "deletions and replacements")
    run(
        "umoci", "config", "--image", image, "--config.cmd", "/bin/bash", "--config.env", "PATH=/usr/bin:/bin"
    )
    run("umoci", "gc", "--layout", built.layout)
    shutil.rmtree(bundle)
    return built


def _debootstrap(root: Path) -> None:
    root.rmdir()
    try:
        run("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", SUITE, root)
    except AssertionError as error:
        missing(f"a Debian mirror for mmdebstrap ({str(error).splitlines()[-1]})")


def _install(root: Path) -> None:
    install = "apt-get -qq update && apt-get -qq install -y --no-install-recommends " + " ".join(PACKAGES)
    # The host's resolver and proxies are for the time of the build only.
    resolver = root / "etc/resolv.conf"
    shutil.copyfile("/etc/resolv.conf", resolver)
    quiet = os.environ | {
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    run("chroot", root, "/bin/sh", "-c", f"({install} && apt-get clean) 2>&1", env=quiet)
    resolver.write_bytes(b"")


def _copy_base(root: Path) -> None:
    _copy_installed(root, INSTALLED, "/bin", "/lib", "/lib64", "/sbin", "/etc/group", "/etc/passwd")
    # What the packages' scripts make.
    (root / "etc/motd").touch()
    (root / "srv").mkdir(exist_ok=True)


def _copy_more(root: Path) -> None:
    _copy_installed(root, MORE_INSTALLED)
    os.setxattr(root / "usr/bin/mount", "security.capability", CAPABILITY)


def _copy_installed(root: Path, packages: Sequence[str], *more: str) -> None:
    """What dpkg knows of *packages*, and *more* paths, as they are in this machine's own root."""
    listed = {*run("dpkg", "-L", *packages).splitlines(), *more} - {"", "/."}
    whole = {os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in listed}
    names = root.with_name("names")
    names.write_text("".join(f".{path}\n" for path in sorted(whole) if os.path.lexists(path)))
    tar = f"tar -C / --no-recursion --xattrs -cf - -T '{names}' | tar -C '{root}' --xattrs -xpf -"
    run("sh", "-c", tar)
    names.unlink()


def _repack(image: str, bundle: Path, comment: str) -> None:
    run("umoci", "repack", "--refresh-bundle", "--history.comment", comment, "--image", image, bundle)


def _change_things(root: Path) -> None:
    """Every kind of change that a layer can hold."""
    shutil.rmtree(root / "usr/share/doc")
    shutil.rmtree(root / "usr/share/locale", ignore_errors=True)
    (root / "usr/share/doc").write_bytes(b"a file where a directory was\n")
    (root / "usr/bin/perldoc").unlink(missing_ok=True)
    (root / "etc/motd").unlink()
    (root / "etc/motd").mkdir()  # a directory where a file was
    (root / "etc/motd/inside").write_bytes(b"inside\n")
    (root / "etc/issue").write_bytes(b"replaced\n")
    (root / "etc/issue").chmod(0o600)
    (root / "etc/debian_version").unlink()
    (root / "etc/debian_version").symlink_to("issue")
    (root / "srv").chmod(0o1777)
    os.chown(root / "srv", 70_000, 4_000_000_000)
    strange = root / "srv" / os.fsdecode(b"not utf-8 \xff\xfe")
    strange.write_bytes(b"strange name\n")
    os.utime(strange, ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))
    (root / "srv" / ("n" * 255)).write_bytes(b"long name\n")
    os.link(root / "etc/passwd", root / "srv/passwd-link")  # a hard link to a file of a lower layer
    (root / "srv/many").mkdir()
    for number in range(3000):
        (root / f"srv/many/file-{number:05}").write_bytes(b"%d\n" % number)
    os.mkfifo(root / "srv/fifo")
    with (root / "srv/sparse").open("wb") as sparse:
        sparse.write(b"head")
        sparse.seek(8 << 20)
        sparse.write(b"tail")
    os.setxattr(root / "etc/issue", "user.note", b"\x00\x01binary")


def _build_busybox(work: Path) -> Built:
    built = Built(work, "busybox", "latest")
    program = Path(shutil.which("busybox") or "").read_bytes()
    applets = run("busybox", "--list").split()
    base = make_tar({"bin/": None, "etc/": None, "tmp/": None, "root/": None})
    layer = _layer_with_applets(program, [name for name in applets if name != "busybox"])
    sample = Sample(layers=[base, layer], references=[f"docker.io/library/{built.reference}"])
    write_oci_layout(built.layout, [sample])
    assert hashlib.sha256(sample.config).hexdigest() in built.image_id
    return built


def _layer_with_applets(program: bytes, applets: list[str]) -> bytes:
    import tarfile

    members = []
    busybox = tarfile.TarInfo("bin/busybox")
    busybox.size, busybox.mode, busybox.mtime = len(program), 0o755, 1_600_000_000
    members.append((busybox, program))
    for number, name in enumerate(applets):
        link = tarfile.TarInfo(f"bin/{name}")
        link.mode, link.mtime = 0o755, 1_600_000_000
        link.type = tarfile.LNKTYPE if number % 2 else tarfile.SYMTYPE
        link.linkname = "bin/busybox" if number % 2 else "busybox"
        members.append((link, b""))
    for name, data in {"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n", "etc/group": b"root:x:0:\n"}.items():
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), 0o644, 1_600_000_000
        members.append((info, data))
    return make_tar(members=members)
