# SPDX-License-Identifier: Apache-2.0
"""References, archives, layouts and registries: where images come from and go to.

Start at :func:`lamella.images.archive.open_archive` and :class:`lamella.images.registry.RegistrySource`
(both give :class:`~lamella.images.image_source.SourceImage`), and :mod:`lamella.images.write`.
"""
