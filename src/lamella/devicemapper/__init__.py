# SPDX-License-Identifier: Apache-2.0
"""The kernel's device-mapper: tables as values, and a client for its ioctls."""
