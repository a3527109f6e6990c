# SPDX-License-Identifier: Apache-2.0
"""File systems and layers: what a tar of an image changes in a file system, and what changed in one."""
