"""The manifest: one line of sha256 and path for each file, as ``sha256sum`` writes and checks it."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mtlsi_net.utils.errors import UserError

Digests = Mapping[str, str]
"""Path relative to the data set's folder, with slashes -> sha256 in hexadecimal."""


def relative_name(path: Path, root: Path) -> str:
    """Return the path relative to the data set's folder, with slashes; files elsewhere begin with ``..``."""
    return Path(os.path.relpath(path, root)).as_posix()


def sha256_of(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """Return the sha256 of a text in hexadecimal: of a manifest, one number for the whole data set."""
    return hashlib.sha256(text.encode()).hexdigest()


def manifest_text(digests: Digests) -> str:
    """Return the manifest, sorted by path; ``sha256sum -c`` run in the data set's folder reads it."""
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests))


def read_manifest(path: Path) -> dict[str, str]:
    """Return the digests of a manifest.

    Raises:
        UserError: missing, unreadable, or a line that is not a digest and a path.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"manifest {path} cannot be read ({error}); give one that verify_data wrote") from None
    digests = {}
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise UserError(f"manifest {path}, line {number}: not a sha256 and a path; give one that verify_data wrote")
        digests[name] = digest
    return digests


@dataclass(frozen=True)
class Differences:
    """Paths that differ between an earlier manifest and what is there now."""

    changed: list[str]
    missing: list[str]
    added: list[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.added)


def compare(earlier: Digests, now: Digests) -> Differences:
    """Return which files changed, went missing or were added since ``earlier``."""
    return Differences(
        changed=sorted(path for path in earlier.keys() & now.keys() if earlier[path] != now[path]),
        missing=sorted(earlier.keys() - now.keys()),
        added=sorted(now.keys() - earlier.keys()),
    )
