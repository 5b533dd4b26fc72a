"""Readers of what ``export`` wrote: ONNX graphs, run by ONNX Runtime, and ``.pt2`` archives, read without executing anything."""

import importlib.util
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional as F

from mtlsi_net.core.errors import UserError, choose
from mtlsi_net.core.image_sizes import ImageSizes
from mtlsi_net.core.renamed import modernize
from mtlsi_net.data.images import Pixels
from mtlsi_net.data.transforms import IMAGENET_MEAN
from mtlsi_net.engine.build import build_tasks
from mtlsi_net.engine.trust import check_targets
from mtlsi_net.inference.predictor import Predictor
from mtlsi_net.inference.result import Result, TaskResult
from mtlsi_net.inference.scale import view_scale
from mtlsi_net.inference.views import Viewing, class_type, region_of, resized, scaled_size
from mtlsi_net.metrics.normals import unit_vectors
from mtlsi_net.models.weights import brief
from mtlsi_net.tasks.base import Task

MODEL = "mtlsi_net"
"""Entry of a file's metadata with the arguments of ``Model``."""
FACTS = "about.json"
"""Extra file of a ``.pt2`` archive with its metadata."""
ANOTHER = "give the run, checkpoint or saved model that it was made from"


class OnnxModel(Predictor):
    """An ONNX graph that ``export`` wrote; predicts as ``Model`` does, each image whole and in one view.

    An image is seen at the scale at which the network would see it, or smaller if the graph takes one size only, and padded
    at its right and bottom to a size that the graph takes.

    Args:
        path: of the file.
        device: ``auto`` and ``cuda`` use a GPU if ONNX Runtime does; else the CPU.
        precision: ``auto`` or ``32-true``.

    Attributes:
        size: (height, width) of the training images.
        evaluated: sizes of the images that it was scored on, None if they are not known.
        trained: names of all tasks that the network was trained on.
        about: see ``Model``.

    Raises:
        UserError: ONNX Runtime is not installed, the file is missing, damaged, foreign or of an earlier version, or settings
            that a graph cannot follow.
    """

    def __init__(self, path: Path, device: str | torch.device = "auto", precision: str = "auto") -> None:
        if precision not in ("auto", "32-true"):
            raise UserError(
                f"precision={precision} is not possible with {path}: the graph computes in float32; omit it"
            )
        self.path = path
        self._session = _open_session(path, str(device))
        known = self._session.get_modelmeta().custom_metadata_map
        arguments = _arguments(known.get(MODEL), path, ours="licences" in known)
        try:
            tasks = modernize({"tasks": {name: arguments["tasks"][name] for name in arguments["order"]}})
            check_targets(tasks, str(path))
            every = build_tasks(OmegaConf.create(tasks))
            self.trained = list(every)
            self.tasks: dict[str, Task] = {name: every[name] for name in arguments["kept"]}
            self.size = _two(arguments["size"])
            self.scale = float(arguments["scale"])
            self.evaluated = ImageSizes.load(arguments["evaluated"]) if arguments["evaluated"] else None
            self.about: dict[str, Any] = dict(arguments["about"] or {})
            self._pad_color = np.asarray(arguments["pad_color"] or IMAGENET_MEAN, np.float32)
            self._multiple, self._least = int(known["multiple"]), int(known["least"])
            self._fixed = None if known["batch"] == "any" else _two([known["height"], known["width"]])
        except UserError:
            raise
        except Exception as error:  # a damaged file may hold anything
            raise UserError(f"{path}: its metadata is damaged ({brief(error)}); export it again") from None
        if {output.name for output in self._session.get_outputs()} != set(self.tasks):
            raise UserError(f"{path}: the outputs are not the tasks that its metadata names; export it again")

    def keep_tasks(self, names: Sequence[str]) -> None:
        """Drop the results of all tasks except ``names``, at least one; the graph computes all the same."""
        for name in names:
            choose("tasks", name, self.tasks)
        if not names:
            raise UserError("tasks=[] leaves nothing to predict; name at least one task")
        self.tasks = {name: task for name, task in self.tasks.items() if name in names}

    def check(self, viewing: Viewing, *, maps: bool = False) -> None:
        """Raise a UserError if settings need the network itself: other views, or the insides of the network."""
        wanted = {
            "mode=sliding": viewing.mode != "whole",
            "flip=true": viewing.flip,
            f"scales={list(viewing.scales)}": tuple(viewing.scales) != (1.0,),
            "maps=true": maps,
        }
        if refused := [setting for setting, asked in wanted.items() if asked]:
            raise UserError(
                f"{', '.join(refused)}: {self.path} is a graph, which gives finished values only; {ANOTHER}"
            )

    def predict_many(self, images: Sequence[Pixels], viewing: Viewing) -> list[Result]:
        """Predict for images (H, W, 3) of one size. Of ``viewing`` only ``size`` is possible."""
        self.check(viewing)
        size = images[0].shape[0], images[0].shape[1]
        factor, canvas, words = self._place(size, viewing)
        seen = [resized(image, factor) for image in images]
        inputs = np.stack([self._padded(image, canvas) for image in seen])
        values = self._run(inputs)
        inside = seen[0].shape[:2]
        results = []
        for index, image in enumerate(images):
            cut = {name: torch.from_numpy(values[name][index])[:, : inside[0], : inside[1]] for name in self.tasks}
            finished = {name: TaskResult(task, _enlarged(cut[name], size, task)) for name, task in self.tasks.items()}
            results.append(Result(image, finished, words))
        return results

    def _place(self, size: tuple[int, int], viewing: Viewing) -> tuple[float, tuple[int, int], str]:
        """Return the factor of an image of ``size``, the size of the graph's input, and what is done, in words."""
        scale = view_scale(self, size, viewing.size)
        factor, words = scale.factor, scale.words
        inside = scaled_size(size, factor)
        if self._fixed is None:
            canvas = self._reach(inside[0]), self._reach(inside[1])
        else:
            canvas = self._fixed
            if inside[0] > canvas[0] or inside[1] > canvas[1]:
                factor = min(side / own for side, own in zip(canvas, size, strict=True))
                change = "reduced" if factor < self.scale else "enlarged"
                words = "{} to fit into the graph's {}x{}".format(change, *canvas)
                inside = scaled_size(size, factor)
        if inside != canvas:
            words += ", padded to {}x{}".format(*canvas)
        return factor, canvas, words

    def _reach(self, side: int) -> int:
        return self._multiple * max(self._least, -(-side // self._multiple))

    def _padded(self, image: NDArray[Any], canvas: tuple[int, int]) -> NDArray[np.float32]:
        """Return an image (h, w, 3), 0 to 255, as planes (3, H, W) in [0, 1], padded at its right and bottom."""
        planes = np.broadcast_to(self._pad_color[:, None, None], (3, *canvas)).copy()
        planes[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        return planes

    def _run(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return task -> values (B, C, H, W) of images (B, 3, H, W)."""
        names = list(self.tasks)
        batches = [images] if self._fixed is None else [image[None] for image in images]
        try:
            done = [self._session.run(names, {"image": batch}) for batch in batches]
        except Exception as error:  # whatever ONNX Runtime raises
            shape = "x".join(map(str, images.shape[-2:]))
            raise UserError(f"{self.path} cannot be run on an image of {shape} ({brief(error)})") from None
        return {name: np.concatenate(parts) for name, parts in zip(names, zip(*done, strict=True), strict=True)}


def _two(sides: Sequence[Any]) -> tuple[int, int]:
    height, width = (int(side) for side in sides)
    return height, width


def _enlarged(value: Tensor, size: tuple[int, int], task: Task) -> Tensor:
    """Return finished values (C, h, w) at another size; classes as whole numbers, all else float32."""
    if task.target.kind == "classes":
        if value.shape[-2:] != size:
            value = F.interpolate(value[None].float(), size, mode="nearest-exact")[0]
        return value.to(class_type(task.target))
    if value.shape[-2:] == size:
        return value
    value = region_of(value, size, slice(0, size[0]), slice(0, size[1]))
    return unit_vectors(value[None])[0] if task.target.kind == "vector" else value


def _open_session(path: Path, device: str) -> Any:  # noqa: ANN401 - onnxruntime has no types
    if importlib.util.find_spec("onnxruntime") is None:
        raise UserError(f"{path} needs onnxruntime; install it with pip install 'mtlsi-net[export]'")
    import onnxruntime

    _check_there(path)
    gpu, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    kind, _, index = device.partition(":")
    has_gpu = gpu in onnxruntime.get_available_providers()
    providers: list[Any] = [cpu]
    if has_gpu and kind in ("auto", "cuda"):
        providers.insert(0, (gpu, {"device_id": int(index or 0)}))
    elif kind not in ("auto", "cpu"):
        raise UserError(f"device={device} cannot be used by ONNX Runtime as installed; omit it, or use onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # whatever ONNX Runtime raises
        raise UserError(
            f"{path} cannot be read as an ONNX graph ({brief(error)}); is it complete, and {path.name}.data beside it if "
            "it has weights of its own?"
        ) from None


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a file that export wrote")


def _arguments(text: str | Mapping[str, Any] | None, path: Path, *, ours: bool) -> dict[str, Any]:
    """Return the arguments of ``Model`` in a file's metadata; a UserError if there are none."""
    if text is None and ours:
        raise UserError(f"{path} was exported by an earlier version, without what prediction needs; export it again")
    if text is None:
        raise UserError(f"{path} was not written by this suite's export (its metadata has no {MODEL})")
    try:
        return dict(json.loads(text) if isinstance(text, str) else text)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: its metadata is damaged ({brief(error)}); export it again") from None


class Program:
    """A ``.pt2`` archive that ``export`` wrote: the network's configuration and weights.

    Its graph is not loaded: ``torch.export.load`` evaluates expressions, and unpickles objects, that a file holds. The network
    is built from its configuration instead, and the weights, plain bytes in the archive, are given to it.

    Args:
        path: of the file.

    Attributes:
        arguments: of ``Model``.

    Raises:
        UserError: the file is missing, damaged, foreign or of an earlier version.
    """

    def __init__(self, path: Path) -> None:
        _check_there(path)
        self.path = path
        try:
            facts = json.loads(self._read(f"extra/{FACTS}"))
        except KeyError:
            facts = {}
        except Exception as error:  # a damaged file may raise anything
            raise UserError(f"{path} cannot be read ({brief(error)}); is it complete?") from None
        facts = facts if isinstance(facts, dict) else {}
        self.arguments = _arguments(facts.get(MODEL), path, ours="licences" in facts)

    def weights(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's weights, with the names and types of ``like``; a UserError if they do not fit."""
        try:
            listed = json.loads(self._read("data/weights/model_weights_config.json"))["config"]
            with zipfile.ZipFile(self.path) as archive:
                root = archive.namelist()[0].partition("/")[0]
                return {
                    name: self._weight(archive, root, listed[f"model.{name}"], value) for name, value in like.items()
                }
        except Exception as error:  # a damaged file may raise anything
            raise UserError(f"{self.path}: its weights cannot be read ({brief(error)}); export it again") from None

    def _read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(f"{archive.namelist()[0].partition('/')[0]}/{name}")

    @staticmethod
    def _weight(archive: zipfile.ZipFile, root: str, entry: Mapping[str, Any], like: Tensor) -> Tensor:
        if entry["use_pickle"]:
            raise ValueError("a pickled object, which is not loaded")
        meta = entry["tensor_meta"]
        sizes, strides = ([side["as_int"] for side in meta[key]] for key in ("sizes", "strides"))
        content = bytearray(archive.read(f"{root}/data/weights/{entry['path_name']}"))
        flat = torch.frombuffer(content, dtype=like.dtype) if content else torch.empty(0, dtype=like.dtype)
        return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"])
