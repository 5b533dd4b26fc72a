"""The figure of the network, compared with a network at work."""

import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from helpers.miniature import compose_config

from mtlsi_net.engine.build import build_network, build_tasks

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("network_figure", ROOT / "tools" / "network_figure.py")
figure = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figure)
BOXES = {box.key: box for box in figure.BOXES}
STAGES = {key for key, box in BOXES.items() if box.kind in ("paper", "ours")}


@pytest.fixture(scope="module")
def network():
    cfg = compose_config("data=nyud", "model=mtlsi", "backbone=tiny", "model.width=64", "model.head_dim=32")
    return build_network(cfg, build_tasks(cfg)).eval()


def tensors(value):
    """Yield the tensors in a stage's arguments or results."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for own in value.values():
            yield from tensors(own)
    elif isinstance(value, list | tuple):
        for own in value:
            yield from tensors(own)


def storage(tensor):
    return tensor.untyped_storage().data_ptr()


def handed_on(network, image):
    """Return (stage, stage) of all tensors that one stage makes and another one takes, crops of them included."""
    made, flows, kept = {}, set(), []

    def watch(name, module):
        def before(_, args, kwargs):
            flows.update((made[storage(t)], name) for t in tensors([*args, *kwargs.values()]) if storage(t) in made)

        def after(_, __, result):
            kept.append(result)  # else its memory is used again
            own = result[0] if name == "canvas" else result  # not its mask of valid pixels
            made.update((storage(t), "image" if name == "canvas" else name) for t in tensors(own))

        return module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)

    hooks = [hook for name, module in network.named_children() for hook in watch(name, module)]
    with torch.no_grad():
        prediction = network(image)
    for hook in hooks:
        hook.remove()
    for name, result in (("final", prediction.final), ("aux", prediction.aux)):
        flows.update((made[storage(t)], name) for t in tensors(result) if storage(t) in made)
    return flows


def test_the_file_is_what_the_script_draws():
    assert figure.FILE.read_text() == figure.draw()
    assert figure.FILE == ROOT / "docs" / "background" / "network.svg"


def test_every_stage_of_the_network_is_a_box_and_no_other(network):
    assert {name for name, _ in network.named_children()} - {"canvas"} == STAGES


def test_arrows_are_what_one_stage_takes_of_another(network):
    drawn = {(flow.source, flow.target) for flow in figure.FLOWS}
    found = handed_on(network, torch.rand(1, 3, 64, 96))
    assert found - {("image", "refinement")} == drawn  # the image is for encoders without a map of stride 4


def test_the_numbers_are_the_networks(network):
    strides = network.neck.level_strides
    lines = {key: " ".join(box.lines) for key, box in BOXES.items()}
    assert lines["neck"] == f"levels of strides {', '.join(map(str, strides))}"
    assert lines["preliminary"] == f"per task, from stride {' to '.join(map(str, reversed(strides)))}"
    assert lines["refinement"] == f"from stride {network.stride} to stride {network.decoder_stride}"
    (label,) = (flow.label for flow in figure.FLOWS if flow.target == "refinement" and flow.label)
    assert label == f"detail of stride {network.decoder_stride}"
    tokens = compose_config("model=mtlsi").model.distiller.tokens
    assert lines["distiller"] == f"{tokens} tokens of each task"


def test_boxes_do_not_overlap_and_lie_inside():
    root = ET.fromstring(figure.draw())
    _, _, width, height = map(int, root.get("viewBox").split())
    boxes = list(BOXES.values())
    for number, box in enumerate(boxes):
        (x, y), (w, h) = box.place, box.size
        assert 0 < x < x + w < width
        assert 0 < y < y + h < height
        for (left, top), (wide, high) in ((other.place, other.size) for other in boxes[:number]):
            assert x >= left + wide or left >= x + w or y >= top + high or top >= y + h
    texts = [text.text for text in root.iter() if text.tag.endswith("}text")]
    assert {box.title for box in boxes} <= set(texts)


def test_the_figure_needs_nothing_from_elsewhere():
    addresses = set(re.findall(r"https?://[^\"]+", figure.draw()))
    assert addresses == {"http://www.w3.org/2000/svg"}
