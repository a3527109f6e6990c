# SPDX-License-Identifier: Apache-2.0
"""Activation: volume groups as device-mapper devices."""
