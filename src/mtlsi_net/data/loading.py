"""A loader that goes on inside an epoch, and knows what its workers were reading."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mtlsi_net.data.dataset import MultiTaskDataset
from mtlsi_net.data.sampling import EpochSampler
from mtlsi_net.data.transforms import IMAGE
from mtlsi_net.specs import Batch
from mtlsi_net.utils.errors import UserError


class SampleLoader(DataLoader[Batch]):
    """A ``DataLoader`` over an ``EpochSampler`` whose state is its epoch and how many batches training has taken of it.

    What workers have loaded ahead does not count; Lightning keeps the state in checkpoints.
    """

    def __init__(self, dataset: MultiTaskDataset, *, sampler: EpochSampler, **options: Any) -> None:  # noqa: ANN401
        super().__init__(dataset=dataset, sampler=sampler, **options)
        self.taken = 0
        reading = torch.zeros(max(self.num_workers, 1), 2, dtype=torch.int64)
        self.reading: Tensor = reading.share_memory_()  # type: ignore[no-untyped-call] # torch ships it untyped
        dataset.reading = self.reading

    def __iter__(self) -> Any:  # noqa: ANN401 - torch's own type is private
        assert isinstance(self.sampler, EpochSampler)
        assert self.batch_size is not None
        self.taken = self.sampler.start // self.batch_size
        for batch in super().__iter__():
            self.taken += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the position for a checkpoint; the same for all processes."""
        assert isinstance(self.sampler, EpochSampler)
        return {"epoch": self.sampler.epoch, "batches": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches of ``state``."""
        assert isinstance(self.sampler, EpochSampler)
        assert self.batch_size is not None
        epoch, batches = state["epoch"], state["batches"]
        if batches >= len(self):
            epoch, batches = epoch + 1, 0
        self.sampler.set_epoch(epoch)
        self.sampler.start = batches * self.batch_size


@contextmanager
def named_worker_deaths(readings: list[tuple[MultiTaskDataset, Tensor]]) -> Iterator[None]:
    """Turn the death of a loader's process, of which torch tells the number alone, into an error that names its file.

    Raises:
        UserError: a process died inside the context.
    """
    try:
        yield
    except RuntimeError as error:
        found = re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", str(error))
        if found is None:
            raise
        dead = {int(number) for number in found[1].split(",")}
        samples = [
            os.fspath(dataset.reader.files(IMAGE, dataset.ids[sample])[0])
            for dataset, reading in readings
            for pid, sample in reading.tolist()
            if pid in dead
        ]
        raise UserError(
            f"a data worker died at {', '.join(samples) or 'its start'} ({str(error).splitlines()[0]}). "
            "For want of memory: data.num_workers=0, or fewer; the last checkpoint is kept, go on with ckpt=last"
        ) from None
