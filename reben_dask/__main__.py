"""``python -m reben_dask`` is ``reben``."""

from reben_dask.cli import main

main(prog_name="python -m reben_dask")
