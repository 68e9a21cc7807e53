"""HTML pages and figures about a dataset, made only from the files that a job has written."""
