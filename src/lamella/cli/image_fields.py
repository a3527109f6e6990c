# SPDX-License-Identifier: Apache-2.0
"""What ``--json`` prints of an image, for the pages of the commands that list images."""

from __future__ import annotations

IMAGE_FIELDS = """\
[].id            the image's id, "sha256:" and 64 hexadecimal digits
[].references[]  its names with tags
[].digests[]     its names with the digests under which registries gave it
[].digest        the digest that a registry gave it under in this run, or empty
[].created       when it was made, RFC 3339
[].size          bytes of the files in all its layers
[].layers        how many layers it has
[].labels.*      the labels in its configuration
"""
