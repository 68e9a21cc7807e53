"""The job: one plan, one graph per batch of tiles, one output folder. Where sources, patches and stores meet."""
