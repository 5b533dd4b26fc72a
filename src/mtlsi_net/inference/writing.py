"""Writing of results on threads, while the next images are predicted: value files, pictures and sheets."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mtlsi_net.core.errors import UserError
from mtlsi_net.core.machine import available_cores
from mtlsi_net.engine.drawing import CELL, draw_cell
from mtlsi_net.inference.files import save_png, write_result
from mtlsi_net.inference.result import Result

THREADS = 8
LARGE = 4_000_000
"""Pixels above which nothing is predicted while an image is written, to save memory."""
FLAT = 1
"""Compression level of sheets, large parts of which are of one colour."""


@dataclass(frozen=True)
class Wanted:
    """Kinds of files that are written for each image: values, pictures of each task, sheets of all tasks."""

    results: bool
    pictures: bool
    sheets: bool


def write_image(result: Result, name: str, out: Path, wanted: Wanted) -> None:
    """Write one image's files, called ``name``, to ``out``, ``out/pictures`` and ``out/sheets``; a UserError if that fails."""
    drawn = {task: one.drawn() for task, one in result.items()} if wanted.pictures or wanted.sheets else {}
    try:
        for task, one in result.items() if wanted.results else ():
            write_result(one, out / f"{name}_{task}")
        for task, (pixels, legend) in drawn.items() if wanted.pictures else ():
            cell = draw_cell(pixels, f"{name}: {task}", legend, max(CELL, pixels.shape[1]))
            save_png(out / "pictures" / f"{name}_{task}.png", cell)
        if wanted.sheets:
            save_png(out / "sheets" / f"{name}.png", result.to_pil(drawn), FLAT)
    except OSError as error:
        raise UserError(f"results of {name} cannot be written to {out} ({error.strerror or error})") from None


class Writers:
    """Threads that write results; a context, which ends when all files are written.

    Args:
        out: folder, with the subfolders that are wanted.
        wanted: what is written.
    """

    def __init__(self, out: Path, wanted: Wanted) -> None:
        self.out, self.wanted = out, wanted
        self.count = min(THREADS, available_cores())
        self._pool = ThreadPoolExecutor(self.count)
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> "Writers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._wait(0)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def put(self, result: Result, name: str) -> None:
        """Write one image's files soon; a UserError if those of an earlier image could not be written."""
        self._pending.append(self._pool.submit(write_image, result, name, self.out, self.wanted))
        self._wait(0 if result.image[..., 0].size > LARGE else self.count)

    def _wait(self, most: int) -> None:
        while len(self._pending) > most:
            self._pending.popleft().result()
