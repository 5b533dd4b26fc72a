"""Benchmarks of speed and memory, run by ``mtlsi_net.bench``."""
