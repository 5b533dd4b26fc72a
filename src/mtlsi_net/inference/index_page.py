"""Index page of predictions: every image's sheet, with links to its files."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from mtlsi_net.core.io import write_text

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem auto; max-width: 1500px; padding: 0 1rem; color: #222 }
figure { margin: 0 0 2rem } figure img { max-width: 100%; height: auto; border: 1px solid #ddd }
figcaption { margin-bottom: .3rem } figcaption b { margin-right: .8rem } figcaption a { margin-right: .6rem }
.skipped { color: #a00 }
"""


def write_page(
    path: Path, names: Sequence[str], tasks: Sequence[str], skipped: Mapping[str, str], *, pictures: bool
) -> None:
    """Write the HTML file, beside ``sheets/`` and ``pictures/``, of the results called ``names``.

    ``skipped``: file -> why it has no results. ``pictures``: whether each task also has a separate picture.
    """
    figures = "\n".join(_figure(name, tasks, pictures=pictures) for name in names)
    reasons = "".join(f'<li class="skipped">{html.escape(reason)}</li>' for reason in skipped.values())
    skipped_list = f"<h2>Skipped</h2><ul>{reasons}</ul>" if reasons else ""
    write_text(
        path,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Predictions</title><style>{STYLE}</style>'
        f"<h1>{len(names)} image{'s' * (len(names) != 1)}</h1>{skipped_list}{figures}</html>\n",
    )


def _figure(name: str, tasks: Sequence[str], *, pictures: bool) -> str:
    folder = "pictures/" if pictures else ""
    links = "".join(f'<a href="{quote(f"{folder}{name}_{task}.png")}">{html.escape(task)}</a>' for task in tasks)
    sheet = quote(f"sheets/{name}.png")
    return (
        f"<figure><figcaption><b>{html.escape(name)}</b>{links}</figcaption>"
        f'<a href="{sheet}"><img loading="lazy" src="{sheet}" alt="{html.escape(name)}"></a></figure>'
    )
