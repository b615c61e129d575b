"""What every stage runs on: files written whole, work that resumes, several processes."""
