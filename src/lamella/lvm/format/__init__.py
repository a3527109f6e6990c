# SPDX-License-Identifier: Apache-2.0
"""LVM2's format on disk: label, metadata area, and the text of a volume group."""
