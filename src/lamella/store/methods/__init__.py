# SPDX-License-Identifier: Apache-2.0
"""The methods of :class:`lamella.store.Store`, by what they are about. The class lists them."""
