"""`python -m cluster` is `tfcluster`."""

from cluster.cli import main

main()
