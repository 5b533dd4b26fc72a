"""Logging helpers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(name: str, lowest: int = logging.WARNING) -> Iterator[None]:
    """Silence a logger's messages below level ``lowest`` inside the context."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(lowest)
    try:
        yield
    finally:
        logger.setLevel(level)
