# SPDX-License-Identifier: Apache-2.0
"""The configuration files of container runtimes that are to use a store: what to write into them.

Pure, but for :mod:`lamella.services.runtime_config.writing`: from facts about the store and a file's text to
a new text. What other people wrote into a file stays as it is (docs/decisions/154).
"""
