# SPDX-License-Identifier: Apache-2.0
"""Trees that a kernel has mounted: the same operations as on an unmounted ext4, through system calls."""
