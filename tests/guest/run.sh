#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the guest runs: every test of this folder.
export LAMELLA_GUEST=1 LAMELLA_REQUIRE_TOOLS=1
cd /project && exec python3 -B -m pytest -p no:cacheprovider -v -x tests/guest --basetemp=/var/tmp/pytest
