# SPDX-License-Identifier: Apache-2.0
"""Floor 4: the devicemapper storage driver in user space, named devices on a thin pool as Docker has them."""
