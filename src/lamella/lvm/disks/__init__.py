# SPDX-License-Identifier: Apache-2.0
"""Physical volumes: finding and scanning them, and what lies on a block device."""
