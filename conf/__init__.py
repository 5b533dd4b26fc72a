"""Hydra configuration: one YAML for each entry point, one folder for each collaborator."""
