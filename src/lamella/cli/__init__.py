# SPDX-License-Identifier: Apache-2.0
"""Floor 6: the command line. Arguments in, tables out; what is done, the floors below decide."""
