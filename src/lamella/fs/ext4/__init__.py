# SPDX-License-Identifier: Apache-2.0
"""ext4 inside a block device: making, growing, writing and reading it through the system's libext2fs."""
