"""Trained model: one object that loads, predicts, and can be saved and shared."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin
from omegaconf import OmegaConf
from torch import Tensor, nn

from mtlsi_net.core.config import as_list
from mtlsi_net.core.errors import UserError, choose
from mtlsi_net.core.image_sizes import ImageSizes
from mtlsi_net.core.logs import quiet
from mtlsi_net.core.renamed import modernize
from mtlsi_net.core.resolvers import choose_precision
from mtlsi_net.data.images import Pixels
from mtlsi_net.data.transforms import IMAGENET_MEAN
from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.engine.checkpoint import ONNX, PROGRAM, find_checkpoint, load_checkpoint, load_weights, without_downloads
from mtlsi_net.engine.init_from import CONFIG
from mtlsi_net.engine.init_from import MODEL as WEIGHTS
from mtlsi_net.engine.trust import check_targets, trusting
from mtlsi_net.inference.exported import OnnxModel, Program
from mtlsi_net.inference.model_card import describe_checkpoint, model_card
from mtlsi_net.inference.predictor import Predictor
from mtlsi_net.inference.result import Result, TaskResult
from mtlsi_net.inference.scale import AS_EVALUATED, view_scale
from mtlsi_net.inference.tta import predict_tta
from mtlsi_net.inference.views import Maps, Viewing
from mtlsi_net.models.weights import brief

log = logging.getLogger(__name__)

BUILT_FROM = ("model", "backbone", "tasks")
"""Parts of a run's configuration that define its network."""


class Model(Predictor, nn.Module, PyTorchModelHubMixin):
    """A network with its tasks: what ``mtlsi_net.load`` returns. Saved by ``save_pretrained``, shared by ``push_to_hub``.

    Args:
        model: configuration of the network, as ``config.yaml`` of a run has it.
        backbone: configuration of its encoder; None for a network with a built-in one.
        tasks: configurations of its tasks.
        order: names of all tasks, in the order of the weights; None: the order of ``tasks``, which JSON does not guarantee.
        size: (height, width) of the training images.
        scale: factor by which training images were reduced on loading.
        pad_color: mean RGB in [0, 1].
        kept: tasks that the weights contain, in the order of ``tasks``; None: all.
        about: its origin, scores and licences; see ``model_card.describe_checkpoint``.
        evaluated: sizes of the images that it was scored on, see ``ImageSizes.record``; None if they are not known.

    Attributes:
        trained: names of all tasks that the network was trained on.

    Raises:
        UserError: the configuration names code outside this suite, see ``engine.trust``.
    """

    def __init__(
        self,
        model: dict[str, Any],
        backbone: dict[str, Any] | None,
        tasks: dict[str, Any],
        size: list[int],
        order: list[str] | None = None,
        scale: float = 1.0,
        pad_color: list[float] | None = None,
        kept: list[str] | None = None,
        about: dict[str, Any] | None = None,
        evaluated: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        parts = modernize(
            {"model": model, "backbone": backbone, "tasks": {name: tasks[name] for name in order or tasks}}
        )
        check_targets(parts, "the model's configuration")
        cfg = OmegaConf.create(parts)
        without_downloads(cfg)
        self.size, self.scale = (size[0], size[1]), scale
        self.pad_color = tuple(pad_color or IMAGENET_MEAN)
        self.about = about or {}
        self.evaluated = None if evaluated is None else ImageSizes.load(evaluated)
        self.tasks = build_tasks(cfg)
        with quiet("mtlsi_net.models.encoder"):  # the weights are loaded afterwards
            self.network = build_network(cfg, self.tasks)
        self.trained = list(self.tasks)
        self.autocast: torch.dtype | None = None
        self._warned = False
        if kept is not None:
            self.keep_tasks(kept)
        self.eval()

    def keep_tasks(self, names: Sequence[str]) -> None:
        """Drop all tasks except ``names`` (at least one) and their layers; the results of the kept tasks do not change."""
        for name in names:
            choose("tasks", name, self.tasks)
        kept = [name for name in self.tasks if name in names]
        if not kept:
            raise UserError("tasks=[] leaves nothing to predict; name at least one task")
        if len(kept) < len(self.tasks):
            self.network.keep_tasks(kept)
        self.tasks = {name: self.tasks[name] for name in kept}
        self.network.eval()
        self._hub_mixin_config = {**self._hub_mixin_config, "kept": kept}  # type: ignore[dict-item]

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make a model like this, except for its weights; JSON holds them."""
        given: dict[str, Any] = {"backbone": None, "scale": 1.0, "pad_color": None, "about": None, "evaluated": None}
        return {**given, **self._hub_mixin_config, "order": self.trained, "kept": list(self.tasks)}  # type: ignore[dict-item]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Maps:
        """Return task -> raw outputs (B, K, H, W) of (B, 3, H, W) images in [0, 1]; see ``core.types.Prediction.final``."""
        final = self.network(image, valid).final
        return {name: final[name] for name in self.tasks}

    @torch.no_grad()
    def raw(self, image: Tensor, valid: Tensor) -> Maps:
        """Return ``forward`` in float32, computed on the model's device in its precision."""
        kind = self.device.type
        with torch.autocast(kind, self.autocast, enabled=self.autocast is not None):
            outputs = self(image.to(self.device), valid.to(self.device))
        return {name: y.float() for name, y in outputs.items()}

    def predict_many(self, images: Sequence[Pixels], viewing: Viewing) -> list[Result]:
        """Predict for images (H, W, 3) of one size, whole ones in one batch."""
        scale = view_scale(self, images[0].shape[:2], viewing.size)
        if scale.words != AS_EVALUATED and self.evaluated is None and viewing.size is None and not self._warned:
            self._warned = True
            log.warning(
                "the model does not record the size of the images that it was scored on (an earlier version wrote it): images "
                "larger than its training crops, %dx%d, are reduced to them; size=original or size=[H,W] changes that",
                *self.size,
            )
        values = predict_tta(self, np.stack(images), viewing)
        words = scale.words + (", and in windows" if viewing.mode == "sliding" and scale.zoom > 1 else "")
        return [
            Result(image, {name: TaskResult(self.tasks[name], value[name]) for name in self.tasks}, words)
            for image, value in zip(images, values, strict=True)
        ]

    @classmethod
    def _from_pretrained(cls, **options: Any) -> "Model":  # noqa: ANN401 - the mixin's signature
        """Load strictly: a missing weight is an error."""
        with redirect_stdout(None):  # the mixin prints where it loads from
            return super()._from_pretrained(**{**options, "strict": True})

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:  # noqa: ANN401, ARG002 - the mixin's signature
        """Return the card: tasks, scores, origin and licences."""
        data = ModelCardData(
            library_name="mtlsi-net",
            pipeline_tag="image-segmentation",
            tags=["multi-task", "dense-prediction", *self.tasks],
            license="other",
            license_name="see-below",
        )
        return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{model_card(self.about, self.tasks)}")


def load(
    path: str | Path,
    tasks: Sequence[str] | None = None,
    device: str | torch.device = "auto",
    precision: str = "auto",
    trust: Sequence[str] = (),
) -> Model | OnnxModel:
    """Return a trained model, ready to predict; an ``OnnxModel`` of an exported ONNX graph.

    Args:
        path: a checkpoint, a run folder (its last checkpoint), a folder that ``save_pretrained`` wrote, or a file that
            ``export`` wrote, ``.onnx`` or ``.pt2``.
        tasks: tasks to keep; the decoders and heads of the others are dropped. None: all.
        device: ``auto`` is the first GPU if there is one, else the CPU.
        precision: ``auto`` is bfloat16 on GPUs that support it, else float32; also ``32-true`` and ``bf16-mixed``.
        trust: other packages whose classes the file may name; their code is run.

    Raises:
        UserError: a missing, damaged, incompatible or foreign file, or tasks that it does not have.

    Example:
        >>> import numpy as np, tempfile
        >>> import mtlsi_net
        >>> network = {"_target_": "mtlsi_net.models.mtlsi.MTLSINet", "_partial_": True, "width": 32, "head_dim": 32}
        >>> backbone = {"_target_": "mtlsi_net.models.encoder.TimmEncoder", "name": "test_convnext", "pretrained": False}
        >>> depth = {"_target_": "mtlsi_net.tasks.depth.DepthTask"}
        >>> model = mtlsi_net.Model(network, backbone, {"depth": depth}, size=[64, 96])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_pretrained(folder)
        ...     model = mtlsi_net.load(folder, device="cpu")
        >>> result = model.predict(np.zeros((50, 70, 3), np.uint8))
        >>> {name: tuple(task_result.value.shape) for name, task_result in result.items()}
        {'depth': (1, 50, 70)}
    """
    path = Path(path)
    with trusting(as_list(trust)):
        model = OnnxModel(path, device, precision) if _is(path, ONNX) else _load_network(path)
    if tasks is not None:
        model.keep_tasks(as_list(tasks))
    if isinstance(model, Model):
        _place(model, device, precision)
    return model


def _is(path: Path, suffix: str) -> bool:
    return path.suffix == suffix and not path.is_dir()


def _load_network(path: Path) -> Model:
    if _is(path, PROGRAM):
        return _load_program(path)
    return _load_folder(path) if (path / CONFIG).is_file() else _load_checkpoint(find_checkpoint(path))


def _place(model: Model, device: str | torch.device, precision: str) -> None:
    """Move a model to its device, and choose its precision."""
    gpu = torch.cuda.is_available()
    try:
        model.to(("cuda" if gpu else "cpu") if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={device} cannot be used ({str(error).splitlines()[0]})") from None
    chosen = choose_precision(precision, "gpu" if model.device.type == "cuda" else "cpu")
    model.autocast = choose("precision", chosen, {"32-true": None, "bf16-mixed": torch.bfloat16})


def _load_checkpoint(path: Path) -> Model:
    checkpoint = load_checkpoint(path)
    run: Mapping[str, Any] = checkpoint["config"]
    data = run["data"]
    if "size" not in data:
        raise UserError(f"checkpoint {path} does not state the size of its training images (data.size)")
    parts = {key: run.get(key) for key in BUILT_FROM}
    for part in ("backbone", "model"):
        if "weights_file" in (parts[part] or {}):
            parts[part] = {**parts[part], "weights_file": None}  # type: ignore[dict-item]
    model = Model(
        **parts,  # type: ignore[arg-type]
        size=[int(side) for side in data["size"]],
        scale=float(data.get("scale", 1.0)),
        order=list(run["tasks"]),
        pad_color=list(data.get("pad_color") or IMAGENET_MEAN),
        about=describe_checkpoint(path, checkpoint),
        evaluated=checkpoint.get("validated_on"),
    )
    state, prefix = checkpoint["state_dict"], "network."
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    load_weights(model.network, weights, f"checkpoint {path}")
    return model


def _load_folder(path: Path) -> Model:
    try:
        return Model.from_pretrained(path, local_files_only=True)
    except UserError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise UserError(
            f"{path} cannot be loaded ({brief(error)}); it must contain {CONFIG} and {WEIGHTS} from save_pretrained"
        ) from None


def _load_program(path: Path) -> Model:
    program = Program(path)
    try:
        model = Model(**program.arguments)
    except UserError:
        raise
    except Exception as error:  # a damaged file may hold anything
        raise UserError(f"{path}: its metadata is damaged ({brief(error)}); export it again") from None
    load_weights(model, program.weights(model.state_dict()), str(path))
    log.info("%s: the network is built from its configuration and weights; the graph is not run", path)
    return model
