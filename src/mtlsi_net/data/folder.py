"""Data of one's own, in the NYUDv2 layout."""

from collections.abc import Mapping

from mtlsi_net.data.base import MultiTaskDataModule
from mtlsi_net.data.nyud import NYUDLayoutReader
from mtlsi_net.specs import TargetSpec


class FolderDataModule(MultiTaskDataModule):
    """Any folder with ``images/``, ``gt_sets/{train,val}.txt`` and one folder of labels for each task.

    Labels are encoded as in NYUDv2, by the kind of the task's target: see ``readers.read_target``.
    """

    def make_reader(self, specs: Mapping[str, TargetSpec]) -> NYUDLayoutReader:
        """Return a reader of the folders that ``files`` names and of the layout's own."""
        return NYUDLayoutReader(self.root, specs, allow_missing=self.allow_missing, files=self.files)
