"""Maps made once and kept outside the data set, which may be read-only and read by several processes."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.io import atomic_file

log = logging.getLogger(__name__)

Map = NDArray[Any]

VERSION = 2
"""Counts up whenever the same files give another map."""


class MapCache:
    """Maps kept as files under ``folder``, made on first use; None, or where it cannot be written, makes them anew.

    An entry's name holds its sources' paths, sizes and times of change, so that it is not used once one changes.
    """

    suffix: str
    setting: str
    """Which chooses the folder."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writable = True

    def get(self, kind: str, sources: Sequence[Path], compute: Callable[[], Map], also: object = None) -> Map:
        """Return the map ``kind`` of some files: the kept one, or ``compute()``, which is then kept.

        ``also`` is what else it depends on. Errors of ``compute``, which reads the files, pass through.
        """
        if self.folder is None or not all(source.is_file() for source in sources):
            return compute()
        states = [(str(source.resolve()), (state := source.stat()).st_size, state.st_mtime_ns) for source in sources]
        fingerprint = hashlib.sha256(repr((VERSION, states, also)).encode()).hexdigest()[:16]
        path = self.folder / kind / f"{sources[0].stem}_{fingerprint}{self.suffix}"
        if (kept := self.read(path)) is not None:
            return kept
        values = compute()
        if self._writable:
            self._keep(path, values)
        return values

    def _keep(self, path: Path, values: Map) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path, durable=False) as file:
                if self.suffix == ".png":
                    file.write(cv2.imencode(".png", values)[1].tobytes())
                else:
                    np.save(file, values, allow_pickle=False)
        except OSError as error:
            text = "%s: further maps cannot be kept (%s) and are made anew each time; choose a folder with %s=..."
            log.warning(text, self.folder, error.strerror, self.setting)
            self._writable = False

    def read(self, path: Path) -> Map | None:
        """Return the map in a file; None if it is not there or damaged."""
        if self.suffix == ".png":
            decoded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
            return None if decoded is None or decoded.ndim != 2 else decoded.astype(np.uint8)
        try:
            values: Map = np.load(path, allow_pickle=False)
        except Exception:  # a damaged header ends in errors of many kinds, those of tokenize among them
            return None
        return values


class LabelCache(MapCache):
    """Labels that are computed, (H, W) uint8, as PNG files: small, and quicker to decode than to compute."""

    suffix, setting = ".png", "data.cache_dir"


class DecodedCache(MapCache):
    """Images and labels as they are after decoding: as large as the arrays, and read in no time."""

    suffix, setting = ".npy", "data.decoded_dir"
