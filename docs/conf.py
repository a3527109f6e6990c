# SPDX-License-Identifier: Apache-2.0
"""Sphinx's settings. ``make docs`` builds the site into build/docs; any warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "src")]

from scripts.reference.markdown import write_all  # noqa: E402 - needs the path above

from lamella._version import __version__  # noqa: E402 - needs the path above

write_all(HERE / "reference")

project = "Lamella"
author = "the Lamella authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"Lamella {__version__}"
html_copy_source = False
exclude_patterns = ["**/README.md"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

nitpicky = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", resolve_reference)


def resolve_reference(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node
) -> nodes.Node | None:
    """A name that a docstring gives without its module, if only one documented thing is called so.

    A type in a signature that is not documented here is no error, and stays text.
    """
    target = node.get("reftarget", "")
    domain = env.domains.python_domain
    known = [name for name in domain.objects if name == target or name.endswith(f".{target}")]
    if node.get("refdomain") == "py" and len(known) == 1:
        return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], known[0], node, content)
    return None if isinstance(content, nodes.literal) else content
