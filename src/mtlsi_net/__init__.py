"""MTLSI-Net: an experiment suite for multi-task dense prediction."""
