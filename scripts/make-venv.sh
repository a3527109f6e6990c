#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make-venv.sh FOLDER [GROUP]` makes a virtual environment with Lamella (in place) and, if given, a dependency
# group of pyproject.toml. Everything is installed from requirements/*.txt, with its hash checked; with
# LAMELLA_UNLOCKED=1 the newest versions that pyproject.toml allows are installed, without hashes.
set -eu
venv=$1 group=${2:-}
for candidate in python3.13 python3.12 python3.11 python3.14 python3; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "${python:-}" ] || { echo "Python 3.11 or later with its venv module is needed." >&2; exit 1; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$venv/pip.log" 2>&1 && return
    if grep -qiE 'NewConnectionError|NameResolutionError|name resolution|ConnectTimeout|ProxyError|unreachable' \
        "$venv/pip.log"; then
        echo "The Python packages of Lamella cannot be downloaded: the package index cannot be reached." >&2
        echo "Connect to a network and try again; or name a mirror with PIP_INDEX_URL, or a folder that has" >&2
        echo "them with PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER. What pip said: $venv/pip.log" >&2
    else
        cat "$venv/pip.log" >&2
    fi
    exit 1
}
if [ -z "${LAMELLA_UNLOCKED:-}" ]; then
    pip --require-hashes -r requirements/build.txt -r "requirements/${group:-run}.txt"
    pip --no-deps --no-build-isolation --editable .
else
    # pip supports dependency groups only since 25.1, and Debian 12 has 23.0.
    "$venv/bin/python" - $group >"$venv/requirements.txt" <<'END'
import sys, tomllib

with open("pyproject.toml", "rb") as file:
    groups = tomllib.load(file)["dependency-groups"]
wanted = sys.argv[1:]
for name in wanted:
    wanted += [entry["include-group"] for entry in groups[name] if isinstance(entry, dict)]
    print(*[entry for entry in groups[name] if isinstance(entry, str)], sep="\n")
END
    pip --editable . -r "$venv/requirements.txt"
fi
# Compiled here, so that the first run of a command is not slow, also for users without write permission.
"$venv/bin/python" -m compileall -q src/lamella
