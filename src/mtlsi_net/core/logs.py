"""Logging."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(name: str, lowest: int = logging.WARNING) -> Iterator[None]:
    """Let a logger pass messages of level ``lowest`` and above alone inside the context."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(lowest)
    try:
        yield
    finally:
        logger.setLevel(level)
