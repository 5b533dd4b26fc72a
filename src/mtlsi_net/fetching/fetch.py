"""The download of one data set, from configuration to verified folder."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from mtlsi_net.data.base import MultiTaskDataModule
from mtlsi_net.fetching.archives import look_through, unpack
from mtlsi_net.fetching.members import ArchiveError
from mtlsi_net.fetching.mirrors import Mirror, Source
from mtlsi_net.fetching.part import Part
from mtlsi_net.fetching.transfer import Connection, TransferError, transfer
from mtlsi_net.utils.config_checks import check_complete, check_options
from mtlsi_net.utils.errors import UserError
from mtlsi_net.verification.digests import SPLITS
from mtlsi_net.verification.verify import verify

log = logging.getLogger(__name__)


def download(cfg: DictConfig) -> int:
    """Bring the data set to ``cfg.data.root``, unless something is there, and verify what is there then.

    Returns:
        The exit code: the verdict's level, or 0 with ``cfg.verify`` off.

    Raises:
        UserError: nothing is known of where this data set can be had, or no way there led to it.
    """
    check_complete(cfg)
    if cfg.get("source") is None:
        raise UserError("this data set has no list of mirrors; data=nyud and data=pascal have one, or give source=...")
    check_options(cfg.source, "source")
    source: Source = instantiate(cfg.source, _convert_="all")
    module: MultiTaskDataModule = instantiate(cfg.data, _convert_="all")(targets={})
    reader = module.make_reader({})
    lists = [reader.list_path(split).relative_to(reader.root).as_posix() for split in SPLITS]
    place = Place(reader.root.resolve(), lists, source, cfg.keep_archive)
    if place.is_taken():
        log.info("%s is not empty and stays as it is; for a new copy choose another place: data.root=...", place.root)
    else:
        place.fill(instantiate(cfg.connection))
    return int(verify(cfg).level) if cfg.verify else 0


@dataclass(frozen=True)
class Place:
    """Where a data set shall lie, and where it comes from.

    Attributes:
        root: its folder.
        lists: files it must have, relative to ``root``.
        source: its archive.
        keep: leave the archive there after it was downloaded and unpacked.
    """

    root: Path
    lists: Sequence[str]
    source: Source
    keep: bool

    @property
    def archive(self) -> Path:
        """The archive: the user's, or the file beside ``root``."""
        return self.source.archive or self.root.parent / self.source.file

    def is_taken(self) -> bool:
        """Say whether anything is at ``root``.

        Raises:
            UserError: something that is no folder, or may not be listed.
        """
        try:
            return self.root.exists() and any(self.root.iterdir())
        except OSError as error:
            raise UserError(f"data.root={self.root} is no folder that can be used ({error.strerror})") from None

    def fill(self, connection: Connection) -> None:
        """Unpack the archive to ``root``; download it first if it is not there.

        Raises:
            UserError: the archive that is there is no good, or no mirror has a good one.
        """
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.root.parent} cannot be made ({error.strerror}); change data.root=...") from None
        if self.archive.is_file():
            try:
                self._install(connection.progress)
            except ArchiveError as error:
                raise UserError(
                    f"{self.archive} {error}; remove it and run this again, or pass source.archive=FILE"
                ) from None
        elif self.source.archive is not None:
            raise UserError(f"source.archive={self.source.archive} is no file; correct it, or leave it out to download")
        else:
            self._try_mirrors(connection)

    def _install(self, progress: bool) -> None:
        """Check ``archive`` and unpack it."""
        log.info("checking and unpacking %s", self.archive)
        if (objection := self.source.objection(self.archive)) is not None:
            raise ArchiveError(objection)
        unpack(self.archive, look_through(self.archive, self.lists, self.root.parent), self.root, progress=progress)

    def _try_mirrors(self, connection: Connection) -> None:
        failures = []
        for mirror in self.source.mirrors:
            try:
                self._fetch(mirror, connection)
            except (TransferError, ArchiveError) as error:
                failures.append(f"{mirror.url}: {error}")
                log.info("%s", failures[-1])
                continue
            for other in self.source.mirrors:
                Part.of(self.archive, other.url).discard()
            if not self.keep:
                self.archive.unlink()
            return
        raise UserError(
            f"{self.source.file} could not be downloaded [{' | '.join(failures) or 'source.mirrors is empty'}]; "
            f"get it by hand and put it at {self.archive}, or pass source.archive=FILE, and run this again; "
            "other addresses: source.mirrors=\"['URL',...]\""
        )

    def _fetch(self, mirror: Mirror, connection: Connection) -> None:
        if mirror.browser:
            raise TransferError(f"needs a browser{f' ({mirror.note})' if mirror.note else ''}")
        log.info("downloading %s", mirror.url)
        transfer(mirror.url, self.archive, self.source.size, connection)
        try:
            self._install(connection.progress)
        except ArchiveError as error:
            bad = self.archive.with_name(f"{self.archive.name}.bad")
            os.replace(self.archive, bad)
            raise ArchiveError(f"{error}; kept as {bad}") from None
