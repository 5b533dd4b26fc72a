"""Label maps computed once and kept outside the data set, which may be read-only and read by several processes."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

Map = NDArray[np.uint8]

VERSION = 1
"""Counts up whenever the same label file gives another map."""


class LabelCache:
    """Keeps (H, W) uint8 maps as PNG files under ``folder``; does without where that cannot be read or written.

    An entry's name holds its source's path, size and time of change, so that it is not used once the source changes.

    Args:
        folder: made on first use; None computes every map anew.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, kind: str, source: Path, compute: Callable[[], Map]) -> Map:
        """Return the map ``kind`` of label file ``source``: the kept one, or ``compute()``, which is then kept.

        Errors of ``compute``, which reads ``source``, pass through.
        """
        if self.folder is None or not source.is_file():
            return compute()
        path = self.folder / kind / f"{source.stem}_{_fingerprint(source)}.png"
        kept = _read(path)
        if kept is not None:
            return kept
        values = compute()
        self._keep(path, values)
        return values

    def _keep(self, path: Path, values: Map) -> None:
        """Write under a name of this writer's own, then rename: no reader ever meets half a file."""
        done, encoded = cv2.imencode(".png", values)
        assert done, "PNG takes every 8-bit map"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(encoded.tobytes())
                os.replace(temporary, path)
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            log.warning(
                "%s: computed labels cannot be kept (%s) and are computed anew each time; choose a folder with "
                "data.cache_dir=...",
                self.folder,
                error.strerror,
            )
            self.folder = None


def _fingerprint(source: Path) -> str:
    state = source.stat()
    text = f"{VERSION} {source.resolve()} {state.st_size} {state.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path) -> Map | None:
    try:
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError:
        return None
    if not encoded.size:
        return None
    decoded = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    return None if decoded is None or decoded.ndim != 2 else decoded.astype(np.uint8)
