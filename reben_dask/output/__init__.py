"""The folder of a dataset: what is in it, who owns it, what an unfinished job has done in it, and how it is published.

::

    OUT/cubes.zarr, patches.parquet, …   the dataset; ``run/record.json`` comes last, and says that it is complete
    OUT/.lock                            taken while a job writes here
    OUT/.building/state/                 what the unfinished job is made from, and a marker of everything it finished
    OUT/.building/cubes.zarr, …          tiles that are finished
    OUT/.building/work-<attempt>/        what tasks write to; each attempt has its own
"""
