"""Page of the jobs on a scheduler's dashboard; see :mod:`reben_dask.dashboard.jobs`."""
