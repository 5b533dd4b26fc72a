"""Start of a run: untrained, from trained weights, at a checkpoint of its own, or at one of the run that it extends."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from mtlsi_net.core.licences import in_words
from mtlsi_net.core.run_folder import RunFolder
from mtlsi_net.engine.checkpoint import without_downloads
from mtlsi_net.engine.extend import check_extension, check_resumable
from mtlsi_net.engine.init_from import initial_weights, start_from
from mtlsi_net.lit.origin import Origin
from mtlsi_net.models.base import Network
from mtlsi_net.models.transfer import Weights
from mtlsi_net.tasks.base import Task


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        origin: callback that records it.
        resume: checkpoint to continue from.
        parent: run that the checkpoint belongs to, if it is another.
        weights: of a new run.
    """

    origin: Origin
    resume: Path | None = None
    parent: RunFolder | None = None
    weights: Weights | None = None

    def network_config(self, cfg: DictConfig) -> DictConfig:
        """Return the configuration without pretrained weights that others would replace at once."""
        backbone = (cfg.get("backbone") or {}).get("name")
        same = self.weights is not None and backbone is not None and self.weights.backbone == backbone
        if self.resume is None and not same:
            return cfg
        plain = cfg.copy()
        without_downloads(plain)
        return plain

    def initialise(self, network: Network, tasks: Mapping[str, Task]) -> dict[str, str]:
        """Give a network the weights, record it, and return the terms that these carry along."""
        if self.weights is None:
            return {}
        self.origin.record |= start_from(network, self.weights, tasks)
        return {"init_from": in_words(self.weights.licences)}


def plan_start(cfg: DictConfig, resume: Path | None, parent: RunFolder | None) -> Start:
    """Return where the run starts; a UserError if its weights or checkpoint cannot be used."""
    if resume is None:
        return Start(Origin(), weights=initial_weights(cfg))
    if parent is None:
        check_resumable(resume)
        return Start(Origin(), resume)
    extends = check_extension(parent, resume, cfg.trainer.get("max_steps", -1))
    return Start(Origin({"extends": extends}), resume, parent)
