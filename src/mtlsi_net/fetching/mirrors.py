"""Where a data set's archive can be had, and whether a file is that archive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mtlsi_net.utils.errors import UserError
from mtlsi_net.verification.manifest import sha256_of

SCHEMES = ("http", "https", "file")


@dataclass(frozen=True)
class Mirror:
    """One address of the archive.

    Attributes:
        url: http, https or file.
        browser: it cannot be had without a browser (a sign-in, a button); it is shown, never requested.
        note: what the user should know about it.

    Raises:
        UserError: another kind of address.
    """

    url: str
    browser: bool = False
    note: str | None = None

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in SCHEMES:
            raise UserError(
                f"source.mirrors: {self.url!r} is no address; give one that starts with http, https or file"
            )


class Source:
    """The archive of one data set.

    Args:
        file: its name, beside the data set's folder.
        mirrors: addresses in the order they are tried; a URL or the attributes of ``Mirror``.
        archive: a copy the user has, used instead; None: look beside the data set's folder.
        size: bytes; None if not known.
        sha256: hexadecimal; None if not known.

    Raises:
        UserError: a mirror that is not described as above.
    """

    def __init__(
        self,
        file: str,
        mirrors: Sequence[str | Mapping[str, Any]] = (),
        *,
        archive: str | None = None,
        size: int | None = None,
        sha256: str | None = None,
    ) -> None:
        self.file, self.size, self.sha256 = file, size, sha256
        self.archive = None if archive is None else Path(archive)
        self.mirrors = [_mirror(entry) for entry in mirrors]

    def objection(self, path: Path) -> str | None:
        """Say why ``path`` is not this archive, as far as size and sha256 are known; None if it may be."""
        try:
            if self.size is not None and (size := path.stat().st_size) != self.size:
                return f"has {size} bytes instead of {self.size}"
            if self.sha256 is not None and (digest := sha256_of(path)) != self.sha256.lower():
                return f"has sha256 {digest} instead of {self.sha256}"
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return None


def _mirror(entry: str | Mapping[str, Any]) -> Mirror:
    if isinstance(entry, str):
        return Mirror(entry)
    try:
        return Mirror(**entry)
    except TypeError:
        raise UserError(
            f"source.mirrors: {entry!r} is not understood; give a URL, or {{url: URL, browser: true, note: TEXT}}"
        ) from None
