# SPDX-License-Identifier: Apache-2.0
"""``python -m lamella`` is the ``lamella`` command."""

import sys

from lamella.cli.start import main

sys.exit(main())
