"""A file on its way: what has come of it, and what is needed to go on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """What has come of a file, and beside it the server's tag (ETag or date) of the version it belongs to."""

    path: Path

    @classmethod
    def of(cls, target: Path, url: str) -> "Part":
        """Return the part of ``target`` from ``url``; each address has its own, none spoils another's."""
        return cls(target.with_name(f"{target.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"))

    @property
    def tag_path(self) -> Path:
        """The file that holds the tag."""
        return self.path.with_name(f"{self.path.name}.tag")

    @property
    def tag(self) -> str:
        """The tag; empty if the server gave none, so that the part cannot be resumed."""
        return self.tag_path.read_text() if self.tag_path.is_file() else ""

    @property
    def resumable(self) -> int:
        """Bytes that need not come again."""
        return self.path.stat().st_size if self.tag and self.path.is_file() else 0

    def begin(self, tag: str) -> None:
        """Start an empty file; at no moment do bytes of one version stand beside the tag of another."""
        self.discard()
        self.path.touch()
        if tag:
            self.tag_path.write_text(tag)

    def discard(self) -> None:
        """Remove both files."""
        self.tag_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
