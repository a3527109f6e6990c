# SPDX-License-Identifier: Apache-2.0
"""The kernel's device-mapper: tables as values, a client for its ioctls, and the engine on it."""
