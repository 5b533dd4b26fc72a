"""``python -m mtlsi_net.predict``: any number of images to files, pictures and a page."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import DictConfig
from PIL import Image
from rich.progress import track

from mtlsi_net.prediction.drawing import draw_picture, draw_sheet
from mtlsi_net.prediction.errors import LabelFolder, draw_errors
from mtlsi_net.prediction.files import name_results, write_meaning, write_result
from mtlsi_net.prediction.images import Pixels, find_images, read_image
from mtlsi_net.prediction.maps import draw_maps
from mtlsi_net.prediction.model import Model, load
from mtlsi_net.prediction.page import write_page
from mtlsi_net.prediction.result import Result
from mtlsi_net.prediction.views import Viewing
from mtlsi_net.record import describe_run
from mtlsi_net.utils.config_checks import as_list, check_complete
from mtlsi_net.utils.errors import UserError, shown
from mtlsi_net.utils.io import write_json
from mtlsi_net.utils.licences import in_words

log = logging.getLogger(__name__)

AHEAD = 2
"""Batches of images that are read beside the one that is predicted."""


@dataclass(frozen=True)
class Output:
    """Where results go."""

    root: Path

    @property
    def pictures(self) -> Path:
        """Coloured pictures with legends."""
        return self.root / "pictures"

    @property
    def sheets(self) -> Path:
        """All of one image at a glance."""
        return self.root / "sheets"

    @property
    def maps(self) -> Path:
        """What tokens and gates look at."""
        return self.root / "maps"

    @property
    def errors(self) -> Path:
        """Predictions against labels."""
        return self.root / "errors"

    def create(self, *folders: Path) -> None:
        """Make the folders.

        Raises:
            UserError: they cannot be written.
        """
        try:
            for folder in (self.root, *folders):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.root / ".writable"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise UserError(f"out={self.root} cannot be written ({error.strerror}); choose another folder") from None


@dataclass
class Done:
    """What became of the images."""

    names: list[str] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)


def predict(cfg: DictConfig) -> Done:
    """Predict for every image of ``cfg.input`` and write all results to ``cfg.out``.

    Raises:
        UserError: nothing could be begun; or, when all else is done, some images could not be read.
    """
    check_complete(cfg)
    viewing = Viewing(cfg.mode, cfg.flip, tuple(as_list(cfg.scales)), cfg.overlap, cfg.batch_size)
    Image.MAX_IMAGE_PIXELS = None  # max_megapixels is checked before anything is decoded
    images = find_images(cfg.input, without=Path(cfg.out))
    model = load(cfg.ckpt, None, cfg.device, cfg.precision, cfg.trust)
    keep(model, cfg.keep)
    labels = None if cfg.labels is None else LabelFolder(Path(cfg.labels), model.tasks)
    out = Output(Path(cfg.out))
    wanted = {out.pictures: cfg.pictures, out.sheets: cfg.sheets, out.maps: cfg.maps, out.errors: labels is not None}
    out.create(*(folder for folder, on in wanted.items() if on))
    log.info("licences: %s", in_words(model.about.get("licences", {})))

    names, done, start = name_results(images), Done(), time.perf_counter()
    batches = read_batches(images, cfg.batch_size if cfg.mode == "whole" else 1, cfg.max_megapixels, done)
    for path, result in track(
        predictions(model, batches, viewing),
        description="predicting",
        total=len(images),
        disable=not cfg.progress,
    ):
        name = names[path]
        write(result, name, out, pictures=cfg.pictures, sheets=cfg.sheets)
        if cfg.maps:
            draw_maps(model, result, out.maps / f"{name}.png")
        if labels is not None:
            compare_labels(result, labels, path, out.errors / f"{name}.png")
        done.names.append(name)
    finish(cfg, model, out, done, time.perf_counter() - start)
    return done


def keep(model: Model, tasks: Sequence[str] | None) -> None:
    """Keep some tasks of a model, and say what that saves."""
    if tasks is None:
        return
    before = _forward_seconds(model)
    model.keep_tasks(as_list(tasks))
    after = _forward_seconds(model)
    log.info(
        "%s alone: %.0f instead of %.0f ms for a pass at %dx%d (%+.0f %%)",
        ", ".join(model.tasks),
        1000 * after,
        1000 * before,
        *model.size,
        100 * (after / before - 1),
    )


def _forward_seconds(model: Model, repeats: int = 3) -> float:
    """Return the shortest time of a forward pass, the first left out."""
    image = torch.full((1, 3, *model.size), 0.5)
    valid = torch.ones(1, 1, *model.size, dtype=torch.bool)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        outputs = model.raw(image, valid)
        next(iter(outputs.values())).sum().item()  # waits for a GPU
        times.append(time.perf_counter() - start)
    return min(times[1:])


def read_batches(
    images: Sequence[Path], size: int, max_megapixels: float, done: Done
) -> Iterator[list[tuple[Path, Pixels]]]:
    """Yield images, read beside what the caller does, in batches of at most ``size`` of one shape.

    Those that cannot be read are skipped, and noted in ``done``.
    """
    with ThreadPoolExecutor(2) as pool:
        waiting: list[tuple[Path, Future[Pixels]]] = []
        batch: list[tuple[Path, Pixels]] = []
        rest = iter(images)
        while True:
            while len(waiting) < AHEAD * size and (path := next(rest, None)) is not None:
                waiting.append((path, pool.submit(read_image, path, max_megapixels)))
            if not waiting:
                break
            path, future = waiting.pop(0)
            try:
                pixels = future.result()
            except UserError as error:
                done.skipped[path] = str(error)
                log.warning("skipped: %s", error)
                continue
            if batch and (len(batch) == size or batch[0][1].shape != pixels.shape):
                yield batch
                batch = []
            batch.append((path, pixels))
        if batch:
            yield batch


def predictions(
    model: Model, batches: Iterator[list[tuple[Path, Pixels]]], viewing: Viewing
) -> Iterator[tuple[Path, Result]]:
    """Yield each image's path and results."""
    for batch in batches:
        results = model.predict_many([pixels for _, pixels in batch], viewing)
        yield from ((path, result) for (path, _), result in zip(batch, results, strict=True))


def compare_labels(result: Result, labels: LabelFolder, image: Path, path: Path) -> None:
    """Draw the errors of one image; labels that do not fit it are told and left alone."""
    stem = image.stem
    try:
        if path.stem != stem:
            raise UserError(f"several images are called {stem}; whose label is {stem}'s?")
        draw_errors(result, labels.read(stem, (result.image.shape[0], result.image.shape[1])), path)
    except UserError as error:
        log.warning("no errors drawn: %s", error)


def write(result: Result, name: str, out: Output, *, pictures: bool, sheets: bool) -> None:
    """Write one image's results, and pictures of them."""
    try:
        for task, one in result.items():
            write_result(one, out.root / f"{name}_{task}")
            if pictures:
                picture = draw_picture(one.pixels(), f"{name}: {task}", one.legend())
                picture.save(out.pictures / f"{name}_{task}.png", compress_level=3)
        if sheets:
            draw_sheet(result).save(out.sheets / f"{name}.png", compress_level=3)
    except OSError as error:
        raise UserError(f"results of {name} cannot be written to {out.root} ({error.strerror or error})") from None


def finish(cfg: DictConfig, model: Model, out: Output, done: Done, seconds: float) -> None:
    """Write the page, what the numbers mean, and the record; say what was skipped.

    Raises:
        UserError: some images were skipped.
    """
    write_meaning(model.tasks, out.root / "tasks.json")
    skipped = {str(path): reason for path, reason in done.skipped.items()}
    record = describe_run(int(model.about.get("seed") or 0), {"predicting": seconds})
    write_json(out.root / "run.json", record | {"model": model.about, "predicted": done.names, "skipped": skipped})
    if cfg.sheets:
        write_page(out.root / "index.html", done.names, list(model.tasks), skipped, pictures=cfg.pictures)
    if done.names:
        log.info("%d images in %.1f s; results in %s", len(done.names), seconds, out.root)
    if skipped:
        raise UserError(
            f"{len(skipped)} of {len(done.names) + len(skipped)} images were skipped: {shown(skipped.values(), '; ')}"
        )
