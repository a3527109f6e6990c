# SPDX-License-Identifier: Apache-2.0
"""Physical volumes: finding and scanning them, and what a block device holds."""
