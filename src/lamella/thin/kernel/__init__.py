# SPDX-License-Identifier: Apache-2.0
"""The same interface on the kernel's engine: a pool and thin volumes that device-mapper runs."""
