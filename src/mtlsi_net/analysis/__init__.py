"""Measurements inside a trained network."""
