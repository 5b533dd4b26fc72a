"""Checks of a copy of a data set against the official one, and the findings they report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtlsi_net.core.errors import shown
from mtlsi_net.core.types import TargetSpec
from mtlsi_net.data.label_checks import Finding, LabelFacts, Level
from mtlsi_net.data.official import Official, Size


def check_ids(ids: Mapping[str, Sequence[str]], official: Official) -> Iterator[Finding]:
    """Compare the split lists, of ``train`` and ``val``, with the official ones."""
    listed = {split: set(official.ids(split)) for split in ids}
    for split, other, role in (("train", "val", "test"), ("val", "train", "training")):
        present, wanted = set(ids[split]), listed[split]
        table = (
            (wanted - present, "official ids are missing"),
            (present - wanted & listed[other], f"ids belong to the official {role} set"),
            (present - wanted - listed[other], "ids are in no official list"),
        )
        words = [f"{len(group)} {what} ({shown(sorted(group))})" for group, what in table if group]
        if words:
            counts = f"{split}: {len(ids[split])} images, officially {len(wanted)}"
            yield Finding(Level.DIFFERS, f"{counts}; {'; '.join(words)}")


def check_overlap(ids: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Find ids that are in both lists."""
    if both := sorted(set(ids["train"]) & set(ids["val"])):
        yield Finding(
            Level.DIFFERS, f"{len(both)} ids are in both train and val ({shown(both)}); remove them from one list"
        )


def check_prepared(marker: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Report what differs in a data set that ``prepare`` wrote, by its marker; None if it did not."""
    if marker is None:
        return
    if not marker["complete"]:
        yield Finding(Level.BROKEN, "the data set was not prepared to its end; run the command prepare again")
    for text in marker["differs"]:
        yield Finding(Level.DIFFERS, f"prepared, not as in the copy behind published numbers: {text}")


def check_sizes(sizes: Mapping[Size, int], size: Size | None, longest_side: int) -> Iterator[Finding]:
    """Compare the images' sizes with the one expected, or with the longest side."""
    wrong = {have: count for have, count in sizes.items() if (have != size if size else max(have) > longest_side)}
    if wrong:
        expected = f"{size[0]}x{size[1]}" if size else f"at most {longest_side} pixels a side"
        names = shown(f"{count} of {height}x{width}" for (height, width), count in sorted(wrong.items()))
        yield Finding(Level.DIFFERS, f"image sizes: {names}; expected {expected}")


def check_labels(
    labels: Mapping[str, LabelFacts], specs: Mapping[str, TargetSpec], official: Official
) -> Iterator[Finding]:
    """Report properties that the official labels do not have."""
    for name, facts in labels.items():
        scalar = specs[name].kind == "scalar"
        classes = (specs[name].num_classes or 0) if facts.histogram else 0
        unseen = [str(k) for k in range(classes) if not facts.histogram[k] and k not in specs[name].ignored]
        kinds = shown(f"{count} {kind}" for kind, count in facts.stored.most_common())
        zeros = f"{facts.invalid_share:.2%} of pixels are 0 (missing); the official labels have none"
        unit = f" {official.unit}".rstrip()
        far = (
            f"reaches {facts.high:.2f}{unit}, but official depths are below {official.farthest:g}{unit}; check the unit"
        )
        table = (
            (scalar and facts.invalid and official.complete, Level.DIFFERS, zeros),
            (scalar and facts.high >= official.farthest, Level.DIFFERS, far),
            (facts.soft, Level.NOTE, f"{facts.soft} pixels are neither 0 nor 1 and act as soft labels"),
            (unseen, Level.NOTE, f"{len(unseen)} classes never occur ({shown(unseen)})"),
            (len(facts.stored) > 1, Level.NOTE, f"files of several types ({kinds})"),
        )
        yield from (Finding(level, f"{name}: {text}") for applies, level, text in table if applies)


def compare_manifests(name: str, earlier: Mapping[str, str], now: Mapping[str, str]) -> Finding:
    """Report which files changed, went missing or were added since the manifest ``name`` was written."""
    table = {
        "changed": [path for path in earlier.keys() & now.keys() if earlier[path] != now[path]],
        "missing": earlier.keys() - now.keys(),
        "added": now.keys() - earlier.keys(),
    }
    words = ", ".join(f"{len(paths)} {what} ({shown(sorted(paths))})" for what, paths in table.items() if paths)
    level, text = (Level.DIFFERS, f"files differ from {name}: {words}") if words else (Level.NOTE, f"equal to {name}")
    return Finding(level, text)
