"""Fill in what each planned table costs and what others published: ``python experiments/plan.py`` rewrites the READMEs.

Operations come from ``model_sizes/sizes.csv``, published results from the package's ``published.yaml``. A training step is
counted as three forward passes, the field's rule of thumb.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from mtlsi_net.comparison.published import Published, load_published

HERE = Path(__file__).parent
PASSES, BATCH, STEPS = 3, 4, 40_000
TERAFLOPS = 50
"""Operations a second that a training GPU is assumed to do: no measurement, a current data-centre GPU in bfloat16."""

DECODERS = (
    "mtlsi",
    "mtlsi_paper",
    "plain",
    "shared_encoder",
    "single_task",
    "invpt",
    "mlore",
    "mti_net_variant",
    "bridgenet_variant",
)
BACKBONES = ("vit_s", "vit_b", "vit_l", "swin_b", "swin_l", "dinov3_l", "resnet50", "convnext_b")


@dataclass(frozen=True)
class Plan:
    """The runs of one table: networks x backbones x seeds, 40,000 steps of 4; ``rows`` ablations of the first network."""

    data: str
    models: tuple[str, ...]
    backbones: tuple[str, ...] = ("vit_l",)
    seeds: int = 3
    rows: int = 1
    published: bool = False


PLANS = {
    "nyud_main": Plan("nyud", DECODERS, published=True),
    "pascal_main": Plan("pascal", DECODERS, published=True),
    "ablation_blocks": Plan("nyud", ("mtlsi", "shared_encoder", "single_task"), ("vit_b",), rows=14),
    "ablation_scales": Plan("nyud", ("mtlsi",), ("vit_b",), rows=9),
    "ablation_tokens": Plan("nyud", ("mtlsi",), ("vit_b",), rows=10),
    "backbones": Plan("nyud", ("mtlsi", "shared_encoder"), BACKBONES, seeds=1, published=True),
}


def cost(plan: Plan) -> str:
    """Return a table of operations and of hours on the assumed GPU."""
    with (HERE / "model_sizes" / "sizes.csv").open() as file:
        sizes = {(row["task set"], row["model"], row["backbone"]): row for row in csv.DictReader(file)}
    lines = [
        "| network | backbone | runs | GFLOP an image | EFLOP in all | GPU hours |",
        "|---|---|---:|---:|---:|---:|",
    ]
    total = 0.0
    for model in plan.models:
        for backbone in plan.backbones:
            own = sizes[plan.data, model, backbone]
            forward = float(own["encoder GFLOP"]) + float(own["decoder GFLOP"])
            runs = plan.seeds * (plan.rows if model == plan.models[0] else 1)
            exa = PASSES * forward * BATCH * STEPS * runs / 1e9
            hours = exa * 1e6 / TERAFLOPS / 3600
            total += hours
            lines.append(f"| {model} | {backbone} | {runs} | {forward:.0f} | {exa:.1f} | {hours:.0f} |")
    return "\n".join(
        [
            f"Counted, not measured: {PASSES} forward passes a step, {STEPS:,} steps of {BATCH} images; hours at an assumed "
            f"{TERAFLOPS} TFLOP/s: {total:.0f} in all.",
            "",
            *lines,
        ]
    )


def published(plan: Plan) -> str:
    """Return the results of others on the same data and protocol, as fractions, degrees and metres."""
    found = [own for own in load_published() if own.data == plan.data and own.protocol == "lineage" and own.scores]
    keys = list(dict.fromkeys(key for own in found for key in own.scores))
    head = ["model", "backbone", *(key.replace("/", " ") for key in keys), "source and remarks"]
    lines = [head, ["---"] * len(head), *(_cells(own, keys) for own in found)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(own: Published, keys: list[str]) -> list[str]:
    scores = [f"{own.scores[key]:.4g}" if key in own.scores else "" for key in keys]
    return [own.model, own.backbone, *scores, own.remarks]


def filled(name: str) -> str:
    """Return a README with the text between its markers renewed."""
    plan, text = PLANS[name], (HERE / name / "README.md").read_text()
    parts = {"cost": cost(plan)} | ({"published": published(plan)} if plan.published else {})
    for key, part in parts.items():
        start, place, rest = text.partition(f"<!-- {key} -->\n")
        _, end, rest = rest.partition("<!-- end -->")
        if not (place and end):
            raise ValueError(f"{name}/README.md: no place for {key}")
        text = f"{start}{place}{part}\n{end}{rest}"
    return text


if __name__ == "__main__":
    for name in PLANS:
        (HERE / name / "README.md").write_text(filled(name))
