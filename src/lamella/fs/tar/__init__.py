# SPDX-License-Identifier: Apache-2.0
"""Layers as tar archives: headers, reading, writing, and the way back to the very bytes (tar-split)."""
