"""Parameters and operations of every preset on every backbone: ``python experiments/model_sizes/measure.py``.

Writes sizes.csv and table.md beside itself. Counted without running: GFLOP of one image, 2 per multiply-add.
"""

import csv
from pathlib import Path

import torch
from hydra import compose, initialize_config_module
from rich.progress import track

from mtlsi_net.engine.build import build_network, build_tasks
from mtlsi_net.models.size import measure_size

HERE = Path(__file__).parent
BACKBONES = ["vit_s", "vit_b", "vit_l", "swin_b", "swin_l", "dinov3_l", "resnet50", "convnext_b"]
PRESETS = ["mtlsi", "mtlsi_lite", "mtlsi_paper", "plain"]
BASELINES = ["shared_encoder", "single_task", "mti_net_variant", "invpt", "mlore", "bridgenet_variant"]
TASK_SETS = {"nyud": (448, 576), "pascal": (512, 512)}
DECODER_BUDGET_M, GFLOP_BUDGET_PER_TASK = 45, 75
"""What all presets at ViT-L hold to (design page, sizes to hold)."""
PUBLISHED = {
    ("nyud", "invpt"): (402.1, 493),
    ("pascal", "invpt"): (422.9, 621),
    ("nyud", "mlore"): (551.6, 2101),
    ("pascal", "mlore"): (407.7, 930),
}
"""Of the authors' networks at ViT-L: total M, and decoder GFLOP by our counter (MLoRE's before its experts are merged).
On NYUDv2 MLoRE used a larger network than on PASCAL-Context; ours is the latter on both."""


def markdown(lines: list[list[str]]) -> str:
    """Return lines of cells as a table."""
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def beside_published(rows: list[dict[str, str]]) -> str:
    """Return the table of our networks beside the authors' own, at ViT-L."""
    heading = ["task set", "model", "total M, ours", "total M, published", "difference"]
    lines = [[*heading, "decoder GFLOP, ours", "decoder GFLOP, authors' network"], ["---"] * 2 + ["---:"] * 5]
    for row in rows:
        key = row["task set"], row["model"]
        if row["backbone"] == "vit_l" and key in PUBLISHED:
            parameters, gflop = PUBLISHED[key]
            differs = f"{100 * (float(row['total M']) / parameters - 1):+.1f} %"
            lines.append([*key, row["total M"], str(parameters), differs, row["decoder GFLOP"], str(gflop)])
    return "Published figures beside ours, ViT-L:\n\n" + markdown(lines)


def main() -> None:
    """Measure all combinations and write the two files."""
    rows = []
    combinations = [(s, m, b) for s in TASK_SETS for m in (*PRESETS, *BASELINES) for b in BACKBONES]
    with initialize_config_module("mtlsi_net.conf", version_base="1.3"):
        for task_set, model, backbone in track(combinations, "sizes"):
            size = TASK_SETS[task_set]
            cfg = compose(
                "train",
                [
                    f"task_set={task_set}",
                    f"model={model}",
                    f"backbone={backbone}",
                    f"data.size=[{size[0]},{size[1]}]",
                    "backbone.pretrained=false",
                ],
            )
            tasks = build_tasks(cfg)
            with torch.device("meta"):  # nothing is allocated: single_task at ViT-L would take 6 GB
                network = build_network(cfg, tasks)
            found = measure_size(network, size)
            rows.append(
                {
                    "task set": task_set,
                    "model": model,
                    "backbone": backbone,
                    "total M": f"{found['parameters_m']:.1f}",
                    "decoder M": f"{found['decoder_parameters_m']:.1f}",
                    "encoder GFLOP": f"{found['encoder_gflop']:.0f}",
                    "decoder GFLOP": f"{found['decoder_gflop']:.0f}",
                    "decoder GFLOP a task": f"{found['decoder_gflop'] / len(tasks):.1f}",
                }
            )
    with (HERE / "sizes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = [list(rows[0]), ["---"] * 3 + ["---:"] * 5, *(list(row.values()) for row in rows)]
    (HERE / "table.md").write_text(markdown(lines) + "\n" + beside_published(rows))
    for row in rows:
        if row["backbone"] == "vit_l" and row["model"] in PRESETS:
            held = (
                float(row["decoder M"]) <= DECODER_BUDGET_M
                and float(row["decoder GFLOP a task"]) <= GFLOP_BUDGET_PER_TASK
            )
            print(row["task set"], row["model"], "holds its budget" if held else "IS OVER ITS BUDGET")


if __name__ == "__main__":
    main()
