"""Networks for fewer tasks than they were trained on: what the dropped tasks alone needed is cut out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class TaskLayer(nn.Module, ABC):
    """A layer whose weights are stacked over tasks."""

    @abstractmethod
    def keep_tasks(self, indices: Sequence[int]) -> None:
        """Forget the weights of all tasks but these; weights that tasks share stay."""


class TasksApart(nn.Module):
    """A stage whose tasks do not meet: a task's output needs its own features and weights alone."""


class OnlyTasks(nn.Module):
    """A stage that works on some tasks' features alone.

    Args:
        stage: what is done; its tasks must not meet.
        indices: of the tasks that are kept, of ``tasks``.
        tasks: T, of the features that come in.
    """

    def __init__(self, stage: TasksApart, indices: Sequence[int], tasks: int) -> None:
        super().__init__()
        cut_tasks(stage, indices)
        self.stage, self.tasks, self.indices = stage, tasks, list(indices)

    def narrow(self, indices: Sequence[int]) -> None:
        """Keep fewer of the tasks that are kept."""
        cut_tasks(self.stage, indices)
        self.indices = [self.indices[index] for index in indices]

    def forward(self, x_BTChw: Tensor, *rest: Any) -> Any:  # noqa: ANN401 - the stage's own arguments and result
        """Run the stage on (B, T, C, h, w); tokens (B, T, L, C) are chosen likewise, all else is handed on."""
        return self.stage(x_BTChw[:, self.indices], *(self._choose(item) for item in rest))

    def _choose(self, item: Any) -> Any:  # noqa: ANN401
        if isinstance(item, Tensor) and item.shape[1] == self.tasks:
            return item[:, self.indices]
        return item


def only_tasks(stage: TasksApart | OnlyTasks, indices: Sequence[int], tasks: int) -> OnlyTasks:
    """Return a stage that works on some of ``tasks`` tasks alone; one that does so already keeps fewer."""
    if isinstance(stage, OnlyTasks):
        stage.narrow(indices)
        return stage
    return OnlyTasks(stage, indices, tasks)


def cut_tasks(stage: nn.Module, indices: Sequence[int]) -> None:
    """Keep these tasks' weights in every layer of ``stage``."""
    for layer in list(stage.modules()):
        if isinstance(layer, TaskLayer):
            layer.keep_tasks(indices)


def cut_parameter(parameter: nn.Parameter, indices: Sequence[int], tasks: int | None = None) -> nn.Parameter:
    """Return a parameter stacked over ``tasks`` (None: its first axis) for fewer; one that tasks share is returned.

    Args:
        parameter: (T, ...), or (T * n, ...) with ``tasks`` = T.
        indices: of the tasks to keep.
        tasks: T.
    """
    tasks = parameter.shape[0] if tasks is None else tasks
    if tasks == 1:
        return parameter
    by_task = parameter.detach().reshape(tasks, -1, *parameter.shape[1:])
    values = by_task[torch.as_tensor(indices)].flatten(0, 1).clone()
    return nn.Parameter(values, requires_grad=parameter.requires_grad)
