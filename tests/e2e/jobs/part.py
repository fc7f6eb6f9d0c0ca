"""A file beside the job's."""

SEED = 1
