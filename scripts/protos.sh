#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `protos.sh VENV` makes the modules in src/lamella/services/containerd/protos from the .proto files there, with the
# grpcio-tools and mypy-protobuf of that environment. What one .proto says of where another is, is made to say where
# it is here: that is where the modules import from.
set -eu
cd "$(dirname "$0")/.."
case $1 in /*) bin=$1/bin ;; *) bin=$PWD/$1/bin ;; esac
folder=lamella/services/containerd/protos
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/in/$folder" "$work/out"
for proto in src/$folder/*.proto; do
    sed "s,^import \"types/,import \"$folder/," "$proto" >"$work/in/$folder/$(basename "$proto")"
done
PATH="$bin:$PATH" "$bin/python" -m grpc_tools.protoc -I "$work/in" \
    --python_out="$work/out" --mypy_out="quiet:$work/out" "$work/in/$folder"/*.proto
PATH="$bin:$PATH" "$bin/python" -m grpc_tools.protoc -I "$work/in" \
    --grpc_python_out="$work/out" --mypy_grpc_out="quiet:$work/out" $(grep -l "^service" "$work/in/$folder"/*.proto)
rm -f src/$folder/*_pb2*
for made in "$work/out/$folder"/*; do
    { echo "# SPDX-License-Identifier: Apache-2.0" && cat "$made"; } >"src/$folder/$(basename "$made")"
done
