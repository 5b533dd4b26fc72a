"""Clocks and memory gauges of a device."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch

from mtlsi_net.utils.errors import UserError, choose


class Meter(ABC):
    """Takes the time between marks on a device, and the peak of its memory."""

    @abstractmethod
    def mark(self) -> Any:  # noqa: ANN401 - what a mark is, only the meter knows
        """Return this moment in the device's work, without waiting for it."""

    @abstractmethod
    def seconds(self, start: Any, end: Any) -> float:  # noqa: ANN401
        """Return the time between two marks; on a GPU only after ``wait``."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until the device has done all its work."""

    @abstractmethod
    def start_peak(self) -> None:
        """Watch memory from now on."""

    @abstractmethod
    def peak(self) -> float:
        """Return the largest number of bytes allocated since ``start_peak``, beyond those before; NaN if unknown."""

    def measure(self, work: Callable[[], None]) -> tuple[float, float]:
        """Return the seconds of ``work``, and the bytes that it needed at most beyond those allocated before."""
        self.wait()
        self.start_peak()
        start = self.mark()
        work()
        end = self.mark()
        self.wait()
        return self.seconds(start, end), self.peak()


class CpuMeter(Meter):
    """Wall-clock time; no memory, as the allocator of the CPU does not tell."""

    def mark(self) -> float:
        """Return the time in seconds."""
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """Return the difference."""
        return end - start

    def wait(self) -> None:
        """Return: the work is done."""

    def start_peak(self) -> None:
        """Do nothing."""

    def peak(self) -> float:
        """Return NaN."""
        return math.nan


class CudaMeter(Meter):
    """Events in the GPU's current stream, and the caching allocator's own record."""

    def __init__(self) -> None:
        self.before = 0

    def mark(self) -> torch.cuda.Event:
        """Record an event."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Return the time between two events that have happened."""
        return float(start.elapsed_time(end)) / 1e3

    def wait(self) -> None:
        """Synchronise."""
        torch.cuda.synchronize()

    def start_peak(self) -> None:
        """Reset the record of the peak."""
        torch.cuda.reset_peak_memory_stats()
        self.before = torch.cuda.memory_allocated()

    def peak(self) -> float:
        """Return the bytes beyond those at the start."""
        return float(torch.cuda.max_memory_allocated() - self.before)


DEVICES = {"auto": None, "cpu": CpuMeter, "cuda": CudaMeter}


def open_device(name: str) -> tuple[torch.device, Meter]:
    """Return a device and its meter.

    Args:
        name: ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.

    Raises:
        UserError: another name, or no GPU.
    """
    choose("device", name, DEVICES)
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UserError("device=cuda, but torch finds no GPU; set device=cpu, or install a torch that was built for it")
    on_gpu = found and name != "cpu"
    return torch.device("cuda" if on_gpu else "cpu"), CudaMeter() if on_gpu else CpuMeter()
