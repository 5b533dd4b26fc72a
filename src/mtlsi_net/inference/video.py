"""Videos: frames one after the other, and one video of coloured predictions for each task."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.images import Pixels
from mtlsi_net.inference.result import Result
from mtlsi_net.tasks.base import Task

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
RATE = 25.0
"""Frames a second of a video that states none."""


def is_video(source: object) -> bool:
    """Say whether ``source`` is the path of a video file, by its suffix."""
    return (
        isinstance(source, str | Path) and Path(source).suffix.lower() in VIDEO_SUFFIXES and not Path(source).is_dir()
    )


class Video:
    """A video file that can be read.

    Args:
        path: of the file.

    Attributes:
        rate: frames a second.
        count: frames, as the file states it; None if it does not.

    Raises:
        UserError: a missing or unreadable file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path} does not exist; pass a video file")
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise UserError(f"{path} cannot be read as a video; convert it, for example to MP4 (H.264)")
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS)) or RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = count if count > 0 else None

    def frames(self) -> Iterator[Pixels]:
        """Yield the frames, (H, W, 3) RGB; only one is in memory. A warning tells if there are fewer than the file states.

        Raises:
            UserError: no frame can be read.
        """
        read = 0
        try:
            while True:
                there, frame = self._capture.read()
                if not there:
                    break
                read += 1
                yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
        finally:
            self._capture.release()
        if not read:
            raise UserError(f"{self.path} holds no frame that can be read; convert it, for example to MP4 (H.264)")
        if self.count is not None and read < self.count:
            log.warning("%s: %d of %d frames could be read", self.path, read, self.count)


class TaskVideos:
    """One MP4 file of coloured predictions for each task. Colours that span a range keep that of the first frame.

    MP4 has even sizes: of an odd one the last row or column is left out.

    Args:
        out: folder.
        name: of the files, ``<name>_<task>.mp4``.
        rate: frames a second.
    """

    def __init__(self, out: Path, name: str, rate: float) -> None:
        self.out, self.name, self.rate = out, name, rate
        self._writers: dict[str, Any] = {}
        self._tasks: dict[str, Task] = {}

    def path(self, task: str, suffix: str = ".mp4") -> Path:
        """Return the path of a task's video."""
        return self.out / f"{self.name}_{task}{suffix}"

    def add(self, result: Result) -> None:
        """Write one frame; a UserError if that is not possible."""
        for name, one in result.items():
            if name not in self._writers:
                self._tasks[name] = one.task.fitted(one.value)
                self._writers[name] = self._open(name, result.image)
            self._writers[name].write(cv2.cvtColor(self._tasks[name].colorize(one.value), cv2.COLOR_RGB2BGR))

    def _open(self, task: str, frame: Pixels) -> Any:  # noqa: ANN401 - OpenCV has no types
        path, size = self.path(task, ".part.mp4"), (frame.shape[1], frame.shape[0])
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, size)
        if not writer.isOpened():
            raise UserError(f"{path} cannot be written; check the folder's permissions and free disk space")
        return writer

    def close(self, complete: bool) -> None:
        """Finish the files, or remove them if they are not complete."""
        for name, writer in self._writers.items():
            writer.release()
            part = self.path(name, ".part.mp4")
            if complete:
                part.replace(self.path(name))
            else:
                part.unlink(missing_ok=True)


@contextmanager
def task_videos(out: Path, name: str, rate: float) -> Iterator[TaskVideos]:
    """Yield a ``TaskVideos``; its files get their names when the block ends without an error."""
    videos = TaskVideos(out, name, rate)
    try:
        yield videos
    except BaseException:
        videos.close(complete=False)
        raise
    videos.close(complete=True)


def refuse_for_videos(settings: Mapping[str, object]) -> None:
    """Raise a UserError if settings are given that only images have."""
    if given := [f"{name}={value}" for name, value in settings.items() if value not in (None, False)]:
        raise UserError(f"{', '.join(given)} is for images only; leave it out for a video")
