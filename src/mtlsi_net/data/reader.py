"""Base class of data set readers: split lists, checks for missing files and equal sizes."""

import logging
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, reduce
from pathlib import Path

import numpy as np
from PIL import Image

from mtlsi_net.core.errors import UserError, nearest_names, shown
from mtlsi_net.core.types import Reference, TargetSpec
from mtlsi_net.data.cache import DecodedCache, MapCache
from mtlsi_net.data.encoding import NYUD, Encoding
from mtlsi_net.data.files import read_target
from mtlsi_net.data.images import TURNS, read_image, stored_size
from mtlsi_net.data.transforms import IMAGE, Array, Sample

log = logging.getLogger(__name__)


class SampleReader(ABC):
    """Reader of one data set's files under ``root``, where nothing is written. Subclasses define the layout.

    ``specs`` (task name -> TargetSpec) are the label maps to read; a UserError if the layout has none for a task. With
    ``allow_missing`` a missing label file gives a map that is invalid throughout, instead of an error.
    """

    how_to_get: str
    """What to do if the folder is not what was expected; ends error messages."""
    tasks: Sequence[str]
    """Tasks this layout can hold labels for."""

    def __init__(self, root: Path, specs: Mapping[str, TargetSpec], *, allow_missing: bool = False) -> None:
        self.root, self.specs, self.allow_missing = root, dict(specs), allow_missing
        self.decoded: MapCache = DecodedCache(None)
        for name in specs:
            if name not in self.tasks:
                raise UserError(f"task {name!r}: this data set has no labels for it; {nearest_names(name, self.tasks)}")

    @abstractmethod
    def list_path(self, split: str) -> Path:
        """Return the file that lists the ids of ``train`` or ``val``."""

    @abstractmethod
    def files(self, name: str, sample_id: str) -> list[Path]:
        """Return the files that ``image`` or a task is read from; where one of several may serve, the one that would."""

    @abstractmethod
    def read_label(self, name: str, sample_id: str, size: tuple[int, int]) -> Array:
        """Return one label map, (H, W, C), stored or decoded, of an image of ``size``; others are refused later on."""

    def read_reference(self, name: str, sample_id: str) -> Reference:
        """Return what a task's scores compare with: boundaries as stored in the label file."""
        return Reference(
            read_target(self.files(name, sample_id)[0], self.specs[name], self.encoding(name))[..., 0][None],
            "boundaries",
        )

    def encoding(self, name: str) -> Encoding:  # noqa: ARG002 - for data sets whose files differ
        """Return how a task's label files store values."""
        return NYUD

    def ids(self, split: str) -> list[str]:
        """Return the ids of ``train`` or ``val``; a UserError if there are none, or unreadable ones, paths, or duplicates."""
        path = self.list_path(split)
        try:
            ids = self._own_ids(read_lines(path))
        except (FileNotFoundError, NotADirectoryError):
            what = f"{path} is missing" if self.root.is_dir() else f"data folder {self.root} does not exist"
            raise UserError(f"{what}; {self.how_to_get}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); fix its permissions or replace it") from None
        if not ids:
            raise UserError(f"{path} lists no images; {self.how_to_get}")
        if outside := [sample_id for sample_id in ids if os.path.isabs(sample_id) or ".." in sample_id.split("/")]:
            place = self.files(IMAGE, "id")[0].parent
            raise UserError(
                f"{path} names files outside {place} ({shown(outside)}); write ids as the images are called in there"
            )
        if twice := sorted(sample_id for sample_id, count in Counter(ids).items() if count > 1):
            raise UserError(f"{path} lists some ids more than once ({shown(twice)}); remove the duplicates")
        return ids

    def _own_ids(self, lines: Sequence[str]) -> list[str]:
        """Return the ids as files are named, for lines with suffixes, folders, paths, other slashes, or several ids each."""
        names = cache(names_in)

        def exists(sample_id: str) -> bool:
            path = self.files(IMAGE, sample_id)[0]
            return path.name in names(path.parent)

        place = self.files(IMAGE, "id")[0].parent
        folder = os.path.relpath(place, self.root)
        starts = ("./", f"{place.absolute()}/", f"{self.root.resolve() / folder}/")
        ids: list[str] = []
        for line in (reduce(str.removeprefix, starts, text) for text in lines):
            inside = line.replace("\\", "/").removeprefix(f"{folder}/")
            forms = (line, inside, os.path.splitext(inside)[0])
            found = next((form for form in forms if exists(form)), None)
            several = line.split()
            ids += [found] if found is not None else several if any(map(exists, several)) else [line]
        return ids

    def missing(self, name: str, ids: Iterable[str]) -> list[Path]:
        """Return the missing files of ``image`` or a task; a UserError if a folder cannot be listed."""
        names = cache(names_in)  # each folder is listed once
        files = (path for sample_id in ids for path in self.files(name, sample_id))
        return [path for path in files if path.name not in names(path.parent)]

    def lacking(self, name: str, ids: Iterable[str]) -> list[str]:
        """Return the ids of which a file of a task is missing; errors as ``missing``."""
        names = cache(names_in)
        return [i for i in ids if any(path.name not in names(path.parent) for path in self.files(name, i))]

    def check_files(self, ids: Sequence[str]) -> None:
        """Raise a UserError that counts and names the missing files of images and tasks.

        With ``allow_missing`` labels may be missing: the images without one are counted in a warning for each task.
        """
        missing = {name: files for name in (IMAGE, *self.specs) if (files := self.missing(name, ids))}
        if self.allow_missing:
            for name in missing.keys() - {IMAGE}:
                del missing[name]
                log.warning(
                    "%s: %d of %d images have no %s label", self.root, len(self.lacking(name, ids)), len(ids), name
                )
        if not missing:
            return
        described = "; ".join(f"{name}: {len(files)}, {self.describe(files)}" for name, files in missing.items())
        off = [name for name in missing if name != IMAGE]
        words = f"{' '.join(f'~tasks.{name}' for name in off)}; with a checkpoint: without=[{','.join(off)}]"
        remedy = f", or leave out the incomplete tasks ({words})" if off else ""
        raise UserError(f"{self.root}: files are missing ({described}); {self.how_to_get}{remedy}")

    def describe(self, files: Sequence[Path]) -> str:
        """Return the first few files, relative to the root, and the number of further ones."""
        return shown(os.path.relpath(path, self.root) for path in files)

    def read_image(self, sample_id: str) -> Array:
        """Return the image, (H, W, 3) uint8, upright; a UserError if it cannot be read, or is of another copy of the data set."""
        (path,) = self.files(IMAGE, sample_id)
        return self.decoded.get(IMAGE, [path], lambda: read_image(path))

    def image_size(self, sample_id: str) -> tuple[int, int]:
        """Return the image's height and width as stored, whatever its EXIF orientation, where possible from its header alone.

        Errors as in ``read_image``.
        """
        try:
            with Image.open(self.files(IMAGE, sample_id)[0]) as image:
                return image.height, image.width
        except (OSError, SyntaxError, ValueError):
            height, width = self.read_image(sample_id).shape[:2]
            return height, width

    def read_target(self, name: str, sample_id: str, size: tuple[int, int]) -> Array:
        """Return one task's label map for an image of ``size`` (height, width), (H, W, C), untransformed.

        A UserError if a file cannot be read, holds values out of range, or has another size.
        """
        spec, files = self.specs[name], self.files(name, sample_id)
        if self.allow_missing and not all(path.is_file() for path in files):
            return no_label(spec, size)
        meaning = type(self).__qualname__, spec, size, self.encoding(name)
        label = self.decoded.get(name, files, lambda: self.read_label(name, sample_id, size), meaning)
        if label.shape[:2] != size:
            raise self._wrong_size(files[0], sample_id, label.shape, size)
        return label

    def _wrong_size(self, path: Path, sample_id: str, have: Sequence[int], size: tuple[int, int]) -> UserError:
        """Return the error of a label of another size; it names the image's EXIF orientation if that is the reason."""
        image, error = self.files(IMAGE, sample_id)[0], wrong_size(path, have, size)
        try:
            stored, orientation = stored_size(image)
        except (OSError, SyntaxError, ValueError, UserError):
            return error
        if orientation not in TURNS or tuple(have[:2]) != stored:
            return error
        return UserError(
            f"{error}. {image.name} has an EXIF orientation ({orientation}) and is turned upright on reading, the label is "
            "not: turn the label as viewers show the image, or remove the tag from the image"
        )

    def reference(self, name: str, sample_id: str, size: tuple[int, int]) -> Reference:
        """Return the reference of one task for an image of ``size``; without annotators if its label is missing.

        A UserError if a file cannot be read, or has another size.
        """
        if self.allow_missing and not all(path.is_file() for path in self.files(name, sample_id)):
            return Reference(np.empty((0, *size), np.uint8), "boundaries")
        reference = self.read_reference(name, sample_id)
        if reference.maps.shape[1:] != size:
            raise self._wrong_size(self.files(name, sample_id)[0], sample_id, reference.maps.shape[1:], size)
        return reference

    def read(self, sample_id: str, without: Collection[str] = ()) -> Sample:
        """Return image and all label maps, untransformed, as ``transforms`` describes a sample.

        Label files of the tasks in ``without`` are not read, as if missing; errors as in ``read_image``, ``read_target``.
        """
        image = self.read_image(sample_id)
        size = (image.shape[0], image.shape[1])
        labels = {
            name: no_label(spec, size) if name in without else self.read_target(name, sample_id, size)
            for name, spec in self.specs.items()
        }
        return {IMAGE: image} | labels


def no_label(spec: TargetSpec, size: tuple[int, int]) -> Array:
    """Return the map of an image without a label, (H, W, C): invalid throughout."""
    return np.full((*size, spec.channels), spec.fill, np.float32)


def wrong_size(path: Path, have: Sequence[int], size: tuple[int, int]) -> UserError:
    """Return the error of a label of size ``have`` (height, width, ...) that its image does not have."""
    return UserError(
        f"{path}: label of {have[0]}x{have[1]} pixels for an image of {size[0]}x{size[1]}; "
        "labels are never resized silently, store them at the image's size"
    )


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text that are not blank, stripped, whatever the editor's line ends and byte-order mark."""
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return [line.strip() for line in content.decode(encoding).splitlines() if line.strip()]


def names_in(folder: Path) -> frozenset[str]:
    """Return the names in ``folder``, empty if it does not exist; a UserError if it cannot be listed."""
    try:
        return frozenset(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); fix its permissions") from None
