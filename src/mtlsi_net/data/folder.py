"""Data module for custom data in the NYUDv2 layout."""

from mtlsi_net.data.nyud import NYUDLayoutDataModule


class FolderDataModule(NYUDLayoutDataModule):
    """Any folder with ``images/``, ``gt_sets/{train,val}.txt`` and one folder of labels for each task.

    Labels are encoded as in NYUDv2, by the kind of the task's target: see ``files.read_target``.
    """
