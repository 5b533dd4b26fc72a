"""What an archive may hold: files, folders, and links, all of which stay inside.

Stricter than ``tarfile``'s data filter, some versions of which chains of links can deceive (CVE-2025-4517): here nothing
is written through a link, and no link leads through another.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import PurePosixPath

KINDS = ("file", "folder", "symlink", "hardlink")


class ArchiveError(Exception):
    """Why a file cannot be used as the archive."""


@dataclass(frozen=True)
class Member:
    """One entry: its path, what it is, its bytes, and where it points if it is a link.

    Attributes:
        name: with slashes, as stored.
        kind: one of ``KINDS``, or in words what is never unpacked.
        size: bytes.
        target: of a symlink relative to the entry's folder, of a hardlink relative to the archive's top.
    """

    name: str
    kind: str
    size: int
    target: str = ""

    @property
    def path(self) -> PurePosixPath:
        """The name without "." and repeated slashes."""
        return PurePosixPath(self.name)


def check_members(members: Sequence[Member]) -> None:
    """Check that unpacking ``members`` in their order writes, and leaves links, inside the target folder only.

    Raises:
        ArchiveError: names the first entry that does not, or that is neither file, folder nor link.
    """
    symlinks = {member.path for member in members if member.kind == "symlink"}
    seen: set[PurePosixPath] = set()
    files: set[PurePosixPath] = set()
    for member in members:
        if (objection := _objection(member, symlinks, seen, files)) is not None:
            raise ArchiveError(f"is not safe to unpack: its entry {member.name!r} {objection}")
        seen.add(member.path)
        if member.kind == "file":
            files.add(member.path)


def _objection(
    member: Member,
    symlinks: AbstractSet[PurePosixPath],
    seen: AbstractSet[PurePosixPath],
    files: AbstractSet[PurePosixPath],
) -> str | None:
    path = member.path
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        return "leads out of the folder"
    if member.kind not in KINDS:
        return f"is not unpacked ({member.kind})"
    if path in symlinks and path in seen:
        return "stands there twice, and as a link"
    if any(parent in symlinks for parent in path.parents):
        return "lies behind a link"
    if member.kind == "symlink" and not _stays_inside(path.parent, PurePosixPath(member.target), symlinks):
        return f"is a link to {member.target!r}, out of the folder or through another link"
    if member.kind == "hardlink" and PurePosixPath(member.target) not in files:
        return f"is a link to {member.target!r}, which is no file before it in the archive"
    return None


def _stays_inside(folder: PurePosixPath, target: PurePosixPath, symlinks: AbstractSet[PurePosixPath]) -> bool:
    """Walk from ``folder`` to ``target`` step by step, as the system would."""
    place = folder
    for step in target.parts:
        if step == "..":
            if not place.parts:
                return False
            place = place.parent
        else:
            place /= step
        if place.is_absolute() or place in symlinks:
            return False
    return True
