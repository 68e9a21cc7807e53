"""The job: sources, patches and stores composed into one plan, one graph per batch of tiles, one output folder."""
