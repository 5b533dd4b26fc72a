"""MTLSI-Net: an experiment suite for multi-task dense prediction."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the package index for a newer version
