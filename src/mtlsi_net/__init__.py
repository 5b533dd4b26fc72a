"""MTLSI-Net: an experiment suite for multi-task dense prediction.

The names of ``__all__`` are the library: networks and their parts, tasks, metrics, and trained models. They are imported on
first use, so that commands answer ``--help`` quickly.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, for type checkers
    # isort: off
    from mtlsi_net.core.errors import InputError as InputError, UserError as UserError
    from mtlsi_net.core.types import Prediction as Prediction, TargetSpec as TargetSpec
    from mtlsi_net.engine.build import build_network as build_network, build_tasks as build_tasks
    from mtlsi_net.engine.init_from import init_from as init_from
    from mtlsi_net.inference.model import Model as Model, load as load
    from mtlsi_net.inference.result import Result as Result
    from mtlsi_net.metrics.boundary.metric import BoundaryFMeasure as BoundaryFMeasure
    from mtlsi_net.metrics.depth import DepthMetric as DepthMetric
    from mtlsi_net.metrics.gain import delta_m as delta_m
    from mtlsi_net.metrics.normals import NormalsMetric as NormalsMetric
    from mtlsi_net.metrics.saliency import SaliencyMetric as SaliencyMetric
    from mtlsi_net.metrics.segmentation import SegmentationMetric as SegmentationMetric
    from mtlsi_net.models.base import DenseNetwork as DenseNetwork, Network as Network
    from mtlsi_net.models.baselines.bridgenet_variant import BridgeNetVariant as BridgeNetVariant
    from mtlsi_net.models.baselines.invpt import InvPTNet as InvPTNet
    from mtlsi_net.models.baselines.mlore import MLoRENet as MLoRENet
    from mtlsi_net.models.baselines.mti_net_variant import MTINetVariant as MTINetVariant
    from mtlsi_net.models.baselines.shared_encoder import SharedEncoderNet as SharedEncoderNet
    from mtlsi_net.models.baselines.single_task import SingleTaskNet as SingleTaskNet
    from mtlsi_net.models.distiller import SemanticTokenDistiller as SemanticTokenDistiller
    from mtlsi_net.models.encoder import Encoder as Encoder, TimmEncoder as TimmEncoder
    from mtlsi_net.models.external import ExternalNetwork as ExternalNetwork
    from mtlsi_net.models.fusion import MultiScaleQueryFusion as MultiScaleQueryFusion
    from mtlsi_net.models.mtlsi import MTLSINet as MTLSINet
    from mtlsi_net.models.semantic_decoder import (
        CrossWindowBlock as CrossWindowBlock,
        SemanticDecoder as SemanticDecoder,
    )
    from mtlsi_net.models.transfer import Transfer as Transfer
    from mtlsi_net.tasks.base import Task as Task
    from mtlsi_net.tasks.boundary import BoundaryTask as BoundaryTask
    from mtlsi_net.tasks.depth import DepthTask as DepthTask
    from mtlsi_net.tasks.metrics import TaskMetrics as TaskMetrics
    from mtlsi_net.tasks.normals import NormalsTask as NormalsTask
    from mtlsi_net.tasks.saliency import SaliencyTask as SaliencyTask
    from mtlsi_net.tasks.semseg import HumanPartsTask as HumanPartsTask, SemsegTask as SemsegTask

_NAMES_IN = {
    "core.errors": ["InputError", "UserError"],
    "core.types": ["Prediction", "TargetSpec"],
    "engine.build": ["build_network", "build_tasks"],
    "engine.init_from": ["init_from"],
    "inference.model": ["Model", "load"],
    "inference.result": ["Result"],
    "metrics.boundary.metric": ["BoundaryFMeasure"],
    "metrics.depth": ["DepthMetric"],
    "metrics.gain": ["delta_m"],
    "metrics.normals": ["NormalsMetric"],
    "metrics.saliency": ["SaliencyMetric"],
    "metrics.segmentation": ["SegmentationMetric"],
    "models.base": ["DenseNetwork", "Network"],
    "models.baselines.bridgenet_variant": ["BridgeNetVariant"],
    "models.baselines.invpt": ["InvPTNet"],
    "models.baselines.mlore": ["MLoRENet"],
    "models.baselines.mti_net_variant": ["MTINetVariant"],
    "models.baselines.shared_encoder": ["SharedEncoderNet"],
    "models.baselines.single_task": ["SingleTaskNet"],
    "models.distiller": ["SemanticTokenDistiller"],
    "models.encoder": ["Encoder", "TimmEncoder"],
    "models.external": ["ExternalNetwork"],
    "models.fusion": ["MultiScaleQueryFusion"],
    "models.mtlsi": ["MTLSINet"],
    "models.semantic_decoder": ["CrossWindowBlock", "SemanticDecoder"],
    "models.transfer": ["Transfer"],
    "tasks.base": ["Task"],
    "tasks.boundary": ["BoundaryTask"],
    "tasks.depth": ["DepthTask"],
    "tasks.metrics": ["TaskMetrics"],
    "tasks.normals": ["NormalsTask"],
    "tasks.saliency": ["SaliencyTask"],
    "tasks.semseg": ["HumanPartsTask", "SemsegTask"],
}
"""Module -> names of the library in it."""

_HOME_OF = {name: f"mtlsi_net.{module}" for module, names in _NAMES_IN.items() for name in names}

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
