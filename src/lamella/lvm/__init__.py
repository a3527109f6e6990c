# SPDX-License-Identifier: Apache-2.0
"""LVM2's volume groups: their format on disk, what is done to them, and what is reported of them."""
