# SPDX-License-Identifier: Apache-2.0
"""One module per command: ``configure(parser)`` names its arguments, ``run(args)`` carries it out.

``EXAMPLE`` ends its help; ``JSON`` describes the fields that ``--json`` prints, for its reference page.
"""
