"""From identity vectors to a labelled dataset of face images."""
