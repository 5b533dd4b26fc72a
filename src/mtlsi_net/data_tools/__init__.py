"""Downloading and verifying data sets."""
