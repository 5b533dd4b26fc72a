"""MLoRE (Yang et al., CVPR 2024): mixtures of low-rank experts, beside a convolution that all tasks share.

    image -> encoder -> map 1 -> a 1x1 per task -> MLoRE -> MLoRE --+
                     -> map 2 -> a 1x1 per task -> MLoRE -> MLoRE --+-> a 1x1 per task -> x2 -> heads -> final
                     -> map 3 -> a 1x1 per task -> MLoRE -> MLoRE --+
                     -> map 4 -> a 1x1 per task -> MLoRE -> MLoRE --+

    MLoRE of task t:   x -+-> convolution that all tasks share ------------------------+
                          +-> experts that all tasks share, those of the top k gates --+-> + -> x
                          |      ^ gates of task t, one set for an image               |
                          +-> task t's own low-rank expert ----------------------------+

Tasks never see each other's features: they meet in the weights that they share.

The paper's: the three paths, linear experts of low rank, the top k by a router of each task's own, two modules on each of
four encoder levels, and a loss that balances the experts' load. Ours, written without sight of its code: all sizes; experts
of a 3x3 and a 1x1 convolution with rising ranks (the paper speaks of wider receptive fields too); the router's layers, one
choice for a whole image, gates that are not rescaled after it; norms over channels, the residual; and that the balance is
over all tasks together. The parameters are within 2 % of those published for ViT-L on PASCAL-Context; its larger network
for NYUDv2 has other sizes.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsi_net.core.errors import InputError
from mtlsi_net.core.types import Prediction
from mtlsi_net.models.base import DenseNetwork, StageFactory, crop
from mtlsi_net.models.encoder import Encoder
from mtlsi_net.models.heads import UpsampleHead
from mtlsi_net.models.layers.checkpointing import Recomputed
from mtlsi_net.models.layers.masking import masked_mean, masked_resize, valid_at
from mtlsi_net.models.layers.task_layers import ChannelNorm, NormLayer, TaskConv, TaskLinear
from mtlsi_net.models.neck import LevelNeck
from mtlsi_net.models.preliminary import Activation

LEVELS, DEPTH = 4, 2
"""Encoder maps read, and modules on each."""


class Router(nn.Module):
    """Every task's gates for an image: softmax over all experts, from the mean over valid positions."""

    def __init__(self, tasks: int, width: int, experts: int) -> None:
        super().__init__()
        self.hidden = TaskLinear(tasks, width, width // 4)
        self.gates = TaskLinear(tasks, width // 4, experts)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, T, C, h, w) to probabilities (B, T, E)."""
        pooled = masked_mean(F.gelu(self.hidden(x_BTChw)), valid)
        logits: Tensor = self.gates.tokens(pooled[:, :, None])
        return logits[:, :, 0].softmax(-1)


class LowRankConv(nn.Module):
    """1x1(g * 3x3(x)): low-rank experts, all of them in one pair of layers, each weighed between the two.

    Linear in x: equal to one 3x3 convolution whose weights the gates mix.

    Args:
        tasks: T with weights per task, or 1 to let all tasks share the experts.
        rank: of all experts together.
    """

    def __init__(self, tasks: int, width: int, rank: int) -> None:
        super().__init__()
        self.down = TaskConv(tasks, width, rank, 3)
        self.up = TaskLinear(tasks, rank, width, bias=False)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None, gates_BTR: Tensor | None = None) -> Tensor:
        """Map (B, T, C, h, w) to the same shape; ``gates_BTR`` weighs every channel of low rank."""
        low = self.down(x_BTChw, valid)
        if gates_BTR is not None:
            low = low * gates_BTR[..., None, None].to(low.dtype)
        return self.up(low)


class LowRankMixture(Recomputed):
    """The MLoRE module: x + GELU(norm(shared convolution + the best shared experts + the task's own expert)), of norm(x).

    All layers before the norm are linear. Gates outside the top k count 0, the others keep their probability.

    Args:
        ranks: of the shared experts.
        top_k: experts that a task uses in an image.
        own_rank: of a task's own expert.
    """

    def __init__(
        self,
        tasks: int,
        width: int,
        ranks: Sequence[int],
        top_k: int,
        own_rank: int,
        norm: NormLayer = ChannelNorm,
    ) -> None:
        super().__init__()
        self.top_k = top_k
        owners = torch.tensor([expert for expert, rank in enumerate(ranks) for _ in range(rank)])
        self.register_buffer("owners", owners, persistent=False)  # of each channel of low rank
        self.owners: Tensor
        self.norm = norm(width, tasks)
        self.router = Router(tasks, width, len(ranks))
        self.generic = TaskConv(1, width, width, 3)
        self.experts = LowRankConv(1, width, sum(ranks))
        self.own = LowRankConv(tasks, width, own_rank)
        self.out_norm = norm(width, tasks)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return features of the same shape, and all gates before the choice, (B, T, E)."""
        y = self.norm(x_BTChw)
        gates = self.router(y, valid)
        best = gates.topk(self.top_k, -1)
        chosen = torch.zeros_like(gates).scatter(-1, best.indices, best.values)
        mixed = self.generic(y, valid) + self.experts(y, valid, chosen[..., self.owners]) + self.own(y, valid)
        return x_BTChw + F.gelu(self.out_norm(mixed)), gates


def load_imbalance(gates_BTE: Tensor) -> Tensor:
    """Return the squared coefficient of variation of the experts' mean gates: 0 where all are used alike."""
    load = gates_BTE.float().mean((0, 1))
    return load.var(correction=0) / load.mean().square()


class MixtureStack(nn.Module):
    """Sequence of MLoRE modules."""

    def __init__(self, mixtures: Sequence[LowRankMixture]) -> None:
        super().__init__()
        self.mixtures = nn.ModuleList(mixtures)

    def forward(self, x_BTChw: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return features of the same shape, and the sum of the modules' load imbalance."""
        x, imbalance = x_BTChw, x_BTChw.new_zeros(())
        for mixture in self.mixtures:
            x, gates = mixture(x, valid)
            imbalance = imbalance + load_imbalance(gates)
        return x, imbalance


class MLoRENet(DenseNetwork):
    """Mixtures of low-rank experts on four encoder levels.

    Args:
        stride: of the experts' grid; the heads start at half of it.
        experts: E, shared by all tasks.
        rank: of the smallest expert; the i-th has i times that.
        top_k: experts that a task uses in an image.
        own_rank: of every task's own expert.
        balance: factor of the load-balancing loss (the authors': 3e-4 on PASCAL-Context with ViT-L, 5e-4 on NYUDv2).
        others: as in ``DenseNetwork``.

    Raises:
        InputError: ``top_k`` is not between 1 and the number of experts.
    """

    def __init__(
        self,
        encoder: Encoder,
        task_channels: Mapping[str, int],
        *,
        width: int = 416,
        stride: int = 16,
        experts: int = 15,
        rank: int = 16,
        top_k: int = 9,
        own_rank: int = 64,
        balance: float = 3.0e-4,
        head: StageFactory = UpsampleHead,
        norm: str = "layer",
        activations: Mapping[str, Activation] | None = None,  # noqa: ARG002 - what every network is offered
        mask_padding: bool = True,
    ) -> None:
        if not 1 <= top_k <= experts:
            raise InputError(f"top_k={top_k} is out of range; give 1 to {experts} (experts={experts})")
        super().__init__(encoder, task_channels, width, stride, norm=norm, mask_padding=mask_padding)
        layer, tasks = self.norm_layer, len(task_channels)
        ranks = [rank * (i + 1) for i in range(experts)]
        self.balance = balance
        self.neck = LevelNeck(encoder.specs, [stride] * LEVELS)
        self.branches = nn.ModuleList(TaskLinear(tasks, spec.channels, width) for spec in encoder.specs)
        self.mixtures = nn.ModuleList(
            MixtureStack([LowRankMixture(tasks, width, ranks, top_k, own_rank, layer) for _ in range(DEPTH)])
            for _ in range(LEVELS)
        )
        self.merge = TaskLinear(tasks, LEVELS * width, width)
        self.head = head(task_channels=task_channels, width=width, norm=layer)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Prediction:
        """Return raw outputs: final (B, K, H, W), no aux; ``balance`` among the regularisers."""
        maps, pixels, canvas_size = self.encode(image, valid)
        levels, imbalance = [], []
        for level, branch, mixtures in zip(self.neck(maps, pixels), self.branches, self.mixtures, strict=True):
            positions = valid_at(pixels, level)
            features, uneven = mixtures(branch(level[:, None]), positions)
            levels.append(features)
            imbalance.append(uneven)
        merged = self.merge(torch.cat(levels, 2))
        double = 2 * merged.shape[-2], 2 * merged.shape[-1]
        fine = masked_resize(merged, double, positions)
        final = self.head(fine, valid_at(pixels, fine), canvas_size)
        regularisers = {"balance": self.balance * torch.stack(imbalance).sum()}
        return Prediction(crop(final, image.shape[-2:]), regularisers=regularisers)
