# SPDX-License-Identifier: Apache-2.0
"""What LVM2's commands do to a group: volumes, thin pools, physical volumes, extents."""
