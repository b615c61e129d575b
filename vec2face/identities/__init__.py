"""Identity vectors: the distribution they are drawn from, and the filter that keeps them apart."""
