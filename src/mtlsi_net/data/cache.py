"""File caches of computed and decoded maps, outside the data set, which may be read-only or shared by processes."""

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

VERSION = 3
"""Format version; increase it whenever the same files result in other maps."""


class MapCache:
    """Maps cached as files under ``folder``; with None, or if it is not writable, maps are recomputed each time.

    An entry's name depends on its sources' paths, sizes and modification times, so that outdated entries are not used.
    """

    suffix: str
    setting: str
    """Configuration key of the folder."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writable = True

    def get(self, kind: str, sources: Sequence[Path], compute: Callable[[], Map], also: object = None) -> Map:
        """Return the map ``kind`` of some source files: the cached one, or ``compute()``, which is then cached.

        ``also`` is anything else that the map depends on. Errors raised by ``compute`` are passed on.
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
            text = "%s: cannot cache more maps (%s), they are recomputed each time; choose another folder with %s=..."
            log.warning(text, self.folder, error.strerror, self.setting)
            self._writable = False

    def read(self, path: Path) -> Map | None:
        """Return the map in a file; None if the file is missing or damaged."""
        if self.suffix == ".png":
            decoded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
            return None if decoded is None or decoded.ndim != 2 else decoded.astype(np.uint8)
        try:
            values: Map = np.load(path, allow_pickle=False)
        except Exception:  # a damaged header raises many kinds of errors, including tokenize's
            return None
        return values


class LabelCache(MapCache):
    """Cache of computed labels, (H, W) uint8, as PNG files: small, and faster to decode than to compute."""

    suffix, setting = ".png", "data.cache_dir"


class DecodedCache(MapCache):
    """Cache of decoded images and labels as uncompressed arrays: large, and fast to read."""

    suffix, setting = ".npy", "data.decoded_dir"
