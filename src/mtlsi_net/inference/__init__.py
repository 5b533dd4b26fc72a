"""Trained networks in use: prediction, export and demo."""
