"""Reader and data module for custom data in the NYUDv2 layout, with settings for other encodings of labels."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlsi_net.core.errors import UserError, choose
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.encoding import Encoding, read_palette
from mtlsi_net.data.images import SUFFIXES
from mtlsi_net.data.nyud import FILES, NYUDLayoutDataModule, NYUDLayoutReader
from mtlsi_net.data.reader import names_in
from mtlsi_net.data.transforms import IMAGE

SETTINGS = ("depth_scale", "zero_based", "palette", "binary_max")
"""Settings that say how labels are stored."""


class FolderReader(NYUDLayoutReader):
    """Reader of one's own data; ``encodings``: task -> how its label files store values, where not as NYUDv2's do.

    Images have any of ``SUFFIXES``, unless ``files`` names one.
    """

    how_to_get = (
        "data.root is a folder with images/, one folder of labels for each task, and the ids in gt_sets/train.txt and val.txt "
        "(docs/guides/own-data.md)"
    )

    def __init__(
        self,
        root: Path,
        specs: Mapping[str, TargetSpec],
        *,
        allow_missing: bool = False,
        files: Mapping[str, Sequence[str]] | None = None,
        encodings: Mapping[str, Encoding] | None = None,
    ) -> None:
        super().__init__(root, specs, allow_missing=allow_missing, files=files)
        self.encodings = dict(encodings or {})
        self.any_suffix = IMAGE not in (files or {})
        self._images: dict[Path, dict[str, list[str]]] = {}

    def files(self, name: str, sample_id: str) -> list[Path]:
        """Return the file of ``image`` or of a task.

        Raises:
            UserError: several images have this id.
        """
        files = super().files(name, sample_id)
        if name != IMAGE or not self.any_suffix:
            return files
        standard = files[0]
        names = self._image_names(standard.parent).get(standard.stem, [])
        if len(names) > 1:
            text = (
                f"{standard.parent}: {' and '.join(names)} have the same id; keep one, or choose a suffix, for example"
            )
            raise UserError(f"{text} +data.files.image=[{self.layout[IMAGE][0]},{Path(names[0]).suffix}]")
        return [standard.with_name(names[0])] if names else files

    def _image_names(self, folder: Path) -> dict[str, list[str]]:
        """Return name without suffix -> names of the image files in a folder, which is listed once."""
        if not self._images.get(folder):  # empty: a drive that may come back
            found = defaultdict(list)
            for path in map(Path, sorted(names_in(folder))):
                if path.suffix.lower() in SUFFIXES:
                    found[path.stem].append(path.name)
            self._images[folder] = dict(found)
        return self._images[folder]

    def encoding(self, name: str) -> Encoding:
        """Return how a task's label files store values."""
        return self.encodings.get(name, super().encoding(name))


class FolderDataModule(NYUDLayoutDataModule):
    """Any folder with ``images/``, ``gt_sets/{train,val}.txt`` and one folder of labels for each task.

    Labels are encoded as in NYUDv2, by the kind of the task's target, see ``files.read_target``, unless settings say
    otherwise; each is one value for all tasks that it concerns, or task -> value.

    Args:
        root: as for ``MultiTaskDataModule``, with all its other arguments.
        targets: as for ``MultiTaskDataModule``.
        depth_scale: metres of one stored unit of depth: 0.001 for millimetres, as in 16-bit PNGs.
        zero_based: class maps hold 0, 1, ... and 255 for unlabelled pixels, instead of 1, 2, ... and 0.
        palette: text file of the classes' colours, see ``encoding.read_palette``, for masks whose colours are classes.
        binary_max: stored value of a positive pixel in masks and boundaries, if not 255: 1 for maps of 0 and 1.
        options: of ``MultiTaskDataModule``.
    """

    def __init__(
        self,
        root: str,
        targets: Mapping[str, TargetSpec],
        *,
        depth_scale: float | Mapping[str, float] | None = None,
        zero_based: bool | Mapping[str, bool] | None = None,
        palette: str | Mapping[str, str] | None = None,
        binary_max: int | Mapping[str, int] | None = None,
        **options: Any,  # noqa: ANN401 - the base's
    ) -> None:
        super().__init__(root, targets, **options)
        settings = {"depth_scale": depth_scale, "zero_based": zero_based, "palette": palette, "binary_max": binary_max}
        self.encodings = build_encodings(self.train_specs, settings, self.files)

    def make_reader(self, specs: Mapping[str, TargetSpec]) -> FolderReader:
        """Return a reader of the folders that ``files`` names and of the layout's own."""
        options = {"allow_missing": self.allow_missing, "files": self.files, "encodings": self.encodings}
        return FolderReader(self.root, specs, **options)  # type: ignore[arg-type]


def build_encodings(
    specs: Mapping[str, TargetSpec], settings: Mapping[str, Any], files: Collection[str] = (), prefix: str = "data."
) -> dict[str, Encoding]:
    """Return task -> encoding of its labels, from settings that are one value for all tasks, or task -> value.

    ``files`` are further tasks that settings may name, though they are not among those of ``specs``.

    Raises:
        UserError: a value out of range, an unknown task, or a palette that cannot be read.
    """
    for setting, value in settings.items():
        for name in value if isinstance(value, Mapping) else ():
            choose(f"{prefix}{setting}: task", name, dict.fromkeys((*specs, *FILES, *files)))
    encodings = {}
    for name in specs:
        own = {key: value.get(name) if isinstance(value, Mapping) else value for key, value in settings.items()}
        palette = own.get("palette") if specs[name].kind == "classes" else None
        encodings[name] = Encoding(
            depth_scale=own.get("depth_scale"),
            zero_based=bool(own.get("zero_based")),
            palette=None if palette is None else read_palette(Path(palette).expanduser(), prefix),
            binary_max=own.get("binary_max"),
            prefix=prefix,
        )
    return encodings
