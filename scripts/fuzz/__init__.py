# SPDX-License-Identifier: Apache-2.0
"""Fuzzing of everything that reads bytes from outside: ``python -m scripts.fuzz [TARGET ...]``.

A target (``targets/``) has valid inputs and a function that reads one. The driver changes the inputs and
expects an answer or a :class:`~lamella.errors.LamellaError`; anything else is a fault: another exception, a
crash, too much time or memory, a write, or an error too long to read. What was found once is in ``corpus/``
and is tried first, here and by ``tests/scripts/test_fuzz.py``.
"""
