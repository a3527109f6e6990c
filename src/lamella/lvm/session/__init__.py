# SPDX-License-Identifier: Apache-2.0
"""One command's work on volume groups: locks, configuration, backup and the commit of new metadata."""
