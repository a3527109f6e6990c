# SPDX-License-Identifier: Apache-2.0
"""direct-lvm: the pool is a thin pool of LVM2, on whole disks in a volume group."""
