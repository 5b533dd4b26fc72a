"""Loading one process's share of every step or split."""

import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mtlsi_net.core import signals
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.types import Batch, count_labels, cut_batch
from mtlsi_net.data.dataset import MultiTaskDataset
from mtlsi_net.data.decoding import batch_values
from mtlsi_net.data.sampling import EpochSampler
from mtlsi_net.data.transforms import IMAGE


class ShareLoader(DataLoader[Batch]):
    """Loader of a process's whole share of a step as one batch, which it yields in ``parts`` of equal size.

    With ``counts_labels`` parts are values and know the labels of the whole share (``Batch.labelled``). A process without
    any sample yields one empty batch: it has to take part in what all processes do together. In training it counts what it
    yields: epoch and place follow from that number, which Lightning keeps in checkpoints, so that a resumed run continues
    with the next sample.

    ``options`` are ``DataLoader``'s; ``sampler`` is an ``EpochSampler``, the batch size a multiple of ``parts``.
    """

    def __init__(self, parts: int = 1, counts_labels: bool = False, **options: Any) -> None:  # noqa: ANN401 - DataLoader's
        super().__init__(**options)
        self.parts, self.counts_labels = parts, counts_labels
        self._handed = 0  # parts, since training began
        dataset = cast(MultiTaskDataset, self.dataset)
        self.reading: Tensor = torch.zeros(max(self.num_workers, 1), 2, dtype=torch.int64)
        """Worker -> its process and the sample that it began to read last."""
        self.reading.share_memory_()  # type: ignore[no-untyped-call] # torch ships it untyped
        dataset.reading = self.reading

    @property
    def _own(self) -> EpochSampler:
        return cast(EpochSampler, self.sampler)

    def state_dict(self) -> dict[str, int]:
        """Return how many samples all processes have been handed since training began."""
        return {"samples": self._handed * self._samples_of_part}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Resume after so many samples; a UserError if they are no whole number of steps of this size."""
        steps, rest = divmod(state["samples"], self._samples_of_part * self.parts)
        if rest:
            raise UserError(
                f"the checkpoint stands at sample {state['samples']}, which is no whole number of steps of "
                f"{self._samples_of_part * self.parts}; resume with the batch size it was trained with"
            )
        self._handed = steps * self.parts

    @property
    def _samples_of_part(self) -> int:
        return (self.batch_size or 1) // self.parts * self._own.ranks

    def __len__(self) -> int:
        """Return the parts of a whole epoch."""
        return max(1, -(-len(self._own) // (self.batch_size or 1))) * self.parts

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override] # DataLoader's own iterator promises no more
        if len(self._own) == 0:
            yield empty_batch()
            return
        if self._own.shuffle:
            self._own.seek(self._handed // self.parts * (self.batch_size or 1))
        with signals.held():  # by the workers, too
            batches = super().__iter__()
        for batch in batches:
            for part in self._cut(batch):
                self._handed += 1
                yield part

    def _cut(self, batch: Batch) -> Iterator[Batch]:
        if self.parts == 1:
            yield batch
            return
        size = len(batch["id"]) // self.parts
        if self.counts_labels:  # of values, which parts then are
            batch = batch_values(batch, cast(MultiTaskDataset, self.dataset).reader.specs)
            specs = cast(MultiTaskDataset, self.dataset).reader.specs
            batch["labelled"] = {n: count_labels(target, specs[n].ignore) for n, target in batch["targets"].items()}
        for first in range(0, size * self.parts, size):
            yield cut_batch(batch, slice(first, first + size))


def worker_context(datasets: Iterable[MultiTaskDataset]) -> str | None:
    """Return how a loader's workers start: None as Python does by default, or by a server where they would all import torch.

    Where the default is ``spawn``, as on macOS, every worker would import torch and its data set's modules anew, which
    takes longer than a validation. The server imports them once; workers are forked from it.
    """
    default, server = multiprocessing.get_start_method(), "forkserver"
    if default == "fork" or server not in multiprocessing.get_all_start_methods():
        return None
    used = [part for dataset in datasets for part in (dataset, dataset.reader, dataset.pipeline)]
    modules = {type(part).__module__ for part in used} - {"__main__"}
    main = getattr(sys.modules["__main__"], "__spec__", None)  # of python -m: workers run it again, as __mp_main__
    if main is not None and not main.name.endswith(".__main__"):
        modules.add(main.name)
    multiprocessing.set_forkserver_preload(["__main__", *sorted(modules)])  # without effect once the server runs
    return server


def empty_batch() -> Batch:
    """Return a batch of no images."""
    image, valid = torch.empty(0, 3, 1, 1), torch.empty(0, 1, 1, 1, dtype=torch.bool)
    return {"image": image, "valid": valid, "id": [], "targets": {}, "references": {}}


SHARED_MEMORY_FULL = (
    "Bus error",
    "out of shared memory",
    "unable to open shared memory",
    "unable to write to file </torch",
)
"""What torch says where /dev/shm is full."""


@contextmanager
def report_worker_crash(readings: list[tuple[MultiTaskDataset, Tensor]], kept: Callable[[], str]) -> Iterator[None]:
    """Turn the crash of a data worker, of which torch reports only the process number, into a UserError with its file.

    ``kept`` says what is left of the run. After a signal, which ends workers by force in some systems, the signal counts.
    """
    try:
        yield
    except RuntimeError as error:
        if any(words in str(error) for words in SHARED_MEMORY_FULL):
            raise UserError(
                "shared memory (/dev/shm) is too small for the data workers: set data.num_workers=0, or fewer workers, or "
                "enlarge it (docker run --shm-size=8g)"
            ) from None
        found = re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", str(error))
        if found is None:
            raise
        listener, number = signals.active(), signals.first_signal()
        if listener is not None and number is not None:
            raise signals.Interrupted(listener.exit_code(number)) from None
        dead = {int(number) for number in found[1].split(",")}
        samples = [
            os.fspath(dataset.reader.files(IMAGE, dataset.ids[sample])[0])
            for dataset, reading in readings
            for pid, sample in reading.tolist()
            if pid in dead
        ]
        raise UserError(
            f"a data worker died at {', '.join(samples) or 'its start'} ({str(error).splitlines()[0]}). "
            f"If memory ran out, use fewer (data.num_workers=0: none). {kept()}"
        ) from None
