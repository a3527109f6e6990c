# SPDX-License-Identifier: Apache-2.0
"""Layer 7: the command line. Arguments in, tables out; the layers below decide what is done."""
