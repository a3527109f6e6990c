#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the guest runs: every test of this folder, and with the kernel's engine those of the store that say so.
export LAMELLA_GUEST=1 LAMELLA_REQUIRE_TOOLS=1
cd /project || exit
LAMELLA_TEST_ENGINE=kernel python3 -B -m pytest -p no:cacheprovider -v -x -m kernel_too -k 'loop-lvm or test_diff' \
    tests/store/test_containers.py tests/store/test_copying.py tests/store/test_interrupted.py tests/store/test_setup.py \
    --basetemp=/var/tmp/pytest-store || exit
exec python3 -B -m pytest -p no:cacheprovider -v -x tests/guest --basetemp=/var/tmp/pytest
