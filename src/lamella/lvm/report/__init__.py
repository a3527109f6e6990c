# SPDX-License-Identifier: Apache-2.0
"""What LVM2's reporting commands say about a volume group: fields, selection, sorting and layout."""
