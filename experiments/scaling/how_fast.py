"""Fill in the table "How fast" of docs/results.md from what the benchmarks left: ``python experiments/scaling/how_fast.py``."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/results.md"
GPU = HERE / "../gpu_hour/results"
SOFTMAX, CHECKPOINTED = "mtlsi ablation=softmax_attention", "mtlsi activation_checkpointing=true"
SCORED, PLAIN_SCORED = "all tasks, as in evaluation", "all without references"
COMMON, LARGE = 448 * 576, 896 * 1152
TABLE = re.compile(r"(?<=^## How fast\n)(.*?)^\| what \|.*?\n(?=\n)", re.MULTILINE | re.DOTALL)

Row = Mapping[str, str]


def read(path: str) -> list[Row]:
    """Return the rows of a CSV file beside this one."""
    with (HERE / path).open(newline="") as file:
        return list(csv.DictReader(file))


def find(rows: Sequence[Row], **values: object) -> Row:
    """Return the only row with these values; ``_`` in a name stands for a space."""
    wanted = {name.replace("_", " "): str(value) for name, value in values.items()}
    (row,) = [row for row in rows if wanted.items() <= row.items()]
    return row


def counted() -> str:
    """Return the size of the decoder at ViT-L on both data sets."""
    rows = read("../model_sizes/sizes.csv")
    parts = []
    for name, title in (("nyud", "NYUDv2"), ("pascal", "PASCAL-Context")):
        row = find(rows, task_set=name, model="mtlsi", backbone="vit_l")
        parts.append(f"{title}: {row['decoder M']} M, {float(row['decoder GFLOP a task']):.0f} GFLOP a task")
    return "; ".join(parts)


def step_of_invpt() -> tuple[str, str]:
    """Return the share of ``invpt``'s training step that ``mtlsi``'s takes, with quartiles, and that of the decoders."""
    rows = read("train448/model.csv")
    ours, theirs = (find(rows, model=name) for name in ("mtlsi", "invpt"))
    ratios = (1 / float(theirs[f"train step ratio{end}"]) for end in ("", " high", " low"))
    ours_ms, theirs_ms = (float(row["train step ms"]) * float(row["decoder % of step"]) / 100 for row in (ours, theirs))
    return "{:.2f} ({:.2f} to {:.2f})".format(*ratios), f"{ours_ms / theirs_ms:.2f}"


def scaling(model: str, pixels: int, what: str, study: str = "growth") -> float:
    """Return one number of the decoders' growth with pixels."""
    return float(find(read(f"{study}/scaling.csv"), over="pixels", model=model, value=pixels)[what])


def against(model: str, pixels: int, study: str = "growth") -> str:
    """Return how much longer than ``mtlsi`` a decoder's forward pass takes."""
    other, ours = (scaling(name, pixels, "forward ms", study) for name in (model, "mtlsi"))
    return f"{other / ours:.1f}x ({ours / 1000:.1f} s against {other / 1000:.1f} s)"


def growth() -> str:
    """Return how time and memory grow with four times the pixels."""
    time, memory = (
        scaling("mtlsi", LARGE, what) / scaling("mtlsi", COMMON, what) for what in ("forward ms", "peak MiB")
    )
    return f"forward {time:.2f}x in time; training step {memory:.2f}x in counted memory"


def loading() -> str:
    """Return the training pipeline's share of the speed of decoding, and what is left to the device that trains."""
    record = json.loads((HERE / "../loader_speed/bench.json").read_text())
    share = record["percent of the speed of decoding alone (median, quartiles)"]["training pipeline"]
    rows = read("../loader_speed/loader.csv")
    speed = find(rows, what="training pipeline")["images/s"]
    values = next(row["ms"] for row in rows if row["what"].startswith("bytes to values"))
    return (
        f"{share[0]:.0f} % ({share[1]:.0f} to {share[2]:.0f}; {speed} images/s), as bytes; "
        f"a CPU that trains converts them to floats in {float(values):.1f} ms"
    )


def on_a_gpu() -> str:
    """Return what gpu_hour left of the training step of ViT-L; without any, what is counted."""
    train, memory = GPU / "train_vit_l" / "model.csv", GPU / "memory_vit_l" / "memory.csv"
    if not (train.is_file() and memory.is_file()):
        counted = float(find(read("memory/memory.csv"), model=CHECKPOINTED)["counted peak MiB"])
        return f"not run: no GPU was available; counted with checkpointing: {counted / 1024:.1f} GiB"
    step = find(read(str(train)), model="mtlsi")
    peak = float(find(read(str(memory)), model=CHECKPOINTED)["measured peak MiB"])
    use = f"{step['% of peak']} % of peak" if step["% of peak"] else f"{step['train TFLOP/s']} TFLOP/s"
    return (
        f"decoder {float(step['decoder % of step']):.0f} % of {float(step['train step ms']):.0f} ms, {use}; "
        f"{peak * 2**20 / 1e9:.1f} GB with checkpointing"
    )


def table() -> str:
    """Return the table in Markdown."""
    train = find(read("train/train.csv"), what="invpt")
    step, decoder = step_of_invpt()
    scored = {name: float(find(read("scoring/scoring.csv"), what=name)["ms"]) for name in (SCORED, PLAIN_SCORED)}
    help_text = find(read("startup/startup.csv"), what="python -m mtlsi_net.train --help")
    rooms = find(read("rooms/rooms.csv"), what="212x280")
    rows = [
        ("`mtlsi` at ViT-L, counted", "<= 45 M, <= 75 GFLOP a task", counted(), "what=model"),
        ("train step, ViT-B 448x576, batch 2", "<= 0.60 of `invpt`", step, "what=model"),
        ("decoder and losses in that step, forward and backward", "<= 0.45 of `invpt`", decoder, "what=model"),
        (
            "train step, ViT-B 224x288, batch 2",
            ">= 1.3x faster than `invpt`",
            f"{float(train['ratio']):.1f}x",
            "what=train",
        ),
        (
            "scoring an image of 425x560, four tasks, processor time",
            "<= 110 ms, 50 without boundaries",
            f"{scored[SCORED]:.0f} ms, {scored[PLAIN_SCORED]:.0f} without",
            "what=scoring",
        ),
        ("decoder forward, 448x576", ">= 2x faster than `invpt`", against("invpt", COMMON), "what=scaling"),
        (
            "`mtlsi_paper`: decoder forward, 896x1152",
            ">= 5x faster than softmax",
            against(SOFTMAX, LARGE, "decoders"),
            "what=scaling",
        ),
        (
            "decoder, 448x576 to 896x1152: 4x the pixels",
            "<= 4.2x time and memory",
            growth(),
            "what=scaling",
        ),
        ("training samples, one core, beside decoding their files", ">= 65 % of its speed", loading(), "what=loader"),
        (
            "`train --help`, processor time beside `import torch`",
            "<= 0.5x",
            f"{float(help_text['ratio']):.2f}x",
            "what=startup",
        ),
        (
            "rooms of 212x280, one core",
            ">= 8 images/s",
            f"{float(rooms['a second']):.1f} images/s",
            "what=rooms",
        ),
        (
            "train step, ViT-L 448x576, batch 4, bf16, one GPU",
            "decoder <= 35 %, <= 24 GB",
            on_a_gpu(),
            "what=memory",
        ),
    ]
    head = "| what | target | measured | `bench` |\n| --- | --- | --- | --- |\n"
    return head + "".join(f"| {what} | {target} | {found} | `{by}` |\n" for what, target, found, by in rows)


def filled(text: str) -> str:
    """Return the page's text with the table as it is now."""
    found = TABLE.search(text)
    assert found, "docs/results.md has no table under How fast"
    return text[: found.start()] + found[1] + table() + text[found.end() :]


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
