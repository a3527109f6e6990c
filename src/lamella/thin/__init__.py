# SPDX-License-Identifier: Apache-2.0
"""Thin provisioning as device-mapper has it: the format, two engines behind one interface, and the tools."""
