"""What a dataset is, as a page to read and figures to show: made from what a job has written, and from nothing else."""
