# SPDX-License-Identifier: Apache-2.0
"""loop-lvm: the pool lies in two sparse files."""
