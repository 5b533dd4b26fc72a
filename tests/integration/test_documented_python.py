"""Every Python block of README and documentation, run; what ``print`` shows is what the comment behind it says."""

import re
from pathlib import Path

import pytest
from helpers.clips import write_clip
from helpers.documents import ROOT, blocks, documents
from PIL import Image

RUN = "outputs/rooms_demo/2026-01-31_12-00-00"
"""The run folder that the pages name."""


def python_blocks(page):
    """Return a page's blocks, but for those that are files, which other tests write and use."""
    return [block for block in blocks(page.read_text(), "python") if not re.match(r"# \S+\.py\n", block)]


PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in documents() if python_blocks(page)]


def test_blocks_are_found():
    assert len(PAGES) > 4


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "kitchens/images"):
        Path(folder).mkdir(parents=True)
    for path in ("photo.jpg", "photos/1.jpg", "photos/2.jpg", "kitchens/images/1.jpg"):
        Image.effect_mandelbrot((90, 70), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(path)
    write_clip("clip.mp4", frames=2)
    names = {"__name__": "page"}
    for block in python_blocks(page):
        capsys.readouterr()
        exec(compile(block.replace(RUN, str(trained.run.root)), str(page), "exec"), names)
        said = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == said
