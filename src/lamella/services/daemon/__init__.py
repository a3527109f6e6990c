# SPDX-License-Identifier: Apache-2.0
"""The process that keeps one store open and hosts what serves it: ``lamella serve``."""
