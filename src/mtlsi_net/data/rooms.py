"""The generated rooms, read like NYUDv2; ``prepare`` is ``room_generation.generate_rooms`` (see conf/data/rooms.yaml)."""

from collections.abc import Mapping

from mtlsi_net.data.base import MultiTaskDataModule
from mtlsi_net.data.nyud import NYUDLayoutReader
from mtlsi_net.specs import TargetSpec


class RoomsReader(NYUDLayoutReader):
    """Reads the rooms that ``generate_rooms`` wrote."""

    how_to_get = "delete the folder to have the rooms generated anew"


class RoomsDataModule(MultiTaskDataModule):
    """Procedurally rendered rooms in the NYUDv2 layout (our own data set)."""

    def make_reader(self, specs: Mapping[str, TargetSpec]) -> NYUDLayoutReader:
        """Return the reader of the generated files."""
        return RoomsReader(self.root, specs, allow_missing=self.allow_missing, files=self.files)
