"""Sample order of each rank, and random streams of single samples."""

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One sample of one epoch: with the seed, all that its augmentation depends on."""

    epoch: int
    sample: int


def sample_rng(seed: int, epoch: int, sample_id: str) -> np.random.Generator:
    """Return the random stream of a sample: a function of (seed, epoch, id), so that workers and ranks agree."""
    return np.random.default_rng([seed, epoch, zlib.crc32(sample_id.encode())])


def hidden_labels(seed: int, task: str, share: float, ids: Sequence[str]) -> frozenset[str]:
    """Return the ids whose label of a task is not used; those of a larger share are among those of a smaller one."""
    order = np.random.default_rng([seed, zlib.crc32(task.encode())]).permutation(len(ids))
    return frozenset(ids[index] for index in order[max(1, round(share * len(ids))) :])


class EpochSampler(Sampler[Draw]):
    """Yield this rank's share of a permutation that depends on (seed, epoch) only.

    Training (``shuffle``) drops the tail so that all ranks get equally many full batches; evaluation yields every index
    exactly once over all ranks, in order.
    """

    def __init__(
        self, length: int, *, seed: int, shuffle: bool, batch_size: int, rank: int = 0, ranks: int = 1
    ) -> None:
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.batch_size, self.rank, self.ranks = batch_size, rank, ranks
        self.epoch, self.start = 0, 0

    def seek(self, drawn: int) -> None:
        """Continue after ``drawn`` draws of this rank: set the epoch and the position at which the next pass starts."""
        self.epoch, self.start = divmod(drawn, len(self))

    def __len__(self) -> int:
        """Return the draws of a whole epoch."""
        if self.shuffle:
            return self.length // (self.batch_size * self.ranks) * self.batch_size
        return len(range(self.rank, self.length, self.ranks))

    def __iter__(self) -> Iterator[Draw]:
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        for index in order[self.rank :: self.ranks][self.start : len(self)]:
            yield Draw(self.epoch, int(index))
