#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make-venv.sh FOLDER [EXTRA]` makes a virtual environment with Lamella (in place) and, if asked, an extra.
set -eu
for candidate in python3.13 python3.12 python3.11 python3.14 python3; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "${python:-}" ] || { echo "Python 3.11 or later with its venv module is needed." >&2; exit 1; }
[ -x "$1/bin/python" ] || "$python" -m venv "$1"
"$1/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".${2:+[$2]}"
# Compiled once here, so that no command is slow the first time, also for users who may not write here.
"$1/bin/python" -m compileall -q src/lamella
