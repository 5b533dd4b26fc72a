"""The demo page in a real browser: an image goes in, every task's result comes out."""

import sys

import pytest
from helpers.browser import BROWSER, open_page
from helpers.miniature import compose_config
from PIL import Image

import mtlsi_net
from mtlsi_net.core.errors import UserError
from mtlsi_net.inference import demo

LEGEND = "document.querySelector('#legend-depth').innerText.includes(' m')"
PICTURES = "[...document.querySelectorAll('img')].filter(i => i.naturalWidth == 70 && i.naturalHeight == 50).length"


@pytest.fixture(scope="module")
def checkpoint(trained):
    return trained.checkpoint


def upload_until(tab, path, done):
    """Choose a file until the page reacts: its elements are there before they listen."""
    for _ in range(6):
        if tab.evaluate("document.querySelector('input[type=file]') !== null"):
            tab.upload("input[type=file]", path)
        if tab.becomes(done, 20):
            return
    raise AssertionError(tab.evaluate("document.body.innerText"))


@pytest.mark.skipif(BROWSER is None, reason="no chromium (apt-get install chromium, or MTLSI_BROWSER=...)")
def test_an_image_goes_in_and_all_tasks_come_out(checkpoint, tmp_path):
    Image.effect_mandelbrot((70, 50), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(tmp_path / "x.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "x.png").read_bytes()[:100])
    page = demo.build_page(mtlsi_net.load(checkpoint, tasks=["depth", "boundary"], device="cpu"))
    page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        with open_page(page.local_url, tmp_path / "profile") as tab:
            tab.wait_for("document.querySelector('#predict') && document.querySelector('input[type=file]')")
            assert "Licences: backbone" in tab.evaluate("document.body.innerText")
            upload_until(tab, tmp_path / "x.png", LEGEND)
            tab.wait_for(f"{PICTURES} >= 5")  # the image, and a pair for each task
            assert "x_depth" in tab.evaluate("document.body.innerText")  # a file to download
    finally:
        page.close()


def test_a_page_that_cannot_be(checkpoint, tmp_path, monkeypatch):
    model = mtlsi_net.load(checkpoint, device="cpu")
    with pytest.raises(UserError, match="upload an image first"):
        demo._predict(model, None, "whole", tmp_path, flip=False)
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(UserError, match=r"bad\.png is not an image"):
        demo._predict(model, str(tmp_path / "bad.png"), "whole", tmp_path, flip=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match="pip install 'mtlsi-net\\[demo\\]'"):
        demo.build_page(model)


def test_a_port_in_use_is_told(checkpoint, monkeypatch):
    class Page:
        def launch(self, **_):
            raise OSError("Cannot find empty port in range: 7860-7860")

    monkeypatch.setattr(demo, "build_page", lambda model: Page())  # noqa: ARG005
    with pytest.raises(UserError, match="port=7860 cannot be used"):
        demo.serve(compose_config(f"ckpt={checkpoint}", "port=7860", "device=cpu", name="demo"))
