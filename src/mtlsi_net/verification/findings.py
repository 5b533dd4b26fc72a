"""From facts to findings: what keeps a copy from being compared, and what keeps it from being used."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from mtlsi_net.data.official import Official, Size
from mtlsi_net.specs import TargetSpec
from mtlsi_net.utils.errors import shown
from mtlsi_net.verification.inspection import ImageFacts, LabelFacts


class Level(IntEnum):
    """How bad a finding is; the worst one is the exit code."""

    NOTE = 0
    DIFFERS = 1
    BROKEN = 2


@dataclass(frozen=True)
class Finding:
    """One sentence about the data, and what it means for using them."""

    level: Level
    text: str


def check_ids(ids: Mapping[str, Sequence[str]], official: Official) -> list[Finding]:
    """Compare the split lists with the official ones."""
    listed = {split: official.ids(split) for split in ids}
    return [
        Finding(Level.DIFFERS, text)
        for split, own in ids.items()
        for other in ids.keys() - {split}
        if (text := _split_differences(split, own, listed[split], other, listed[other]))
    ]


def _split_differences(split: str, own: Sequence[str], wanted: Sequence[str], other: str, others: Sequence[str]) -> str:
    """Return in words how the ids of ``split`` differ from the ``wanted`` ones; empty if they do not."""
    absent, strange = set(wanted) - set(own), set(own) - set(wanted)
    swapped = sorted(strange & set(others))
    unknown = sorted(strange - set(others))
    parts = []
    if absent:
        parts.append(f"{len(absent)} official ids are absent ({shown(sorted(absent))})")
    if swapped:
        role = "test" if other == "val" else "training"
        parts.append(f"{len(swapped)} ids belong to the official {role} set ({shown(swapped)})")
    if unknown:
        parts.append(f"{len(unknown)} ids are in no official list ({shown(unknown)})")
    return f"{split}: {len(own)} images, officially {len(wanted)}; " + "; ".join(parts) if parts else ""


def check_overlap(ids: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Find ids that stand in both lists."""
    both = sorted(set(ids["train"]) & set(ids["val"]))
    if not both:
        return []
    return [Finding(Level.DIFFERS, f"{len(both)} ids stand in train and in val ({shown(both)}); remove them from one")]


def check_sizes(sizes: Mapping[Size, int], size: Size | None, longest_side: int) -> list[Finding]:
    """Compare the images' sizes with the one expected, or with the longest side."""
    wrong = {have: count for have, count in sizes.items() if (have != size if size else max(have) > longest_side)}
    if not wrong:
        return []
    expected = f"{size[0]}x{size[1]}" if size else f"at most {longest_side} pixels a side"
    names = shown(f"{count} of {height}x{width}" for (height, width), count in sorted(wrong.items()))
    return [Finding(Level.DIFFERS, f"image sizes: {names}; expected {expected}")]


def check_labels(labels: Mapping[str, LabelFacts], specs: Mapping[str, TargetSpec], farthest: float) -> list[Finding]:
    """Look for what the official labels do not have."""
    found = []
    for name, facts in labels.items():
        spec = specs[name]
        if facts.images and facts.invalid == facts.pixels:
            found.append(Finding(Level.DIFFERS, f"{name}: not a single valid pixel"))
        if spec.kind == "scalar" and facts.invalid:
            share = facts.invalid / facts.pixels
            found.append(Finding(Level.DIFFERS, f"{name}: {share:.2%} of pixels are 0 (missing); officially none"))
        if spec.kind == "scalar" and facts.high >= farthest:
            text = f"{name}: reaches {facts.high:.2f} m, officially below {farthest:g} m; check the unit (metres)"
            found.append(Finding(Level.DIFFERS, text))
        if facts.soft:
            text = f"{name}: {facts.soft} pixels are neither 0 nor 1 and act as soft labels"
            found.append(Finding(Level.NOTE, text))
        if spec.num_classes is not None and facts.histogram:
            unseen = [str(index) for index in range(spec.num_classes) if not facts.histogram[index]]
            if unseen:
                found.append(Finding(Level.NOTE, f"{name}: {len(unseen)} classes never occur ({shown(unseen)})"))
        if len(facts.stored) > 1:
            kinds = shown(f"{count} {kind}" for kind, count in facts.stored.most_common())
            found.append(Finding(Level.NOTE, f"{name}: files of several types ({kinds})"))
    return found


def check_errors(images: Sequence[ImageFacts]) -> list[Finding]:
    """Turn every unusable file into a finding."""
    lines = Counter(error for image in images for error in image.errors)  # one file may serve two tasks
    return [Finding(Level.BROKEN, line) for line in lines]
