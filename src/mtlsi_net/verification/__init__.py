"""Verification of a copy of a data set: is it whole, and the one that published numbers come from."""
