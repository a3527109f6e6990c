#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a guest runs: the tests of this folder whose group is $1, and with the kernel's engine those of the
# store that say so. Emulation is slow: the groups are about as long as one another, for guests side by side.
# Without a group all tests of this folder are run, random sessions of LVM commands too.
export LAMELLA_IN_GUEST=1 LAMELLA_REQUIRE_TOOLS=1 CI=true PYTHONPYCACHEPREFIX=/var/tmp/compiled
cd /project || exit
tests() {
    python3 -m pytest -v --durations=15 -o cache_dir=/var/tmp/pytest-cache --basetemp=/var/tmp/pytest "$@"
}
# Under emulation udev may have a disk open for seconds at any moment. So what failed is tried once more, by
# itself, with both outputs shown; what fails twice fails.
run() {
    tests --maxfail=5 "$@" || tests --last-failed --last-failed-no-failures=none "$@"
}
case $1 in
store)
    LAMELLA_TEST_ENGINE=kernel run -m kernel_each_time -k 'loop-lvm or test_diff' \
        tests/store/test_containers.py tests/store/test_copying.py tests/store/test_interrupted.py \
        tests/store/test_setup.py &&
        run tests/guest/test_[d-h]*.py tests/guest/test_store_hand_over.py
    ;;
lvm) run -k 'not random_session' tests/guest/test_[ab]*.py tests/guest/test_l*.py tests/guest/test_w*.py ;;
# Not part of CI, about half an hour: all tests of the store that say as much of the kernel's engine.
engine) LAMELLA_KILLS=${LAMELLA_KILLS:-12} LAMELLA_TEST_ENGINE=kernel run -m kernel_too tests/store tests/driver ;;
kernel) run tests/guest/test_[km-r]*.py tests/guest/test_thin*.py tests/guest/test_x*.py ;;
*) run tests/guest ;;
esac
