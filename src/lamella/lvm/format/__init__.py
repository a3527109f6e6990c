# SPDX-License-Identifier: Apache-2.0
"""LVM2's on-disk format: label, metadata area, and the text of a volume group."""
