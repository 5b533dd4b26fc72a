"""Figure of MTLSI-Net's stages: ``python tools/network_figure.py`` writes ``docs/background/network.svg``.

A stage is a box, its key the attribute of ``MTLSINet``; ``FLOWS`` are the tensors that ``forward`` hands on. A test compares both
with a network at work. A new stage takes a ``Box``, its flows, and a place for them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

FILE = Path(__file__).parents[1] / "docs" / "background" / "network.svg"
WIDTH = 440
"""Of the drawing: narrow enough to be read on a phone."""
INK, QUIET, PAPER, OURS, LINE = "#1d2433", "#5b6472", "#dfe4fb", "#eef0f3", "#6c7689"
SIZES = {"paper": 15, "ours": 15, "end": 13, "loss": 12}
"""Of a box's title, by its kind."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Box:
    """A stage, its input or a result; ``key``: attribute of the network, or a name of this figure's own.

    ``kind``: ``paper`` (a block that the paper names), ``ours``, ``end`` (what goes in or comes out) or ``loss`` (training only).
    """

    key: str
    title: str
    lines: Sequence[str]
    place: tuple[int, int]  # left, top
    size: tuple[int, int]  # width, height
    kind: str = "ours"

    @property
    def left(self) -> tuple[int, int]:
        """Middle of the left side."""
        return self.place[0], self.place[1] + self.size[1] // 2

    @property
    def right(self) -> tuple[int, int]:
        """Middle of the right side."""
        return self.place[0] + self.size[0], self.left[1]

    @property
    def top(self) -> tuple[int, int]:
        """Middle of the upper side."""
        return self.place[0] + self.size[0] // 2, self.place[1]

    @property
    def bottom(self) -> tuple[int, int]:
        """Middle of the lower side."""
        return self.top[0], self.place[1] + self.size[1]


@dataclass(frozen=True)
class Flow:
    """Tensors from one box to another, along straight lines through ``via``; ``sides`` are where it leaves and arrives."""

    source: str
    target: str
    sides: tuple[str, str] = ("bottom", "top")
    via: Sequence[tuple[int, int]] = ()
    label: str = ""
    label_at: tuple[int, int] = (0, 0)
    turned: bool = False


MAIN, SIDE = (64, 226), (318, 112)
"""Left edge and width of the two columns."""


def _main(key: str, title: str, line: str, top: int, kind: str = "ours") -> Box:
    return Box(key, title, [line], (MAIN[0], top), (MAIN[1], 56), kind)


BOXES = (
    Box("image", "image", [], (MAIN[0] + 63, 12), (100, 30), "end"),
    _main("encoder", "Encoder", "four maps, strides 4 to 32", 64),
    _main("neck", "Neck", "levels of strides 8, 16, 32", 142),
    _main("preliminary", "Preliminary decoders", "per task, from stride 32 to 16 to 8", 220),
    _main("fusion", "MT-MQLFB", "all tasks, one context, linear cost", 298, "paper"),
    _main("readback", "Readback", "of the tokens, at every position", 376),
    _main("refinement", "Detail refinement", "from stride 8 to stride 4", 454),
    _main("decoder", "CWIB decoders", "windows and tokens, gated", 532, "paper"),
    _main("head", "Heads", "one for each task", 610),
    Box("final", "predictions of all tasks", [], (MAIN[0], 688), (MAIN[1], 30), "end"),
    Box("aux", "early predictions", ["auxiliary losses"], (SIDE[0], 222), (SIDE[1], 52), "loss"),
    Box("distiller", "STD", ["32 tokens of", "each task"], (SIDE[0], 290), (SIDE[1], 72), "paper"),
)

FLOWS = (
    Flow("image", "encoder"),
    Flow("encoder", "neck"),
    Flow("neck", "preliminary"),
    Flow("preliminary", "fusion"),
    Flow("preliminary", "aux", ("right", "left")),
    Flow("fusion", "readback"),
    Flow("fusion", "distiller", ("right", "left")),
    Flow("distiller", "readback", ("bottom", "right"), [(374, 404)]),
    Flow("readback", "aux", ("left", "top"), [(48, 404), (48, 209), (374, 209)]),
    Flow("readback", "refinement"),
    Flow("encoder", "refinement", ("left", "left"), [(34, 92), (34, 482)], "detail of stride 4", (26, 290), True),
    Flow("refinement", "decoder"),
    Flow("distiller", "decoder", ("bottom", "right"), [(374, 560)], "semantic tokens", (374, 578)),
    Flow("decoder", "head"),
    Flow("head", "final"),
)


def draw() -> str:
    """Return the figure as SVG."""
    boxes = {box.key: box for box in BOXES}
    height = max(box.bottom[1] for box in BOXES) + 34
    legend = "Blue: blocks that the paper names. Grey: the stages around them."
    spoken = ", ".join(box.title for box in BOXES)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" font-family="{FONT}" font-size="12" fill="{INK}">',
        f"<title>MTLSI-Net: {escape(spoken)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        *(part for flow in FLOWS for part in _flow(flow, boxes)),
        *(part for box in BOXES for part in _box(box)),
        _text(legend, (WIDTH // 2, height - 12), QUIET),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _flow(flow: Flow, boxes: dict[str, Box]) -> Iterator[str]:
    """Yield an arrow and its label."""
    start, end = (getattr(boxes[key], side) for key, side in zip((flow.source, flow.target), flow.sides, strict=True))
    points = " ".join(f"{x},{y}" for x, y in (start, *flow.via, end))
    yield f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="1.6" marker-end="url(#tip)"/>'
    if flow.label:
        yield _text(flow.label, flow.label_at, QUIET, turned=flow.turned)


def _box(box: Box) -> Iterator[str]:
    """Yield a box with its title, below it the lines, and the attribute's name in the corner."""
    (x, y), (width, height) = box.place, box.size
    fill = {"paper": PAPER, "ours": OURS}.get(box.kind, "#ffffff")
    dashes = ' stroke-dasharray="4 3"' if box.kind == "loss" else ""
    yield (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{15 if box.kind == "end" else 5}" fill="{fill}" '
        f'stroke="{LINE}"{dashes}/>'
    )
    middle, top = box.top[0], y + (height - 17 * (len(box.lines) + 1)) // 2 + 13
    yield _text(box.title, (middle, top), INK, size=SIZES[box.kind], bold=box.kind == "paper")
    for number, line in enumerate(box.lines, 1):
        yield _text(line, (middle, top + 17 * number), QUIET)


def _text(
    text: str, place: tuple[int, int], color: str, size: int = 12, bold: bool = False, turned: bool = False
) -> str:
    """Return a text around a point."""
    x, y = place
    weight = ' font-weight="600"' if bold else ""
    turn = f' transform="rotate(-90 {x} {y})"' if turned else ""
    return f'<text x="{x}" y="{y}" text-anchor="middle" font-size="{size}" fill="{color}"{weight}{turn}>{escape(text)}</text>'


if __name__ == "__main__":
    FILE.write_text(draw())
