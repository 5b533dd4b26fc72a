"""Transfer of trained weights into a network that may differ from theirs in tasks, classes, decoder and image size."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

from mtlsi_net.core.errors import InputError, shown
from mtlsi_net.core.timm_library import timm
from mtlsi_net.models.base import Network
from mtlsi_net.models.heads import OutputLayers
from mtlsi_net.models.layers.subset import CrossTaskLayer, TaskLayer
from mtlsi_net.models.padding import Canvas
from mtlsi_net.models.preliminary import Feedback

Labels = tuple[str, tuple[str, ...] | None]
"""What a task's outputs mean: the name of its class, and the names of its classes (None: not known)."""

REMOVED = ("", "network.", "module.", "module.network.", "model.")
ADDED = ("", "encoder.body.", "encoder.", "model.")
COPIES = "encoder.copies."
EVERY = "*"
"""In place of a task's name: a parameter with an entry for each task."""


@dataclass(frozen=True)
class Weights:
    """Trained weights, and what is known of the network that they come from.

    Attributes:
        tensors: name -> values.
        origin: what messages call them.
        tasks: in the order of the weights; empty if not known.
        kept: tasks that a reduced network still has, in the order of the weights; ``tasks`` if it has all.
        labels: of each task, as far as known.
        size: (height, width) that position embeddings were made for.
        backbone: name of the encoder.
        licences: terms that they carry along.
    """

    tensors: Mapping[str, Tensor]
    origin: str
    tasks: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    labels: Mapping[str, Labels] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    backbone: str | None = None
    licences: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Transfer:
    """What became of trained weights in another network; layers by name, those of one task with the task in brackets.

    Attributes:
        origin: of the weights.
        loaded: parameters of the network that have trained values.
        parameters: all of the network.
        resized: layers whose values were interpolated to another image or window size.
        fresh: layers that keep the network's initial values.
        unused: layers of the weights that the network does not have, or has in another shape.
    """

    origin: str
    loaded: int
    parameters: int
    resized: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """Return all of it in one line."""
        parts = [f"{self.loaded / 1e6:.2f} of {self.parameters / 1e6:.2f} M parameters from {self.origin}"]
        for what, layers in {"resized": self.resized, "fresh": self.fresh, "unused": self.unused}.items():
            if layers:
                parts.append(f"{what}: {', '.join(layers)}")
        return "; ".join(parts)


def transfer_weights(network: Network, weights: Weights, labels: Mapping[str, Labels] | None = None) -> Transfer:
    """Give a network, in place, all weights that fit it, and say which do not.

    Layers are matched by name; weights of one task by the task's name, whatever its place among the tasks. What has another
    shape, belongs to another task, or gives out other classes stays as it is. Position embeddings are interpolated.

    Args:
        network: changed in place.
        weights: to take.
        labels: of the network's tasks; None: those of the weights.

    Raises:
        InputError: nothing fits, or values are not finite.
    """
    move = _Move(network, weights, labels)
    with torch.no_grad():
        for key, value in move.own.items():
            move.take(key, value)
    if not move.loaded:
        raise InputError(
            f"{weights.origin} matches nothing in this network: no layer has the same name, shape and task. It holds "
            f"{shown(list(weights.tensors)[:3])}; the network has {shown(list(move.own)[:3])}"
        )
    network.load_state_dict(move.own, strict=False)  # all but the statistics of images
    return move.result()


class _Move:
    """The transfer under way: ``own`` holds the network's values, which ``take`` replaces.

    A key's ``place`` is the task that it belongs to (``EVERY``: it has an entry for each), and the weights' key for it.
    """

    def __init__(self, network: Network, weights: Weights, labels: Mapping[str, Labels] | None) -> None:
        self.weights, self.names = weights, tuple(network.task_names)
        self.modules = dict(network.named_modules())
        canvases = [name for name, module in self.modules.items() if isinstance(module, Canvas)]
        self.statistics = {f"{name}.{part}" for name in canvases for part in ("mean", "std")}
        state = network.state_dict()
        self.own = {key: value.clone() for key, value in state.items() if key not in self.statistics}
        self.counted = {key for key, _ in network.named_parameters()}
        self.source = _renamed(weights, self.own)
        self.theirs = weights.tasks or self.names
        self.kept = weights.kept or self.theirs
        self.labels = dict(labels) if labels is not None else {name: self._their_labels(name) for name in self.names}
        self.places = dict(self._places())
        self.crossing = [name for name, m in self.modules.items() if isinstance(m, CrossTaskLayer) and m.between_tasks]
        self.meaning = [name for name, m in self.modules.items() if isinstance(m, OutputLayers | Feedback)]
        self.loaded = 0
        self.resized: list[str] = []
        self.fresh: dict[str, set[str]] = {"": set(), **{name: set() for name in self.names}}
        self.used: set[str] = set()

    # -- which tasks are the same ----------------------------------------------------------------------------------

    def _their_labels(self, name: str) -> Labels:
        return self.weights.labels.get(name, ("", None))

    def same_task(self, name: str) -> bool:
        """Whether the weights have this task."""
        theirs, own = self._their_labels(name)[0], self.labels.get(name, ("", None))[0]
        return name in self.theirs and (theirs == own or not theirs or not own)

    def same_labels(self, name: str) -> bool:
        """Whether the weights have this task with these classes."""
        theirs, own = self._their_labels(name)[1], self.labels.get(name, ("", None))[1]
        return self.same_task(name) and (theirs is None or own is None or theirs == own)

    def fits_all(self, key: str) -> bool:
        """Whether what relates all tasks is of use: the weights have the same tasks in the same order."""
        same = self.same_labels if _is_below(key, self.meaning) else self.same_task
        return self.theirs == self.names and all(map(same, self.names))

    # -- what belongs to which task --------------------------------------------------------------------------------

    def _places(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield (key, (task, the weights' key)); an outer layer's last, so that it counts."""
        layers = [(n, m) for n, m in self.modules.items() if isinstance(m, TaskLayer) and m.tasks == len(self.names)]
        layers = [(n, m) for n, m in layers if not n.startswith("neck.")]  # it knows no tasks
        for name, layer in reversed(layers):
            for attribute in layer.per_task:
                full = f"{name}.{attribute}".lstrip(".")
                if full in self.own:
                    yield full, (EVERY, full)
                for key in self.own:
                    if key.startswith(f"{full}."):
                        yield key, self._entry(full, key)

    def _entry(self, full: str, key: str) -> tuple[str, str]:
        """Return the task and the weights' key of a key inside a list or dictionary of the tasks' modules."""
        entry, _, rest = key[len(full) + 1 :].partition(".")
        if not entry.isdigit():
            return entry, key
        task = self.names[int(entry)]
        index = self.kept.index(task) if task in self.kept else int(entry)
        there = f"{full}.{index}.{rest}"
        if full == COPIES.rstrip(".") and there not in self.source:
            there = f"encoder.{rest}"  # one encoder for all tasks
        return task, there

    # -- taking one tensor -----------------------------------------------------------------------------------------

    def take(self, key: str, value: Tensor) -> None:
        """Replace the network's values of a key by the weights', as far as these fit."""
        task, there = self.places.get(key, ("", key))
        if there not in self.source and there.startswith("encoder.") and not there.startswith(COPIES):
            there = self._of_a_copy(there)
        found = self.source.get(there)
        stays = self._is_of_fresh_layer(key, task) or (_is_below(key, self.crossing) and not self.fits_all(key))
        if found is None or stays:
            self._keep(key, task)
        elif task == EVERY:
            self._take_entries(key, value, found)
        elif task and not (self.same_labels(task) if _is_below(key, self.meaning) else self.same_task(task)):
            self._keep(key, task)
        else:
            self._take_whole(key, value, found, there, task)

    def _is_of_fresh_layer(self, key: str, task: str) -> bool:
        """Whether the layer's weight, which comes first, stays as it is: a bias alone would be of another layer."""
        weight = f"{key.rpartition('.')[0]}.weight"
        return all(weight in self.fresh[name] for name in (self.names if task == EVERY else (task,)))

    def _of_a_copy(self, key: str) -> str:
        """Return the key of an encoder's weights in the first copy of networks with an encoder per task."""
        tasks = [index for index, name in enumerate(self.kept) if name in self.names]
        return f"{COPIES}{tasks[0] if tasks else 0}.{key.removeprefix('encoder.')}"

    def _take_whole(self, key: str, value: Tensor, found: Tensor, there: str, task: str) -> None:
        fitting = self._fitting(key, value, found)
        if fitting is None:
            self._keep(key, task)
            return
        value.copy_(self._finite(fitting, there))
        self.used.add(there)
        self.loaded += value.numel() if key in self.counted else 0

    def _fitting(self, key: str, value: Tensor, found: Tensor) -> Tensor | None:
        """Return weights in the shape of ``value``, position embeddings interpolated; None if they do not fit."""
        last = key.rpartition(".")[2]
        if key.startswith("encoder.") and last in ("pos_embed", "relative_position_bias_table"):
            owner = self.modules[key.rpartition(".")[0]]
            resized = (
                _resized_grid(found, value, owner, self.weights.size)
                if last == "pos_embed"
                else (_resized_table(found, value, owner))
            )
            if resized is not None and resized is not found:
                self.resized.append(key)
            return resized
        return found if found.shape == value.shape else None

    def _take_entries(self, key: str, value: Tensor, found: Tensor) -> None:
        """Take the entries of the tasks that the weights have, from their places on the task axis."""
        each = value.shape[0] // len(self.names)
        order = next((tasks for tasks in (self.theirs, self.kept) if len(tasks) * each == found.shape[0]), None)
        if order is None and found.shape == value.shape and len(self.names) == 1:  # one set that their tasks share
            self._take_whole(key, value, found, key, "")
            return
        if order is None or found.shape[1:] != value.shape[1:]:
            self._keep(key, EVERY)
            return
        for index, name in enumerate(self.names):
            if name not in order or not self.same_task(name):
                self._keep(key, name)
                continue
            at = order.index(name)
            part = self._finite(found[at * each : (at + 1) * each], key)
            value[index * each : (index + 1) * each] = part.to(value.dtype)
            self.used.add(key)
            self.loaded += part.numel() if key in self.counted else 0

    def _finite(self, values: Tensor, key: str) -> Tensor:
        if not bool(values.isfinite().all()):
            raise InputError(f"{self.weights.origin}: {key} has values that are not finite; take another checkpoint")
        return values

    def _keep(self, key: str, task: str) -> None:
        for name in self.names if task == EVERY else (task,):
            self.fresh[name].add(key)

    # -- the report --------------------------------------------------------------------------------------------------

    def result(self) -> Transfer:
        """Return what was done."""
        places = {key: self.places[key][0] for key in self.own if key in self.places}
        of_tasks = {name: [key for key, task in places.items() if task in (name, EVERY)] for name in self.names}
        fresh = _collapsed(self.fresh[""], self.own)
        by_layer: dict[str, list[str]] = {}
        for name in self.names:
            for layer in _collapsed(self.fresh[name], of_tasks[name]):
                by_layer.setdefault(layer, []).append(name)
        fresh += [f"{layer} ({', '.join(names)})" for layer, names in by_layer.items()]
        theirs = [key for key in self.source if key not in self.statistics]
        unused = _collapsed({key for key in theirs if key not in self.used}, theirs)
        sizes = [value.numel() for key, value in self.own.items() if key in self.counted]
        resized = _collapsed(set(self.resized), self.own)
        return Transfer(self.weights.origin, self.loaded, sum(sizes), tuple(resized), tuple(fresh), tuple(unused))


def _renamed(weights: Weights, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names, with or without prefixes, that match most of the network's."""
    tensors = weights.tensors
    if weights.kept != weights.tasks:  # a wrapper around the stages of a reduced network
        tensors = {key.replace(".stage.", "."): value for key, value in tensors.items()}
    known = set(map(_plain, own))
    choices = []
    for removed, added in product(REMOVED, ADDED):
        if not all(key.startswith(removed) for key in tensors) and removed != "network.":
            continue
        inside = {added + key.removeprefix(removed): v for key, v in tensors.items() if key.startswith(removed)}
        choices.append((sum(_plain(key) in known for key in inside), inside))
    return max(choices, key=lambda choice: choice[0])[1]


def _plain(key: str) -> str:
    """Return a key of one of several encoders as that of the only one."""
    return re.sub(r"^encoder\.copies\.\d+\.", "encoder.", key)


def _is_below(key: str, modules: Iterable[str]) -> bool:
    return any(key.startswith(f"{name}.") for name in modules)


def _collapsed(keys: set[str], universe: Iterable[str]) -> list[str]:
    """Return names that cover ``keys``: modules all of whose keys in ``universe`` are among them, else the keys' layers."""
    counts: dict[str, list[int]] = {}
    order = [key for key in universe if key in keys]
    for key in universe:
        for prefix in _prefixes(key):
            total = counts.setdefault(prefix, [0, 0])
            total[0] += 1
            total[1] += key in keys
    names: dict[str, None] = {}
    for key in order:
        whole = next((p for p in _prefixes(key) if counts[p][0] == counts[p][1]), key)
        names[whole or "all layers"] = None
    return list(names)


def _prefixes(key: str) -> list[str]:
    """Return the names of the modules around a tensor, the outermost (the network, without a name) first."""
    parts = key.split(".")[:-1]
    return [".".join(parts[:count]) for count in range(len(parts) + 1)]


def _resized_grid(found: Tensor, value: Tensor, body: Any, size: Sequence[int] | None) -> Tensor | None:  # noqa: ANN401
    """Return absolute position embeddings (1, N, C) for the network's grid; None if theirs is not known or other."""
    grid = getattr(getattr(body, "patch_embed", None), "grid_size", None)
    if found.ndim != 3 or found.shape[-1] != value.shape[-1] or grid is None:
        return found if found.shape == value.shape else None
    prefix = value.shape[1] - math.prod(grid)
    tokens, patch = found.shape[1] - prefix, body.patch_embed.patch_size
    side = math.isqrt(max(tokens, 0))
    theirs = None if size is None else [length // step for length, step in zip(size, patch, strict=True)]
    if theirs is None or math.prod(theirs) != tokens:
        theirs = [side, side] if side * side == tokens else None
    if theirs is None or tokens < 1:
        return found if found.shape == value.shape else None
    if list(theirs) == list(grid):
        return found
    resized: Tensor = timm.layers.resample_abs_pos_embed(found, list(grid), theirs, num_prefix_tokens=prefix)
    return resized


def _resized_table(found: Tensor, value: Tensor, owner: Any) -> Tensor | None:  # noqa: ANN401 - timm is untyped
    """Return relative position biases for the network's windows; None if theirs were no squares, or have other heads."""
    if found.shape == value.shape:
        return found
    window, square = getattr(owner, "window_size", None), math.isqrt(found.shape[0]) ** 2 == found.shape[0]
    if window is None or found.ndim != 2 or found.shape[1:] != value.shape[1:] or not square:
        return None
    resized: Tensor = timm.layers.resize_rel_pos_bias_table(found, window, value.shape)
    return resized
