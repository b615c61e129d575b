"""Losses, heads and loops that train the generator and the recognizers."""
