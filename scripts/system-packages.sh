#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the system packages that a target needs and that are missing: `system-packages.sh run` (to use
# Lamella), `test` (to test it against the real programs), `guest` (for the guest with a real kernel) or `qemu`
# (to run that guest where User-mode Linux cannot). As root, or where sudo needs no password, it installs
# them; otherwise it names what is missing: for `run` that is an error, for `test` the tests that need those programs
# skip and say so.
set -eu

have_python() {
    for candidate in python3.14 python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return 0
        fi
    done
    return 1
}

# Whether a usual folder has the shared library.
have_library() {
    for folder in /lib /usr/lib /lib64 /usr/lib64 /lib/*-linux-gnu /usr/lib/*-linux-gnu; do
        [ -e "$folder/$1" ] && return 0
    done
    return 1
}

have_program() {
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1
}

# The first of several package names that this release has.
known() {
    for name in "$@"; do
        if apt-cache show "$name" >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "$1"
}

wanted=""
python_missing=""
have_python || python_missing=yes
have_library libext2fs.so.2 || wanted="$wanted libext2fs2t64|libext2fs2"
have_library libcom_err.so.2 || wanted="$wanted libcom-err2"

# Tests need the guest's build tools too: Docker makes the stores that they read in the guest.
if [ "$1" = guest ] || [ "$1" = test ]; then
    have_program mmdebstrap || wanted="$wanted mmdebstrap"
    have_program mkfs.ext4 || wanted="$wanted e2fsprogs"
    have_program newuidmap || wanted="$wanted uidmap"
    # Programs of containerd's code: tests/conformance.
    have_program go || [ -x /usr/local/go/bin/go ] || wanted="$wanted golang-go"
    ls /usr/share/keyrings/debian-archive-keyring.* >/dev/null 2>&1 || wanted="$wanted debian-archive-keyring"
fi
if [ "$1" = qemu ]; then
    have_program qemu-system-x86_64 || wanted="$wanted qemu-system-x86"
fi
if [ "$1" = test ]; then
    while read -r program package; do
        have_program "$program" || wanted="$wanted $package"
    done <<EOF
thin_check thin-provisioning-tools
lvm lvm2
losetup mount
umoci umoci
skopeo skopeo
docker-registry docker-registry
zstd zstd
bsdtar libarchive-tools
openssl openssl
nbdkit nbdkit
qemu-nbd qemu-utils
getfattr attr
getfacl acl
mkfs.xfs xfsprogs
zsh zsh
fish fish
mandoc mandoc
systemd-analyze systemd
promtool prometheus
containerd containerd
runc runc
EOF
    [ -e /bin/busybox ] || [ -e /usr/bin/busybox ] || wanted="$wanted busybox-static"
    have_library libblkid.so.1 || wanted="$wanted libblkid1t64|libblkid1"
fi

[ -n "$wanted$python_missing" ] || exit 0

as_root=""
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        echo "Missing system packages:${python_missing:+ python3 (3.11 or later) python3-venv}$wanted" >&2
        echo "Install them as root:  apt-get install${python_missing:+ python3-venv}$wanted" >&2
        [ "$1" = test ] && [ -z "$python_missing" ] && exit 0
        exit 1
    fi
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "This is not Debian or Ubuntu. Install with your own package manager:$wanted" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
# Without a network, what an earlier update found may do.
$as_root apt-get update -q >/dev/null 2>&1 || true
packages=""
for choice in $wanted; do
    packages="$packages $(known $(echo "$choice" | tr '|' ' '))"
done
if [ -n "$python_missing" ]; then
    # The release's own Python where it is new enough, else the newest that it also packages.
    version=$(apt-cache show python3 2>/dev/null | sed -n 's/^Version: 3\.\([0-9]*\).*/\1/p' | head -n 1)
    if [ "${version:-0}" -ge 11 ]; then
        packages="$packages python3 python3-venv"
    else
        newest=$(known python3.13 python3.12 python3.11)
        packages="$packages $newest $newest-venv"
    fi
fi
echo "Installing:$packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages \
    >"$log" 2>&1; then
    if grep -qE 'Could not resolve|Could not connect|Temporary failure|Unable to fetch|Unable to locate' "$log"; then
        echo "These packages cannot be downloaded:$packages" >&2
        echo "Connect to a network and try again, or install them from another source." >&2
    else
        cat "$log" >&2
    fi
    exit 1
fi
