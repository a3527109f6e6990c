# SPDX-License-Identifier: Apache-2.0
"""dm-thin's format on disk: superblock, B-tree nodes, space maps, mappings."""
