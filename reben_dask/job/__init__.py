"""The job: one plan, one graph per batch of tiles, one output folder. The only room that knows all others."""
