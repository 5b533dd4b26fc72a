"""Decoders of other methods on the same trunk."""
