# SPDX-License-Identifier: Apache-2.0
"""containerd's snapshots service on the wire.

``snapshots.proto`` and ``mount.proto`` are those of github.com/containerd/containerd/api v1.12.0
(services/snapshots/v1 and types), unchanged, with their notice: copyright the containerd Authors, Apache-2.0.
``make protos`` makes the modules here from them (``scripts/protos.sh``).
"""
