# SPDX-License-Identifier: Apache-2.0
"""XFS, which only a kernel writes: probed here, and otherwise mounted."""
