# SPDX-License-Identifier: Apache-2.0
"""Layer 5: Docker's devicemapper storage driver in user space: named devices on a thin pool."""
