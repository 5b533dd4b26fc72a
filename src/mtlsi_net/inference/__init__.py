"""Prediction, export and demo page of trained networks."""
