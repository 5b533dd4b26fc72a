"""Task subsets of trained networks: parameters that only the dropped tasks use are removed."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor, nn


class TaskLayer(nn.Module):
    """A layer with one set of parameters per task.

    Attributes:
        per_task: names (dotted inside a submodule) of the attributes with one entry per task: tensors (T, ...) or
            (T * n, ...), or a ModuleList or ModuleDict of T modules.
        tasks: T; 1 where all tasks share the parameters.
    """

    per_task: ClassVar[tuple[str, ...]]
    tasks: int


class CrossTaskLayer(nn.Module):
    """A layer whose parameters relate tasks to each other: of use only to the same tasks in the same order.

    Attributes:
        between_tasks: whether its parameters do.
    """

    between_tasks: bool = True


class PerTaskStage(nn.Module):
    """A stage in which tasks do not interact: a task's output depends only on its own features and parameters."""

    def subset(self, indices: Sequence[int], tasks: int) -> "PerTaskStage":
        """Return the stage for these of ``tasks`` tasks; it still receives all tasks' features."""
        keep_parameters(self, indices)
        return TaskSubset(self, indices, tasks)


class TaskSubset(PerTaskStage):
    """A per-task stage that runs only on a subset of the tasks.

    Args:
        indices: of the tasks to keep, of ``tasks``.
        tasks: T of the incoming features.
    """

    def __init__(self, stage: PerTaskStage, indices: Sequence[int], tasks: int) -> None:
        super().__init__()
        self.stage, self.tasks, self.indices = stage, tasks, list(indices)

    def subset(self, indices: Sequence[int], tasks: int) -> Self:  # noqa: ARG002 - the features stay those of all tasks
        """Reduce the subset further."""
        keep_parameters(self, indices)
        self.indices = [self.indices[index] for index in indices]
        return self

    def forward(self, x_BTChw: Tensor, *arguments: Any) -> Any:  # noqa: ANN401 - the arguments and result of the stage
        """Run the stage on (B, T, C, h, w); tokens (B, T, L, C) are selected likewise, other arguments are passed unchanged."""
        return self.stage(x_BTChw[:, self.indices], *(self._select(item) for item in arguments))

    def _select(self, item: Any) -> Any:  # noqa: ANN401
        if isinstance(item, Tensor) and item.shape[1] == self.tasks:
            return item[:, self.indices]
        return item


def keep_parameters(stage: nn.Module, indices: Sequence[int]) -> None:
    """Keep these tasks' entries in every task layer of ``stage``; parameters that tasks share stay."""
    for layer in list(stage.modules()):
        if isinstance(layer, TaskLayer) and layer.tasks > 1:
            for name in layer.per_task:
                owner, _, attribute = name.rpartition(".")
                module = layer.get_submodule(owner)
                setattr(module, attribute, _entries(getattr(module, attribute), indices, layer.tasks))
            layer.tasks = len(indices)


def _entries(values: Any, indices: Sequence[int], tasks: int) -> Any:  # noqa: ANN401 - whatever ``per_task`` names
    if isinstance(values, nn.ModuleList):
        return nn.ModuleList(values[index] for index in indices)
    if isinstance(values, nn.ModuleDict):
        items = list(values.items())
        return nn.ModuleDict(dict(items[index] for index in indices))
    if values is None:  # a disabled bias
        return None
    kept = values.detach().unflatten(0, (tasks, -1))[list(indices)].flatten(0, 1)
    return nn.Parameter(kept, values.requires_grad) if isinstance(values, nn.Parameter) else kept
