"""Errors that a user can act on.

A message is one or two sentences: the value that is wrong, the limit it breaks, and the next step.
The command line prints it alone; ``--debug`` adds the traceback.
"""


class RebenError(Exception):
    """Anything that the person who started the job can mend."""


class InputError(RebenError):
    """A product, map or table that cannot be used as it is."""


class RecipeError(RebenError):
    """A recipe that is not valid, or asks for something that does not exist."""


class OutputError(RebenError):
    """An output folder that cannot be written, or that holds something already."""


class ClusterError(RebenError):
    """A Dask cluster that cannot be reached, or cannot do the work."""
