# SPDX-License-Identifier: Apache-2.0
"""containerd's snapshots service, by which containerd uses a store as its snapshotter (a proxy plugin)."""
