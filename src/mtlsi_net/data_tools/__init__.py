"""Download and verification of data sets."""
