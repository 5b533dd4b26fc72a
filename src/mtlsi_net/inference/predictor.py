"""Prediction from Python, for networks and exported graphs alike: one image, a list, a folder or a video."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from mtlsi_net.core.errors import UserError
from mtlsi_net.data.images import Pixels
from mtlsi_net.inference.images import AnyImage, as_pixels, find_images
from mtlsi_net.inference.result import Result
from mtlsi_net.inference.video import Video, is_video
from mtlsi_net.inference.views import Viewing


class Predictor:
    """Base class of what predicts all tasks for images; subclasses have ``predict_many``."""

    def predict_many(self, images: Sequence[Pixels], viewing: Viewing) -> list[Result]:
        """Predict for images (H, W, 3) of one size."""
        raise NotImplementedError

    @overload
    def predict(self, image: AnyImage, **viewing: Any) -> Result: ...  # noqa: ANN401 - Viewing's fields
    @overload
    def predict(self, image: list[Any] | tuple[Any, ...], **viewing: Any) -> list[Result]: ...  # noqa: ANN401

    def predict(self, image: AnyImage | list[Any] | tuple[Any, ...], **viewing: Any) -> Result | list[Result]:
        """Predict all tasks for one image, at its own size, or for each image of a list.

        Args:
            image: a path, a PIL image, or bytes (H, W, 3) RGB or (H, W) grey; any size. Or a list of these; of a list too
                long for memory, and of folders and videos, ``predict_each`` gives the results one by one.
            viewing: ``mode``, ``size``, ``flip``, ``scales``, ``overlap``, ``batch_size``, see ``Viewing``.

        Raises:
            UserError: an unreadable image, an array of another shape or type, or settings that ``Viewing`` refuses.
        """
        if isinstance(image, list | tuple):
            return list(self.predict_each(image, **viewing))
        if isinstance(image, str | Path) and (Path(image).is_dir() or is_video(image)):
            raise UserError(f"{image} is a folder or video; use predict_each, which gives its results one by one")
        return self.predict_many([as_pixels(image)], Viewing(**viewing))[0]

    def predict_each(self, source: str | Path | Iterable[AnyImage], **viewing: Any) -> Iterator[Result]:  # noqa: ANN401
        """Yield the results of many images, one by one, so that only one is in memory.

        Args:
            source: a folder (with its subfolders, in the order of names), a glob, a video, or any iterable of images as
                ``predict`` takes them.
            viewing: as of ``predict``.

        Raises:
            UserError: as ``predict``, and a path that holds no image or cannot be read as a video.
        """
        chosen = Viewing(**viewing)
        if is_video(source):
            images: Iterable[AnyImage] = Video(str(source)).frames()
        else:
            images = find_images(source) if isinstance(source, str | Path) else source
        return self._each(images, chosen)

    def _each(self, images: Iterable[AnyImage], viewing: Viewing) -> Iterator[Result]:
        for image in images:
            result = self.predict_many([as_pixels(image)], viewing)[0]
            result.source = Path(image) if isinstance(image, str | Path) else None
            yield result
