"""One graph with normalisation and post-processing inside, for programs without this suite, checked against PyTorch."""

import importlib.util
import json
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mtlsi_net.models.layers.windows import WindowAttention
from mtlsi_net.models.network import DenseNetwork
from mtlsi_net.prediction.about import describe_tasks
from mtlsi_net.prediction.command import keep
from mtlsi_net.prediction.model import Model, load
from mtlsi_net.utils.config_checks import as_list, check_complete
from mtlsi_net.utils.errors import UserError, choose
from mtlsi_net.utils.licences import in_words
from mtlsi_net.utils.logs import quiet
from mtlsi_net.utils.run_folder import RunFolder
from mtlsi_net.utils.weights import brief

log = logging.getLogger(__name__)

OPSET = 20
BATCH = 2
"""Of the example that dynamic graphs are traced with: a batch of one would be taken for a constant."""
LARGEST_FILE = 1_900_000_000
"""Bytes of weights that an ONNX file holds itself (its format ends at 2 GiB); more lie in a file beside it."""
LEAST = 2
"""Windows along a side of an exported graph: torch takes a single one for a constant, and its format refuses it."""
SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ""}


class Graph(nn.Module):
    """A model as one function of the image alone.

    Args:
        model: on the CPU.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return each task's post-processed values (B, C, H, W), in the order of the tasks.

        Args:
            image: (B, 3, H, W) float32, RGB in [0, 1].
        """
        outputs = self.model(image)
        return tuple(task.postprocess(outputs[name]) for name, task in self.model.tasks.items())


def export(cfg: DictConfig) -> Path:
    """Write ``cfg.ckpt`` as ``cfg.format``; return the file, or the folder of safetensors.

    Raises:
        UserError: what cannot be loaded, exported or written, or a graph that computes something else.
    """
    check_complete(cfg)
    suffix = choose("format", str(cfg.format), SUFFIXES)
    if cfg.format == "onnx":
        _check_onnx()
    model = load(cfg.ckpt, None, "cpu", "32-true", cfg.trust)
    keep(model, cfg.keep)
    size = _fixed_size(model, cfg.size)
    path = Path(_name(cfg.ckpt) if cfg.out is None else cfg.out)
    if not path.name.endswith(suffix):  # torch opens its own format under no other name
        path = path.with_name(f"{path.name}{suffix}")
    _check_place(path, Path(cfg.ckpt))
    log.info("licences: %s", in_words(model.about.get("licences", {})))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if cfg.format == "safetensors":
            model.save_pretrained(path)
        else:
            _write_graph(model, path, str(cfg.format), str(cfg.dynamic).lower(), size, cfg.tolerance)
    except OSError as error:
        raise UserError(f"out={path} cannot be written ({error.strerror or error}); choose another place") from None
    log.info("written: %s", path)
    return path


def _check_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"format=onnx needs {package}: pip install 'mtlsi-net[export]'")


def _name(ckpt: str) -> str:
    """Return a name for what comes out: that of the run folder, or of the folder itself."""
    path = Path(ckpt).resolve()
    return (path if path.is_dir() else path.parent.parent).name or "model"


def _check_place(path: Path, source: Path) -> None:
    """Refuse to write over the model itself, or into a run's folder.

    Raises:
        UserError: ``path`` is such a place.
    """
    if path.resolve() == source.resolve() or RunFolder(path).config.is_file():
        raise UserError(f"out={path} is a trained model's own folder; give another")


def _fixed_size(model: Model, size: Sequence[int] | None) -> tuple[int, int]:
    sides = list(model.size) if size is None else as_list(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(f"size={sides}: give [height, width] in pixels")
    return sides[0], sides[1]


def size_multiple(model: Model) -> int:
    """Return what sizes must be multiples of so that nothing in the network depends on how they are padded."""
    if not isinstance(model.network, DenseNetwork):
        return 1
    canvas = model.network.canvas
    windows = [canvas.stride * m.window for m in model.network.modules() if isinstance(m, WindowAttention)]
    return math.lcm(canvas.multiple, *windows)


def _write_graph(model: Model, path: Path, kind: str, dynamic: str, size: tuple[int, int], tolerance: float) -> None:
    wanted = choose("dynamic", dynamic, {"auto": (True, False), "true": (True,), "false": (False,)})
    name = model.about.get("backbone") or type(model.network).__name__
    for attempt in wanted:
        try:
            program, facts = _trace(model, dynamic=attempt, size=size)
            break
        except Exception as error:  # whatever tracing a backbone raises
            reason = brief(error)
            if attempt is wanted[-1]:
                remedy = "; dynamic=false exports one fixed size" if attempt else ""
                raise UserError(f"{path} was not written: {name} cannot be exported ({reason}){remedy}") from None
            log.warning("%s cannot be exported for any size (%s): for %dx%d alone", name, reason, *size)
    facts |= {"tasks": describe_tasks(model.tasks), "licences": model.about.get("licences", {})}
    write, run = _KINDS[kind]
    write(program, path, list(model.tasks), facts)
    _check(model, path, run, facts, tolerance)


def _trace(model: Model, *, dynamic: bool, size: tuple[int, int]) -> tuple[ExportedProgram, dict[str, Any]]:
    """Return the graph and what sizes it takes."""
    multiple = size_multiple(model)
    facts: dict[str, Any] = {"input": "image: (B, 3, H, W) float32, RGB in [0, 1]"}
    if not dynamic:
        facts |= {"batch": 1, "height": size[0], "width": size[1]}
        example, shapes = torch.rand(1, 3, *size), None
    else:
        side = f"multiple of {multiple}, from {LEAST * multiple}"
        facts |= {"batch": "any", "height": side, "width": side}
        rows, columns = (max(LEAST, -(-side // multiple)) for side in size)
        rows += rows == columns  # equal sides would be taken for one number
        example = torch.rand(BATCH, 3, rows * multiple, columns * multiple)
        shapes = {"image": {0: Dim("batch"), 2: multiple * Dim("h", min=LEAST), 3: multiple * Dim("w", min=LEAST)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Graph(model).eval(), (example,), dynamic_shapes=shapes)
    return program, facts | {"multiple": multiple if dynamic else 1}


def _write_onnx(program: ExportedProgram, path: Path, names: Sequence[str], facts: Mapping[str, Any]) -> None:
    import onnx

    with warnings.catch_warnings(), quiet("onnxscript"), quiet("onnx_ir"):
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=["image"], output_names=list(names), verbose=False
        )
    assert converted is not None
    proto = converted.model_proto
    for key, value in facts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    weights = sum(p.numel() * p.element_size() for p in [*program.parameters(), *program.buffers()])
    large = weights > LARGEST_FILE
    _data_file(path).unlink(missing_ok=True)  # onnx would append to it
    onnx.save(proto, path, save_as_external_data=large, location=_data_file(path).name if large else None)


def _data_file(path: Path) -> Path:
    """Return where an ONNX file that is too large for its format has its weights."""
    return path.with_name(f"{path.name}.data")


def _run_onnx(path: Path, image: Tensor) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"image": image.numpy()}))


def _write_program(program: ExportedProgram, path: Path, names: Sequence[str], facts: Mapping[str, Any]) -> None:
    torch.export.save(program, path, extra_files={"about.json": json.dumps({"outputs": list(names), **facts})})


def _run_program(path: Path, image: Tensor) -> list[np.ndarray]:
    module = torch.export.load(path).module()
    with torch.no_grad():
        return [output.numpy() for output in module(image)]


_KINDS = {"onnx": (_write_onnx, _run_onnx), "torch_export": (_write_program, _run_program)}


def _check(model: Model, path: Path, run: Any, facts: Mapping[str, Any], tolerance: float) -> None:  # noqa: ANN401
    """Compare what the written file computes with PyTorch, at two sizes and batches where it takes any.

    Raises:
        UserError: it differs by more than ``tolerance``, or a class on more than one pixel of a thousand.
    """
    multiple, graph = facts["multiple"], Graph(model).eval()
    shapes = [(1, 3, facts["height"], facts["width"])]
    if facts["batch"] == "any":
        shapes = [(1, 3, 2 * multiple, 3 * multiple), (3, 3, 3 * multiple, 2 * multiple)]
    largest = dict.fromkeys(model.tasks, 0.0)
    for shape in shapes:
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = graph(image)
        for (name, task), found, value in zip(model.tasks.items(), run(path, image), expected, strict=True):
            ours = value.numpy()
            classes = task.target.kind == "classes"
            off = float((found != ours).mean()) if classes else float(np.abs(found - ours).max())
            largest[name] = float(np.maximum(largest[name], off))  # NaN stays
    described = ", ".join(
        f"{name} {off:.1%} of pixels" if model.tasks[name].target.kind == "classes" else f"{name} {off:.1e}"
        for name, off in largest.items()
    )
    log.info("largest difference to PyTorch: %s", described)
    for name, off in largest.items():
        if not off <= (0.001 if model.tasks[name].target.kind == "classes" else tolerance):  # NaN is not
            for file in (path, _data_file(path)):
                file.unlink(missing_ok=True)
            raise UserError(
                f"{path} was removed: {name} differs from PyTorch by {off:.2e}, more than tolerance={tolerance}"
            )
