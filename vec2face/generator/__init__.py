"""The generator: from feature vectors to face images, and its training."""
