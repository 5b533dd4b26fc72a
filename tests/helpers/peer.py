"""Networks as others write them, for ``model=external``."""

import torch
from torch import Tensor, nn

CHANNELS = {"semseg": 40, "depth": 1, "normals": 3, "boundary": 1}


class Peer(nn.Module):
    """Maps of stride 8 from one convolution; keeps the images it was given."""

    def __init__(self, width: int = 8, tasks: tuple[str, ...] = tuple(CHANNELS)) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, width, 8, stride=8)
        self.heads = nn.ModuleDict({name: nn.Conv2d(width, CHANNELS[name], 1) for name in tasks})
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        self.seen.append(image)
        x = self.trunk(image)
        return {name: head(x) for name, head in self.heads.items()}


class Strange(nn.Module):
    """Returns what it is told to."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, image: Tensor) -> object:
        maps: dict[str, object] = {name: torch.zeros(len(image), k, 4, 4) for name, k in CHANNELS.items()}
        changed: dict[str, object] = {
            "list": list(maps.values()),
            "missing": {name: maps[name] for name in ("semseg", "depth")},
            "extra": {**maps, "flow": maps["depth"]},
            "channels": {**maps, "normals": maps["depth"]},
            "size": {**maps, "depth": torch.zeros(len(image), 1, 512, 512)},
            "flat": {**maps, "depth": torch.zeros(len(image), 4, 4)},
            "classes": {**maps, "semseg": torch.zeros(len(image), 40, 4, 4, dtype=torch.long)},
            "nested": {**maps, "semseg": [maps["semseg"]]},
        }
        return changed[self.kind]


class LooksAtValues(Peer):
    """Cannot run on the meta device."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        if image.sum().item() == 0:
            raise AssertionError
        return super().forward(image)


def make(width: int = 8) -> nn.Module:
    """Return a network; a function serves as well as a class."""
    return Peer(width)


def no_module() -> int:
    """Return what no run can use."""
    return 7


NOT_CALLABLE = 3
