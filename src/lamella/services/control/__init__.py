# SPDX-License-Identifier: Apache-2.0
"""The control socket: commands that find a daemon at their store run inside it, as if they ran alone."""
