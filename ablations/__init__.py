"""Variants of the pipeline: the paper's tables, ablations and seeds."""
