"""Benchmarks: one file a question, each against the peers in one run."""
