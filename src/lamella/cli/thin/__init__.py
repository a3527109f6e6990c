# SPDX-License-Identifier: Apache-2.0
"""``thin_check``, ``thin_dump``, ``thin_restore`` and ``thin_repair``, with their options and output."""
