# SPDX-License-Identifier: Apache-2.0
"""What the thin tools do: check, dump, restore and repair metadata."""
