# SPDX-License-Identifier: Apache-2.0
"""What a store offers to other programs: the daemon and the services that it hosts."""
