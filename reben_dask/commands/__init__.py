"""Commands beside the job: what stands on the command line after ``reben``."""
