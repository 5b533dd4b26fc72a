"""Configuration, found by Hydra beside mtlsi-net's own."""
