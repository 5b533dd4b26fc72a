"""Is there room on the disk?"""

import shutil
from pathlib import Path

from rich.filesize import decimal

from mtlsi_net.utils.errors import UserError


def check_room(folder: Path, need: int, what: str) -> None:
    """Check that ``need`` bytes fit the disk that ``folder`` lies on.

    Raises:
        UserError: they do not.
    """
    if (free := shutil.disk_usage(folder).free) < need:
        raise UserError(
            f"{what} takes at least {decimal(need)} but the disk of {folder} has {decimal(free)} free; "
            "make room there, or choose another disk with data.root=..."
        )
