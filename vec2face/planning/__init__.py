"""Before a run: what it lacks, and what it will cost."""
