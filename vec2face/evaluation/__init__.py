"""What a recognizer and a dataset are worth: verification, separability, reconstruction."""
