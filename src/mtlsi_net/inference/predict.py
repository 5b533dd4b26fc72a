"""Prediction for many images, written as files, pictures and a page."""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

from omegaconf import DictConfig
from rich.progress import track

from mtlsi_net.core.config import as_list, check_complete
from mtlsi_net.core.errors import UserError, shown
from mtlsi_net.core.io import write_json
from mtlsi_net.core.licences import in_words
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.data.images import Pixels, read_image
from mtlsi_net.engine.record import describe_run
from mtlsi_net.inference.attention_maps import check_maps, draw_maps
from mtlsi_net.inference.error_maps import LabelFolder
from mtlsi_net.inference.exported import OnnxModel
from mtlsi_net.inference.files import name_results
from mtlsi_net.inference.images import find_images
from mtlsi_net.inference.index_page import write_page
from mtlsi_net.inference.model import Model, load
from mtlsi_net.inference.model_card import describe_tasks
from mtlsi_net.inference.video import Video, is_video, refuse_for_videos, task_videos
from mtlsi_net.inference.views import Viewing
from mtlsi_net.inference.writing import Wanted, Writers, write_image

log = logging.getLogger(__name__)

AHEAD = 2
"""Batches of images that are read ahead of prediction."""

Item = tuple[Path, Pixels]
"""An image's file and content."""


@dataclass
class Done:
    """Names of the results, why the other images were skipped, and how many the network saw in which way."""

    names: list[str] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)


def predict(cfg: DictConfig) -> Done:
    """Predict for every image of ``cfg.input`` and write results to ``cfg.out``; a UserError at the end if some were skipped."""
    check_complete(cfg)
    size = cfg.size if cfg.size is None or isinstance(cfg.size, str) else tuple(as_list(cfg.size))
    viewing = Viewing(cfg.mode, cfg.flip, tuple(as_list(cfg.scales)), cfg.overlap, cfg.batch_size, size)
    out = Path(cfg.out)
    RunFolder(out).refuse_trained("out")
    if is_video(cfg.input):
        return predict_video(cfg, viewing)
    images = find_images(cfg.input, without=out)
    model = load_model(cfg)
    if isinstance(model, OnnxModel):
        model.check(viewing, maps=cfg.maps)
    elif cfg.maps:
        check_maps(model)
    labels = None if cfg.labels is None else LabelFolder(Path(cfg.labels), model.tasks, cfg.label_encoding)
    wanted = what_is_wanted(cfg)
    make_folders(out, {"pictures": cfg.pictures, "sheets": cfg.sheets, "maps": cfg.maps, "errors": labels is not None})
    names, done, start = name_results(images), Done(), time.perf_counter()
    batches = read_batches(images, cfg.batch_size if cfg.mode == "whole" else 1, cfg.max_megapixels, done)
    predicted = (
        (path, result)
        for batch in batches
        for (path, _), result in zip(batch, model.predict_many([pixels for _, pixels in batch], viewing), strict=True)
    )
    with Writers(out, wanted) as writers:
        for path, result in track(predicted, "predicting", len(images), disable=not cfg.progress):
            name = names[path]
            writers.put(result, name)
            if isinstance(model, Model) and cfg.maps:
                draw_maps(model, result, out / "maps" / f"{name}.png", viewing)
            if labels is not None:
                labels.compare(result, path, out / "errors" / f"{name}.png")
            done.names.append(name)
            done.seen[result.seen] += 1
    if labels is not None:
        labels.report()
    _finish(cfg, model, out, done, time.perf_counter() - start)
    return done


def predict_video(cfg: DictConfig, viewing: Viewing) -> Done:
    """Predict for every frame of the video ``cfg.input``; write a video for each task, and pictures of the first frame."""
    refuse_for_videos({"labels": cfg.labels, "maps": cfg.maps})
    out, video = Path(cfg.out), Video(cfg.input)
    model = load_model(cfg)
    if isinstance(model, OnnxModel):
        model.check(viewing)
    make_folders(out, {"pictures": cfg.pictures, "sheets": cfg.sheets})
    name, done, start = video.path.stem, Done(), time.perf_counter()
    frames = track(video.frames(), "predicting frames", video.count, disable=not cfg.progress)
    size = cfg.batch_size if cfg.mode == "whole" else 1
    with task_videos(out, name, video.rate) as videos:
        while batch := list(islice(frames, size)):
            for result in model.predict_many(batch, viewing):
                if not done.seen:
                    write_image(result, name, out, Wanted(False, cfg.pictures, cfg.sheets))
                videos.add(result)
                done.seen[result.seen] += 1
    done.names.append(name)
    _finish(cfg, model, out, done, time.perf_counter() - start, videos.path(next(iter(model.tasks))))
    return done


def what_is_wanted(cfg: DictConfig) -> Wanted:
    """Return the kinds of files to write; a UserError if there are none."""
    wanted = Wanted(cfg.results, cfg.pictures, cfg.sheets)
    if not (any((wanted.results, wanted.pictures, wanted.sheets, cfg.maps)) or cfg.labels is not None):
        raise UserError("results, pictures and sheets are all false: nothing would be written; set one of them to true")
    return wanted


def make_folders(out: Path, wanted: Mapping[str, bool]) -> None:
    """Make ``out`` and the folders in it that are wanted; a UserError if that fails."""
    try:
        for folder in ("", *(name for name, asked in wanted.items() if asked)):
            (out / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={out} cannot be written ({error.strerror}); choose another folder") from None


def load_model(cfg: DictConfig) -> Model | OnnxModel:
    """Load ``cfg.ckpt`` with the tasks of ``cfg.tasks``; log which these are, and the licences."""
    tasks = None if cfg.tasks is None else as_list(cfg.tasks)
    model = load(cfg.ckpt, tasks, cfg.get("device", "cpu"), cfg.get("precision", "32-true"), cfg.trust)
    if tasks is not None:
        rest = ": the graph computes the others all the same" if isinstance(model, OnnxModel) else ""
        log.info("tasks %s only%s", ", ".join(model.tasks), rest)
    log.info("licences: %s", in_words(model.about.get("licences", {})))
    return model


def read_batches(images: Sequence[Path], size: int, max_megapixels: float, done: Done) -> Iterator[list[Item]]:
    """Yield images, read in the background, in batches of at most ``size`` of one shape.

    Unreadable images are skipped and recorded in ``done``.
    """
    items = _read_ahead(images, AHEAD * size, max_megapixels, done)
    for _, alike in groupby(items, key=lambda item: item[1].shape):
        while batch := list(islice(alike, size)):
            yield batch


def _read_ahead(images: Sequence[Path], ahead: int, max_megapixels: float, done: Done) -> Iterator[Item]:
    with ThreadPoolExecutor(2) as pool:
        submitted = ((path, pool.submit(read_image, path, max_megapixels)) for path in images)
        waiting = deque(islice(submitted, ahead))
        while waiting:
            path, pixels = waiting.popleft()
            waiting.extend(islice(submitted, 1))
            try:
                yield path, pixels.result()
            except UserError as error:
                done.skipped[path] = str(error)
                log.warning("skipped: %s", error)


def _finish(
    cfg: DictConfig, model: Model | OnnxModel, out: Path, done: Done, seconds: float, video: Path | None = None
) -> None:
    """Write the page, the description of the tasks, and the record; a UserError if images were skipped.

    ``video``: what was written instead of the page's sheets, one of the videos.
    """
    write_json(out / "tasks.json", describe_tasks(model.tasks))
    skipped = {str(path): reason for path, reason in done.skipped.items()}
    record = describe_run(model.about.get("seed"), {"predicting": seconds})
    write_json(
        out / "run.json",
        record | {"model": model.about, "predicted": done.names, "seen": dict(done.seen), "skipped": skipped},
    )
    target = video or out
    if cfg.sheets and video is None:
        target = out / "index.html"
        tasks = list(model.tasks) if cfg.pictures or cfg.results else []
        write_page(target, done.names, tasks, skipped, pictures=cfg.pictures)
    if done.names:
        seen = "; ".join(f"{count} {how}" for how, count in done.seen.items())
        settings = "size=original, size=[H,W]" + (", mode=sliding" if isinstance(model, Model) else "")
        log.info("images: %s (settings: %s)", seen, settings)
        log.info("%d images or frames in %.1f s; results are in %s: open %s", done.seen.total(), seconds, out, target)
    if skipped:
        raise UserError(
            f"{len(skipped)} of {len(done.names) + len(skipped)} images were skipped: {shown(skipped.values(), '; ')}"
        )
