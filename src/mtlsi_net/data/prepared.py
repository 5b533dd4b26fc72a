"""Marker of a data set that the command ``prepare`` wrote: what it was made from, and what differs from published copies."""

import json
from pathlib import Path
from typing import Any

from mtlsi_net.core.errors import UserError

PREPARED = "prepared.json"
"""File in the data set's folder."""


def read_prepared(root: Path) -> dict[str, Any] | None:
    """Return the marker of the data set at ``root``; None if ``prepare`` did not write it.

    Raises:
        UserError: the marker is damaged.
    """
    path = root / PREPARED
    try:
        marker: dict[str, Any] = json.loads(path.read_text())
        _ = marker["source"], marker["settings"], [str(text) for text in marker["differs"]], bool(marker["complete"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); prepare the data set again in another folder") from None
    return marker
