"""Descriptions of the artefacts that are both read and written.

Writers, readers, the verifier, the documentation and the tests derive from these modules: each column, band, key, file
name and default is written once, here.
"""
