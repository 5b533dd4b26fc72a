"""Baselines: networks of other methods on the same encoder."""
