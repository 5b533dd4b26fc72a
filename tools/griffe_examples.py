"""Extension of griffe: docstrings' ``Example:`` sections are shown as code, as ``Examples:`` are."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the sections while mkdocstrings reads the package; the project's docstrings have one example each."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401 - griffe's signature
        """Rename the section in an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
