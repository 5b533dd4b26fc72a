"""Measurements of speed; ``mtlsi_net.bench`` chooses among them."""
