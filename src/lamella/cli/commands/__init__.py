# SPDX-License-Identifier: Apache-2.0
"""One module per command: ``configure(parser)`` names its arguments, ``run(args)`` carries it out."""
