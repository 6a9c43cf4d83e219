"""Baselines on embeddings: k-center, facility location, DEITA's representation filter."""
