# SPDX-License-Identifier: Apache-2.0
"""The signal by which the space of a pool asks for smaller batches."""


class Shortage(Exception):
    """Less space is free than a batch needs, even after a commit; half of the batch may fit.

    Internal to the engine: it never leaves :class:`lamella.thin.engine.volume.Volume`.
    """
