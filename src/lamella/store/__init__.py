# SPDX-License-Identifier: Apache-2.0
"""Layer 6: the store. Images and containers on one thin pool, as one object: :class:`Store`."""

from lamella.store.results import ContainerSummary, ImageSummary, Info, StoreCheck, Usage
from lamella.store.store import Store

__all__ = ["ContainerSummary", "ImageSummary", "Info", "Store", "StoreCheck", "Usage"]
