"""Demo page for a trained model: upload an image and compare it with each task's result."""

import html
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image

from mtlsi_net.core.config import check_complete
from mtlsi_net.core.errors import UserError
from mtlsi_net.core.licences import in_words
from mtlsi_net.data.images import read_image
from mtlsi_net.inference.exported import OnnxModel
from mtlsi_net.inference.files import write_result
from mtlsi_net.inference.model import Model
from mtlsi_net.inference.predict import load_model
from mtlsi_net.tasks.colors import Legend

log = logging.getLogger(__name__)

KEPT_SECONDS = 3600
"""Time for which results can be downloaded."""
SHOWN = 1280
"""Longest side of the pictures on the page; downloaded files have the image's size."""


def serve(cfg: DictConfig) -> None:
    """Serve the page of ``cfg.ckpt`` until interrupted.

    Raises:
        UserError: the model cannot be loaded, gradio is missing, or the port is taken.
    """
    check_complete(cfg)
    page = build_page(load_model(cfg))
    try:
        options = {"server_name": cfg.host, "server_port": cfg.port, "inbrowser": cfg.browser, "share": cfg.share}
        page.launch(**options, prevent_thread_lock=True, quiet=True)
    except OSError as error:
        raise UserError(
            f"port={cfg.port} cannot be used ({error}); choose another, or port=null for any free one"
        ) from None
    log.info("open %s in a browser; press Ctrl-C to stop", page.local_url)
    page.block_thread()


def build_page(model: Model | OnnxModel) -> Any:  # noqa: ANN401 - gradio.Blocks
    """Return the page, not yet served; a UserError if gradio is not installed."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError:
        raise UserError("the demo page needs gradio; install it with pip install 'mtlsi-net[demo]'") from None
    about = model.about
    title = f"{about.get('network', 'Network')} on {about.get('backbone', 'its encoder')}"
    kept = tempfile.TemporaryDirectory(prefix="mtlsi_demo_")  # deleted with the page
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gradio.Markdown(f"## {title}\n\nLicences: {in_words(about.get('licences', {}))}")
        with gradio.Row():
            image = gradio.Image(type="filepath", label="image", height=320)
            with gradio.Column():
                views = isinstance(model, Model)  # a graph has one
                info = "sliding: large images also in windows"
                mode = gradio.Radio(["whole", "sliding"], value="whole", label="mode", info=info, visible=views)
                flip = gradio.Checkbox(False, label="average with the mirrored image", visible=views)
                button = gradio.Button("Predict", variant="primary", elem_id="predict")
                seen = gradio.Markdown(elem_id="seen")
                files = gradio.Files(label="results", interactive=False)
        outputs: list[Any] = [files, seen]
        with gradio.Row():
            for name in model.tasks:
                with gradio.Column(min_width=420):
                    outputs += [gradio.ImageSlider(label=name, max_height=SHOWN), gradio.HTML(elem_id=f"legend-{name}")]

        def predict(path: str | None, mode: str, flip: bool) -> list[Any]:
            try:
                return _predict(model, path, mode, Path(kept.name), flip=flip)
            except UserError as error:
                raise gradio.Error(str(error)) from None

        inputs = [image, mode, flip]
        button.click(predict, inputs, outputs, concurrency_limit=1)
        image.upload(predict, inputs, outputs, concurrency_limit=1)
    return page


def _predict(model: Model | OnnxModel, path: str | None, mode: str, root: Path, *, flip: bool) -> list[Any]:
    """Return the files to download, how the network saw the image, and for each task a pair of pictures and a legend."""
    if path is None:
        raise UserError("upload an image first")
    result = model.predict(read_image(Path(path)), mode=mode, flip=flip)
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=root))
    files = [str(f) for name, one in result.items() for f in write_result(one, folder / f"{Path(path).stem}_{name}")]
    before = _smaller(result.image)
    shown: list[Any] = [files, "Image of {}x{} pixels, {}.".format(*result.image.shape[:2], result.seen)]
    for one in result.values():
        shown += [(before, _smaller(one.pixels())), legend_html(one.legend())]
    return shown


def _smaller(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    image.thumbnail((SHOWN, SHOWN))
    return np.asarray(image)


def legend_html(legend: Legend) -> str:
    """Return a legend as a line of HTML."""
    if legend.bar is not None:
        stops = ", ".join(f"rgb({r},{g},{b})" for r, g, b in legend.bar[:: max(1, len(legend.bar) // 16)].tolist())
        bar = f'<span style="display:inline-block;width:12em;height:.8em;background:linear-gradient(90deg,{stops})"></span>'
        return f"{html.escape(legend.low)} {bar} {html.escape(legend.high)}"
    swatch = '<span style="display:inline-block;width:.8em;height:.8em;background:rgb({},{},{})"></span>'
    entries = (f"{swatch.format(*color)} {html.escape(name)}" for name, color in legend.entries)
    return " ".join(f'<span style="white-space:nowrap">{entry}</span>' for entry in entries)
