"""Checks and measurements of the project on one CUDA card: ``python -m benchmarks.gpu``."""
