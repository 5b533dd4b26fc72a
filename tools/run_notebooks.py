"""Run the notebooks anew and save them with small outputs: ``python tools/run_notebooks.py [NOTEBOOK ...]``.

Drawings become PNGs of 64 colours, photographs JPEGs; times and the machine's own versions go.
"""

import base64
import os
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parents[1] / "notebooks"
WIDEST = 800
"""Pixels of a picture; larger ones are reduced."""
MOST_COLORS = 10_000
"""Of a drawing, its soft edges included."""
TIMEOUT = 900
"""Seconds that a cell may take."""

Notebook = Any
"""A ``nbformat.NotebookNode``, which has no types."""


def execute(path: Path, cwd: Path) -> Notebook:
    """Return a notebook after all of its cells were run in the folder ``cwd``.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        record_timing=False,
        resources={"metadata": {"path": str(cwd)}},
    )
    return client.execute(env={**os.environ, "PYTHONWARNINGS": "ignore:IProgress not found"})  # tqdm's, without widgets


def slim(notebook: Notebook) -> None:
    """Make the outputs of an executed notebook small, and drop what tells only of this run and machine."""
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for data in (own.get("data", {}) for own in cell.get("outputs", [])):
            for given in ("image/png", "image/jpeg"):
                if given in data:
                    kind, picture = small_picture(base64.b64decode(data.pop(given)))
                    data[kind] = base64.b64encode(picture).decode()
                    break


def small_picture(content: bytes) -> tuple[str, bytes]:
    """Return MIME type and content of a picture of at most ``WIDEST`` columns: a drawing as PNG, a photograph as JPEG."""
    picture, small = Image.open(BytesIO(content)).convert("RGB"), BytesIO()
    picture.thumbnail((WIDEST, 10 * WIDEST))
    if picture.getcolors(MOST_COLORS) is None:
        picture.save(small, "JPEG", quality=75)
        return "image/jpeg", small.getvalue()
    picture.quantize(64).save(small, "PNG", optimize=True)
    return "image/png", small.getvalue()


def main(paths: list[Path]) -> None:
    """Run and save each notebook."""
    for path in paths or sorted(FOLDER.glob("*.ipynb")):
        notebook = execute(path, path.parent)
        slim(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
