"""The page ``reben`` on a scheduler's dashboard: which tiles of a job are done, in work, or cannot be built.

A job registers :class:`~reben_dask.dashboard.plugin.JobsPlugin` with the scheduler, and tells it how far it is by
logging events, both of which are Dask's public ways to extend a scheduler. Nothing here knows what a job does.
"""
