# SPDX-License-Identifier: Apache-2.0
"""Activation: volume groups as devices of device-mapper, and back."""
