#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes requirements/*.txt again: the newest versions that pyproject.toml allows, for every supported Python and
# platform, with the hashes of their files. Each file has Lamella's dependencies and one dependency group; build.txt
# has the build backend. They name no index: pip's own setting decides where the files come from.
set -eu
cd "$(dirname "$0")/.."
lock() {
    output=requirements/$1.txt
    shift
    uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
        --no-emit-index-url --no-emit-find-links --default-index https://pypi.org/simple \
        --custom-compile-command "make lock" --output-file "$output" "$@"
}
lock run pyproject.toml
lock dev --group pyproject.toml:dev pyproject.toml
lock mutation --group pyproject.toml:mutation pyproject.toml
lock docs --group pyproject.toml:docs pyproject.toml
lock protos --group pyproject.toml:protos pyproject.toml
lock release --group pyproject.toml:release pyproject.toml
echo "setuptools>=77" | lock build -
