# SPDX-License-Identifier: Apache-2.0
"""Metrics of a store for Prometheus, over HTTP: :class:`MetricsService`."""

from lamella.services.metrics.service import MetricsService

__all__ = ["MetricsService"]
