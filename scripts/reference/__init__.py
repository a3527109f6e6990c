# SPDX-License-Identifier: Apache-2.0
"""The reference, made from the tables that the program itself works by: as Markdown pages and as man pages.

``python -m scripts.reference docs FOLDER`` writes the pages of the site, ``man FOLDER`` the man pages. Needs
nothing but Python and ``lamella.cli``, so that a wheel can be built with setuptools alone.
"""
