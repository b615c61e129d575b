"""Faces on disk: records, stores, sources, benchmarks and the choice of a subset."""
