"""MTLSI-Net: an experiment suite for multi-task dense prediction.

The names of ``__all__`` are the library: networks and their parts, tasks, metrics, and trained models. They are imported when
asked for, so that commands answer ``--help`` at once.
"""

import ast
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlsi_net.core.errors import InputError as InputError
    from mtlsi_net.core.errors import UserError as UserError
    from mtlsi_net.core.types import Prediction as Prediction
    from mtlsi_net.core.types import TargetSpec as TargetSpec
    from mtlsi_net.engine.build import build_network as build_network
    from mtlsi_net.engine.build import build_tasks as build_tasks
    from mtlsi_net.inference.model import Model as Model
    from mtlsi_net.inference.model import load as load
    from mtlsi_net.inference.result import Result as Result
    from mtlsi_net.metrics.boundary.metric import BoundaryFMeasure as BoundaryFMeasure
    from mtlsi_net.metrics.depth import DepthMetric as DepthMetric
    from mtlsi_net.metrics.gain import delta_m as delta_m
    from mtlsi_net.metrics.normals import NormalsMetric as NormalsMetric
    from mtlsi_net.metrics.saliency import SaliencyMetric as SaliencyMetric
    from mtlsi_net.metrics.segmentation import SegmentationMetric as SegmentationMetric
    from mtlsi_net.models.base import DenseNetwork as DenseNetwork
    from mtlsi_net.models.base import Network as Network
    from mtlsi_net.models.baselines.bridgenet_variant import BridgeNetVariant as BridgeNetVariant
    from mtlsi_net.models.baselines.invpt import InvPTNet as InvPTNet
    from mtlsi_net.models.baselines.mlore import MLoRENet as MLoRENet
    from mtlsi_net.models.baselines.mti_net_variant import MTINetVariant as MTINetVariant
    from mtlsi_net.models.baselines.shared_encoder import SharedEncoderNet as SharedEncoderNet
    from mtlsi_net.models.baselines.single_task import SingleTaskNet as SingleTaskNet
    from mtlsi_net.models.distiller import SemanticTokenDistiller as SemanticTokenDistiller
    from mtlsi_net.models.encoder import Encoder as Encoder
    from mtlsi_net.models.encoder import TimmEncoder as TimmEncoder
    from mtlsi_net.models.external import ExternalNetwork as ExternalNetwork
    from mtlsi_net.models.fusion import MultiScaleQueryFusion as MultiScaleQueryFusion
    from mtlsi_net.models.mtlsi import MTLSINet as MTLSINet
    from mtlsi_net.models.semantic_decoder import CrossWindowBlock as CrossWindowBlock
    from mtlsi_net.models.semantic_decoder import SemanticDecoder as SemanticDecoder
    from mtlsi_net.tasks.base import Task as Task
    from mtlsi_net.tasks.boundary import BoundaryTask as BoundaryTask
    from mtlsi_net.tasks.depth import DepthTask as DepthTask
    from mtlsi_net.tasks.metrics import TaskMetrics as TaskMetrics
    from mtlsi_net.tasks.normals import NormalsTask as NormalsTask
    from mtlsi_net.tasks.saliency import SaliencyTask as SaliencyTask
    from mtlsi_net.tasks.semseg import HumanPartsTask as HumanPartsTask
    from mtlsi_net.tasks.semseg import SemsegTask as SemsegTask

_HOME_OF = {
    alias.name: str(node.module)
    for node in ast.walk(ast.parse(Path(__file__).read_text()))
    if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mtlsi_net.")
    for alias in node.names
}
"""Name of the library -> its module, as the imports above have it: the only list of them."""

__all__ = sorted(_HOME_OF)

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the package index for a newer version


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    """Import a name of ``__all__`` when it is asked for."""
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the library."""
    return [*globals(), *__all__]
