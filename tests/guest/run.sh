#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a guest runs: the group $1 of the tests, or without one the tests of this folder. The groups take about
# as long as one another, for guests side by side: "store-loop", "store-direct" and "store-rest" are all tests of
# the store and of its driver with the kernel's engine, and containerd's of snapshotters, the others those of this folder.
export LAMELLA_IN_GUEST=1 LAMELLA_REQUIRE_TOOLS=1 CI=true PYTHONPYCACHEPREFIX=/var/tmp/compiled
cd /project || exit
# A test that hangs is ended. Beside other work everything takes some times as long, and emulated ten to twenty.
case $GUEST_DISKS in
/dev/vd) limit=9000 ;;
*) limit=1800 ;;
esac
tests() {
    exec python3 -m pytest -v -o timeout=$limit --tb=short --durations=15 -o cache_dir=/var/tmp/pytest-cache \
        --basetemp=/var/tmp/pytest "$@"
}
store() {
    export LAMELLA_TEST_ENGINE=kernel LAMELLA_KILLS="${LAMELLA_KILLS:-12}"
    export LAMELLA_CONFORMANCE=/project/build/conformance/snapshotter
    tests "$@"
}
case $1 in
store-loop) store -k loop-lvm tests/store tests/driver ;;
store-direct) store -k direct-lvm tests/store tests/driver ;;
store-rest) store -k 'not loop-lvm and not direct-lvm' tests/store tests/driver \
    tests/services/containerd/test_conformance.py ;;
kernel) tests tests/guest/test_[d-kmpqr]*.py ;;
docker) tests tests/guest/test_docker_snapshotter.py ;; # in the root "current"
lvm) tests tests/guest/test_[abclnostu-z]*.py tests/fs/mounted/test_mount.py ;;
*) tests tests/guest ;;
esac
