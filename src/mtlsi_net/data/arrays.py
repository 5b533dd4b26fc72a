"""Reader of label files that hold arrays: ``.npy``, ``.npz`` and ``.mat``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlsi_net.core.errors import UserError, shown

SUFFIXES = (".npy", ".npz", ".mat")


def read_array(path: Path, names: Sequence[str], dimensions: int = 2) -> NDArray[Any]:
    """Return the array of a ``.npy`` file, or one of those in a ``.npz`` or ``.mat`` file.

    Of several it is the one under the first of ``names``, else the only one, else the only one of so many ``dimensions``.

    Raises:
        UserError: the file is missing, damaged, of another kind, holds Python objects, or several arrays of other names.
    """
    try:
        stored = _load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: file is missing; restore it or remove its id from the split list") from None
    except Exception as error:  # damaged files raise many kinds of errors in numpy, zipfile, scipy and zlib
        reason = "it is no such file, or holds Python objects" if "pickle" in str(error) else str(error)
        raise UserError(
            f"{path}: cannot be read as {path.suffix} ({reason}); replace the file from its source, or save it again"
            + (" as version 7 or older" if path.suffix == ".mat" else "")
        ) from None
    if isinstance(stored, np.ndarray):
        return stored
    if (name := next((name for name in names if name in stored), None)) is not None:
        return stored[name]
    keys = sorted(stored)
    if len(stored) > 1:
        stored = {name: values for name, values in stored.items() if values.ndim == dimensions}
    if len(stored) != 1:
        raise UserError(
            f"{path}: expected a key {names[0]!r} or a single array, found {shown(keys) or 'none'}; name the key {names[0]!r}"
        )
    return next(iter(stored.values()))


def _load(path: Path) -> NDArray[Any] | Mapping[str, NDArray[Any]]:
    if path.suffix == ".mat":
        from scipy import io  # slow to import

        content = io.loadmat(path, appendmat=False)
        return {name: value for name, value in content.items() if isinstance(value, np.ndarray) and value.ndim >= 2}
    stored = np.load(path, allow_pickle=False)
    return stored if isinstance(stored, np.ndarray) else dict(stored)
