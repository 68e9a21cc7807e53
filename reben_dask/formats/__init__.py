"""One description of each artefact that is both read and written.

Writers, readers, the verifier, the documentation and the tests derive from these modules; none of them spells a
column, band, key, file name or default a second time.
"""
