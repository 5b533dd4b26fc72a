"""Export of a model as one graph, with normalisation and post-processing, checked against PyTorch."""

import importlib.util
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import timm.layers.padding
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mtlsi_net.core.commands import PHOTOS, command_line
from mtlsi_net.core.config import as_list, check_complete
from mtlsi_net.core.errors import UserError, choose
from mtlsi_net.core.logs import quiet
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.checkpoint import ONNX, PROGRAM
from mtlsi_net.inference.exported import ANOTHER, FACTS, MODEL
from mtlsi_net.inference.model import Model
from mtlsi_net.inference.model_card import describe_tasks
from mtlsi_net.inference.predict import load_model
from mtlsi_net.models.base import DenseNetwork
from mtlsi_net.models.layers.windows import WindowAttention
from mtlsi_net.models.weights import brief

log = logging.getLogger(__name__)

OPSET = 20
BATCH = 2
"""Batch size of the example that dynamic graphs are traced with: torch treats a batch of 1 as a constant."""
LEAST = 2
"""Fewest windows along a side of an exported graph: torch treats 1 as a constant, and its format refuses it."""
SUFFIXES = {"onnx": ONNX, "torch_export": PROGRAM, "safetensors": ""}
MOST_TERMS = 300
"""Most terms in the expression of a size in a graph; converting longer ones takes minutes."""


class Graph(nn.Module):
    """A model, on the CPU, as one function of the image alone."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return each task's post-processed values (B, C, H, W) of (B, 3, H, W) float32, RGB in [0, 1]."""
        outputs = self.model(image)
        return tuple(task.postprocess(outputs[name]) for name, task in self.model.tasks.items())


def export(cfg: DictConfig) -> Path:
    """Write ``cfg.ckpt`` as ``cfg.format``; return the file, or the folder of safetensors.

    Raises:
        UserError: an unknown format, a missing package, or a network that the format does not support.
    """
    check_complete(cfg)
    suffix = choose("format", str(cfg.format), SUFFIXES)
    for package in ("onnx", "onnxscript", "onnxruntime") if cfg.format == "onnx" else ():
        if importlib.util.find_spec(package) is None:
            raise UserError(f"format=onnx needs {package}; install it with pip install 'mtlsi-net[export]'")
    model = load_model(cfg)
    if not isinstance(model, Model):
        raise UserError(f"ckpt={cfg.ckpt} is a graph already; {ANOTHER}")
    sides = list(model.size) if cfg.size is None else as_list(cfg.size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(f"size={sides} is not valid; pass [height, width] in pixels")
    path = _destination(cfg, suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if cfg.format == "safetensors":
            model.save_pretrained(path)
        else:
            _write_graph(model, path, cfg, (sides[0], sides[1]))
    except OSError as error:
        raise UserError(f"out={path} cannot be written ({error.strerror or error}); choose another path") from None
    log.info("written: %s; predict with it: %s", path, command_line("predict", f"ckpt={path}", PHOTOS))
    return path


def _destination(cfg: DictConfig, suffix: str) -> Path:
    """Return the path to write, never a run's folder: ``cfg.out`` or the run's or model's folder name, with ``suffix``."""
    source = Path(cfg.ckpt).resolve()
    run = RunFolder(source) if source.is_dir() else RunFolder.of_checkpoint(source)
    path = Path(cfg.out or (source.stem if run is None else run.root.name) or "model")
    if not path.name.endswith(suffix):  # torch opens its own format only with its suffix
        path = path.with_name(f"{path.name}{suffix}")
    if path.resolve() == source:
        raise UserError(f"out={path} is the model itself; choose another path")
    RunFolder(path).refuse_trained("out")
    return path


def size_multiple(model: Model) -> int:
    """Return the number of which sizes must be multiples so that the network needs no padding."""
    if not isinstance(model.network, DenseNetwork):
        return 1
    canvas = model.network.canvas
    windows = [
        model.network.decoder_stride * m.window for m in model.network.modules() if isinstance(m, WindowAttention)
    ]
    return math.lcm(canvas.multiple, *windows)


def _write_graph(model: Model, path: Path, cfg: DictConfig, size: tuple[int, int]) -> None:
    multiple = size_multiple(model)
    takes = all(side % multiple == 0 and side >= LEAST * multiple for side in size)
    auto = (True, False) if takes else (False,)
    wanted = choose("dynamic", str(cfg.dynamic).lower(), {"auto": auto, "true": (True,), "false": (False,)})
    if not takes and cfg.dynamic == "auto":
        text = (
            "a graph of dynamic sizes would take multiples of %d from %d, which %dx%d is not: exporting this size only"
        )
        log.info(text, multiple, LEAST * multiple, *size)
    name = model.about.get("backbone") or type(model.network).__name__
    for attempt in wanted:
        try:
            _attempt(model, path, cfg, size, dynamic=attempt)
            return
        except (UserError, OSError):
            raise
        except Exception as error:  # whatever tracing, converting or running a backbone raises
            reason = brief(error)
            if attempt is wanted[-1]:
                remedy = "; dynamic=false exports one fixed size" if attempt else ""
                raise UserError(f"{path} was not written: {name} cannot be exported ({reason}){remedy}") from None
            log.warning("%s cannot be exported with dynamic sizes (%s); exporting %dx%d only", name, reason, *size)


def _attempt(model: Model, path: Path, cfg: DictConfig, size: tuple[int, int], *, dynamic: bool) -> None:
    """Trace, write and check one graph; what is written is removed if that fails."""
    log.info("tracing the network")
    program, facts = _trace(model, dynamic=dynamic, size=size)
    facts |= {
        "tasks": describe_tasks(model.tasks),
        "licences": model.about.get("licences", {}),
        MODEL: model.arguments(),
    }
    write, run = _FORMATS[cfg.format]
    log.info("converting to %s", cfg.format)
    try:
        write(program, path, list(model.tasks), facts)
        _check(model, path, run, facts, cfg.tolerance)
    except BaseException:
        for file in (path, path.with_name(f"{path.name}.data")):
            file.unlink(missing_ok=True)
        raise
    log.info("%s takes images of batch %s, height %s, width %s", path, facts["batch"], facts["height"], facts["width"])


def _trace(model: Model, *, dynamic: bool, size: tuple[int, int]) -> tuple[ExportedProgram, dict[str, Any]]:
    """Return the graph and the sizes it accepts."""
    multiple = size_multiple(model)
    facts: dict[str, Any] = {"input": "image: (B, 3, H, W) float32, RGB in [0, 1]"}
    if not dynamic:
        facts |= {"batch": 1, "height": size[0], "width": size[1]}
        example, shapes = torch.rand(1, 3, *size), None
    else:
        side = f"multiple of {multiple}, from {LEAST * multiple}"
        facts |= {"batch": "any", "height": side, "width": side}
        rows, columns = (max(LEAST, -(-side // multiple)) for side in size)
        rows += rows == columns  # torch would treat equal sides as one variable
        example = torch.rand(BATCH, 3, rows * multiple, columns * multiple)
        shapes = {"image": {0: Dim("batch"), 2: multiple * Dim("h", min=LEAST), 3: multiple * Dim("w", min=LEAST)}}
    strided = isinstance(model.network, DenseNetwork)  # its sizes are multiples of all strides
    with warnings.catch_warnings(), _constant_padding() if strided else nullcontext():
        warnings.simplefilter("ignore")
        program = torch.export.export(Graph(model).eval(), (example,), dynamic_shapes=shapes)
    _check_expressions(program)
    return program, facts | {"multiple": multiple if dynamic else 1, "least": LEAST if dynamic else 1}


@contextmanager
def _constant_padding() -> Iterator[None]:
    """Let timm's "same" padding be constant while a network is traced with dynamic sizes, which are multiples of its strides.

    timm computes it from the map's side: the expression of that side multiplies with every strided convolution, and each pass
    over the graph, above all onnxscript's optimiser, works on all of them again, for minutes.
    """
    computed = timm.layers.padding.get_same_padding

    def constant(x: Any, kernel_size: int, stride: int, dilation: int) -> Any:  # noqa: ANN401 - as timm's
        if isinstance(x, torch.SymInt):
            return max((kernel_size - 1) * dilation + 1 - stride, 0)
        return computed(x, kernel_size, stride, dilation)

    timm.layers.padding.get_same_padding = constant
    try:
        yield
    finally:
        timm.layers.padding.get_same_padding = computed


def _check_expressions(program: ExportedProgram) -> None:
    """Raise a ValueError if a size in the graph is so long an expression that its conversion would take minutes."""
    for node in program.graph.nodes:
        for side in getattr(node.meta.get("val"), "shape", ()):
            waiting, terms = [side.node.expr] if isinstance(side, torch.SymInt) else [], 0
            while waiting:
                waiting.extend(waiting.pop().args)
                terms += 1
                if terms > MOST_TERMS:
                    raise ValueError(f"a size in it is an expression of more than {MOST_TERMS} terms")


def _write_onnx(program: ExportedProgram, path: Path, names: Sequence[str], facts: Mapping[str, Any]) -> None:
    with warnings.catch_warnings(), quiet("onnxscript"), quiet("onnx_ir"):
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=["image"], output_names=list(names), verbose=False
        )
    assert converted is not None
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    converted.model.metadata_props.update(texts)
    converted.save(path)  # weights beyond the format's limit go to <name>.data beside it


def _run_onnx(path: Path, image: Tensor) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"image": image.numpy()}))


def _write_program(program: ExportedProgram, path: Path, names: Sequence[str], facts: Mapping[str, Any]) -> None:
    torch.export.save(program, path, extra_files={FACTS: json.dumps({"outputs": list(names), **facts})})


def _run_program(path: Path, image: Tensor) -> list[np.ndarray]:
    module = torch.export.load(path).module()
    with torch.no_grad():
        return [output.numpy() for output in module(image)]


_FORMATS = {"onnx": (_write_onnx, _run_onnx), "torch_export": (_write_program, _run_program)}


def _check(model: Model, path: Path, run: Any, facts: Mapping[str, Any], tolerance: float) -> None:  # noqa: ANN401
    """Compare the outputs of the written file with PyTorch's, at two sizes and batches if it is dynamic.

    A UserError if outputs differ by more than ``tolerance``, or classes in more than 0.1 % of the pixels.
    """
    multiple, graph = facts["multiple"], Graph(model).eval()
    shapes = [(1, 3, facts["height"], facts["width"])]
    if facts["batch"] == "any":
        shapes = [(1, 3, 2 * multiple, 3 * multiple), (3, 3, 3 * multiple, 2 * multiple)]
    largest = dict.fromkeys(model.tasks, 0.0)
    classes = {name for name, task in model.tasks.items() if task.target.kind == "classes"}
    for shape in shapes:
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = graph(image)
        for name, output, value in zip(model.tasks, run(path, image), expected, strict=True):
            reference = value.numpy()
            off = (output != reference).mean() if name in classes else np.abs(output - reference).max()
            largest[name] = float(np.maximum(largest[name], off))  # NaN stays
    described = (f"{n} {off:.1%} of pixels" if n in classes else f"{n} {off:.1e}" for n, off in largest.items())
    log.info("largest difference to PyTorch: %s", ", ".join(described))
    for name, off in largest.items():
        if not off <= (0.001 if name in classes else tolerance):  # NaN is not
            raise UserError(
                f"{path} was removed: {name} differs from PyTorch by {off:.2e}, more than tolerance={tolerance}"
            )
