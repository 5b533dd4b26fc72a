"""One LightningModule for every network and every set of tasks."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from mtlsi_net.core.errors import UserError, choose
from mtlsi_net.core.image_sizes import ImageSizes
from mtlsi_net.core.licences import licences_of
from mtlsi_net.core.types import Batch, Prediction, count_labels
from mtlsi_net.lit.non_finite import NonFiniteGuard
from mtlsi_net.lit.optim import Recipe
from mtlsi_net.lit.weighting import Weighting
from mtlsi_net.metrics.gain import skill_over_constant
from mtlsi_net.metrics.per_image import ImageSums
from mtlsi_net.models.layers.resizing import enlarge
from mtlsi_net.tasks.base import Confusion, Task
from mtlsi_net.tasks.metrics import ClassScores, Scores, TaskMetrics, postprocess

log = logging.getLogger(__name__)


class MultiTaskModule(L.LightningModule):
    """Trains a network on several tasks and scores it beside the constant prediction.

    Args:
        network: image and validity mask -> Prediction.
        tasks: name -> Task.
        weighting: the tasks' losses -> the scalar to minimise.
        recipe: optimiser and schedule.
        priors: name -> (K,) best constant raw output, from the training labels.
        config: the resolved configuration, kept in checkpoints.
        loss_norm: losses divide by the valid pixels of the ``device``'s micro-batch (the field's way), or of the whole
            step (``global``), over processes and accumulation.
        non_finite: at a loss or gradient that is not finite, ``stop``, or ``skip`` and count steps where it is the gradient.
    """

    def __init__(
        self,
        network: nn.Module,
        tasks: Mapping[str, Task],
        weighting: Weighting,
        recipe: Recipe,
        priors: Mapping[str, Tensor],
        config: Mapping[str, Any],
        loss_norm: str = "device",
        non_finite: str = "stop",
    ) -> None:
        super().__init__()
        self.guard = NonFiniteGuard(non_finite)
        self._step_taken = True
        self.norm_globally = choose("loss_norm", loss_norm, {"device": False, "global": True})
        self.network, self.tasks, self.weighting, self.recipe = network, dict(tasks), weighting, recipe
        self.priors, self.config = dict(priors), dict(config)
        for name, prior in self.priors.items():
            if name in self.tasks:
                self.tasks[name].set_prior(prior)
        self.inherited_terms: dict[str, str] = {}  # of the weights that training started from
        self._step_values: list[Tensor] = []  # to log, of the step's micro-batches
        self._last_batch: tuple[Batch, Tensor] | None = None  # and its losses, for a weighting that learns from steps
        self.stage = "val"
        self.scores: dict[str, Scores] = {}
        self.class_scores: dict[str, ClassScores] = {}
        self.confusions: dict[str, dict[str, Confusion]] = {}
        self.constant_scores: dict[str, Scores] = {}
        self.image_sums: dict[str, ImageSums] = {}
        self.estimates = True  # whether validations during training score slow metrics on a subset
        self.limited = False  # whether they see only a part of the images
        self.complete_scores: dict[int, Scores] = {}  # optimiser step -> scores of a validation that left nothing out
        self.last_validation: tuple[int, float] | None = None  # step and skill of the last one during training
        self._estimated: set[str] = set()  # stages whose constant scores are estimates
        self.validated_on: ImageSizes | None = None
        # No modules: running metric states are no part of a checkpoint.
        self._metrics = TaskMetrics({})
        self._constant_metrics = TaskMetrics({})

    def setup(self, stage: str) -> None:
        """Learn before training how large the validation images are; checkpoints record it, for prediction."""
        data = getattr(self.trainer, "datamodule", None)
        if stage == TrainerFn.FITTING and data is not None and self.trainer.is_global_zero:
            self.validated_on = data.validation_sizes()

    # -- training ---------------------------------------------------------------------------------------------------

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Return raw outputs for (B, 3, H, W) images in [0, 1]."""
        prediction: Prediction = self.network(image, valid)
        return prediction

    def losses(
        self, prediction: Prediction, targets: Mapping[str, Tensor], labelled: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], ...]:
        """Return the unweighted losses of the final and of the preliminary predictions, these summed over scales.

        ``labelled`` holds what they divide by, task -> (2,), see ``core.types.count_labels``; None: the batch's own.
        """

        def loss_of(name: str, output: Tensor) -> Tensor:
            counts = () if labelled is None else (labelled[name],)
            return self.tasks[name].loss(output, targets[name], *counts)

        final = {name: loss_of(name, prediction.final[name]) for name in self.tasks}
        scales = prediction.aux if self.weighting.aux else []
        strides = getattr(self.network, "aux_strides", ())
        aux_losses: dict[str, Tensor] = {}
        for name, output in (item for outputs in scales for item in outputs.items()):
            full = enlarge(output.float(), targets[name].shape[-2:], strides)
            loss = loss_of(name, full)
            aux_losses[name] = aux_losses[name] + loss if name in aux_losses else loss
        return final, aux_losses

    def _labelled(self, batch: Batch) -> dict[str, Tensor] | None:
        """Return each task's mean count of labels over all micro-batches of the step; None if losses need none."""
        if not self.norm_globally:
            return None
        own = batch.get("labelled") or {
            name: count_labels(batch["targets"][name], task.target.ignore) for name, task in self.tasks.items()
        }
        counts = torch.stack([own[name] for name in self.tasks]).to(self.device, torch.float32)
        mean = self._mean_over_processes(counts) / self.trainer.accumulate_grad_batches
        return dict(zip(self.tasks, mean, strict=True))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Let the guard remember what a step that is skipped must not change."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.guard.begin(self.network)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the total loss of one batch."""
        prediction = self(batch["image"], batch["valid"])
        final, aux = self.losses(prediction, batch["targets"], self._labelled(batch))
        losses = self.weighting.join(final, aux)
        balanced: Tensor = self.weighting(losses, list(self.network.parameters()))
        total = sum(prediction.regularisers.values(), balanced)
        self.guard.see({**final, **{f"{name} (preliminary)": loss for name, loss in aux.items()}}, total, batch["id"])
        self._last_batch = batch, self.weighting.stack(losses).detach()
        weights = torch.autograd.grad(total, list(losses.values()), retain_graph=True)
        values = {"train/loss": total}
        values |= {f"train/{name}/loss": loss for name, loss in final.items()}
        values |= {f"train/{name}/aux_loss": loss for name, loss in aux.items()}
        values |= {f"train/{name}/weight": weight for name, weight in zip(losses, weights, strict=True)}
        values |= {f"train/{name}": loss for name, loss in prediction.regularisers.items()}
        self._log_step(values, last=(batch_idx + 1) % self.trainer.accumulate_grad_batches == 0)
        return total

    def _log_step(self, values: Mapping[str, Tensor], last: bool) -> None:
        """Log means over the micro-batches of a step, of which this may be the ``last``, and over processes."""
        self._step_values.append(torch.stack([value.detach().float() for value in values.values()]))
        if last:
            mean = self._mean_over_processes(torch.stack(self._step_values).mean(0))
            self._step_values.clear()
            for name, value in zip(values, mean, strict=True):
                self.log(name, value, prog_bar=name == "train/loss")

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own union of types
        """Return optimiser and per-step schedule."""
        self.weighting.check_trainer(str(self.trainer.precision), self.trainer.world_size)
        max_steps = self.trainer.estimated_stepping_batches
        if max_steps == math.inf:
            raise UserError(
                "trainer.max_steps=-1 and trainer.max_epochs=-1 leave the learning rate's schedule without an end: set one"
            )
        self.recipe.check_network(self.network)
        more = self.weighting.parameter_groups()
        # Fused optimisers undo float16's scaling inside their step, after the gradient's norm is clipped.
        fused = self.trainer.precision != "16-mixed"
        optimizer, schedule = self.recipe.build(self.network, int(max_steps), more, fused=fused)
        if not fused and any(group.get("fused") for group in optimizer.param_groups):
            raise UserError(
                "optim.optimizer.fused=true clips float16's gradients while they are scaled: leave it out, or set "
                "trainer.precision=bf16-mixed"
            )
        for text in self.recipe.too_short(int(max_steps)):
            log.warning("%s", text)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Step, and let the weighting learn from it."""
        super().optimizer_step(*args, **kwargs)
        if not self._step_taken:
            return
        assert self._last_batch is not None, "a step follows a batch"
        batch, before = self._last_batch

        def again() -> Tensor:
            with torch.no_grad(), self.trainer.precision_plugin.train_step_context():
                prediction = self(batch["image"], batch["valid"])
                losses = self.weighting.join(*self.losses(prediction, batch["targets"], self._labelled(batch)))
            return self._mean_over_processes(self.weighting.stack(losses))

        self.weighting.after_step(self._mean_over_processes(before), again)

    def _mean_over_processes(self, value: Tensor) -> Tensor:
        if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
            return value
        mean: Tensor = self.trainer.strategy.reduce(value, reduce_op="mean")
        return mean

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002 - Lightning's signature; always by norm
    ) -> None:
        """Clip the gradient's norm; a non-finite one stops the run or is skipped, before it reaches the weights."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val or float("inf"))
        scaled = self.trainer.precision == "16-mixed"
        self._step_taken = self.guard.check(self.global_step, norm, self.network, parameters, scaled=scaled)
        if self.guard.skips:
            self.log("train/skipped_steps", float(self.guard.skipped))
        self.log("train/grad_norm", norm)

    # -- evaluation -------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Start new metrics: estimates during training; the constant prediction is scored once for each stage."""
        estimate = not self._scores_everything()
        known = self.stage in self.constant_scores and (estimate or self.stage not in self._estimated)
        self._metrics = TaskMetrics(self.tasks, self.device, estimate, keep_images=not estimate)
        self._constant_metrics = TaskMetrics({} if known else self.tasks, self.device, estimate)
        if not known:
            (self._estimated.add if estimate else self._estimated.discard)(self.stage)

    def _scores_everything(self) -> bool:
        """Return whether a validation leaves nothing out: so does the last step's, whose weights are the run's result."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return True
        last = self.trainer.global_step >= self.trainer.estimated_stepping_batches
        return not self.limited and (last or not self.estimates)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Update all metrics with one batch; it is empty in a process that has no image."""
        if not batch["id"]:
            return
        prediction = self(batch["image"], batch["valid"])
        self._metrics.update(postprocess(self.tasks, prediction.final), batch)
        unscored = self._constant_metrics.tasks
        constants = {name: self._constant(name, batch["targets"][name]) for name in unscored}
        self._constant_metrics.update(postprocess(unscored, constants), batch)

    def _constant(self, name: str, target: Tensor) -> Tensor:
        prior = self.priors[name].to(target.device)
        return prior[None, :, None, None].expand(target.shape[0], -1, *target.shape[-2:])

    def on_validation_epoch_end(self) -> None:
        """Compute and log all scores under the current stage's name."""
        if self._constant_metrics.tasks:
            self.constant_scores[self.stage] = self._constant_metrics.compute()
        scores = self._metrics.compute()
        self.scores[self.stage], self.class_scores[self.stage] = scores, self._metrics.compute_classes()
        self.confusions[self.stage] = self._metrics.compute_confusions()
        if self._metrics.keep_images:
            self.image_sums[self.stage] = self._metrics.image_sums()
        flat = {f"{self.stage}/{task}/{key}": value for task, values in scores.items() for key, value in values.items()}
        self.log_dict(flat)
        skill = self.skill(self.stage, estimate=True)
        self.log(f"{self.stage}/skill", skill, prog_bar=True)
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.last_validation = self.trainer.global_step, skill
            if self._scores_everything():
                self.complete_scores[self.trainer.global_step] = scores

    def skill(self, stage: str, estimate: bool = False) -> float:
        """Return the mean over tasks of the share of the constant prediction's error that the network removes.

        ``estimate`` takes what validation during training can tell, so that its steps compare with the final weights.
        """
        skills = []
        for name, task in self.tasks.items():
            ours, constant = self.scores[stage][name], self.constant_scores[stage][name]
            key = task.main_key(ours, estimate)
            skills.append(skill_over_constant(ours[key], constant[key], task.higher_is_better))
        return sum(skills) / len(skills)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what `evaluate` needs, the whole configuration and the priors; what `predict` needs; the weights' terms."""
        checkpoint["licences"] = licences_of(self.config) | self.inherited_terms
        checkpoint["validated_on"] = None if self.validated_on is None else self.validated_on.record()
        checkpoint["config"], checkpoint["priors"] = self.config, {k: v.cpu() for k, v in self.priors.items()}
        checkpoint["skipped_steps"] = self.guard.skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the terms of the weights that training once started from, and the number of skipped steps."""
        self.guard.skipped = checkpoint.get("skipped_steps", 0)  # checkpoints of earlier versions have none
        terms = checkpoint.get("licences") or {}
        self.inherited_terms = {part: text for part, text in terms.items() if part == "init_from"}
