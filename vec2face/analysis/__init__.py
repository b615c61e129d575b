"""Measures, tables, figures and the report: what a run came to."""
