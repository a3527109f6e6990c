# SPDX-License-Identifier: Apache-2.0
"""The engine in user space: a pool, its thin volumes, and the metadata of both while they change."""
