# SPDX-License-Identifier: Apache-2.0
"""Reading pool metadata at rest, sound or not: trees, space maps, reference counts, and what is wrong."""
