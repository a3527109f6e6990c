# SPDX-License-Identifier: Apache-2.0
"""containerd's snapshots and diff services on the wire.

The .proto files are those of github.com/containerd/containerd/api v1.12.0 (``services/snapshots/v1``,
``services/diff/v1`` and ``types``), unchanged, with their notice: copyright the containerd Authors,
Apache-2.0. ``make protos`` makes the modules here from them (``scripts/protos.sh``).
"""
