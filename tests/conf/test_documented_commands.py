"""Every command that README, documentation, experiments and help show, composed; those that other tests run are run there."""

import re
import shlex
from pathlib import Path

import pytest
from helpers.documents import documents
from helpers.miniature import compose_config
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override

from mtlsi_net.cli.help import help_text

ROOT = Path(__file__).parents[2]
PAGES = [*documents(), *(ROOT / "experiments").glob("*/README.md"), *(ROOT / "experiments").glob("*/run.sh")]
MODULES = {path.stem for path in (ROOT / "conf").glob("*.yaml")}
OWN_FILES = ("--config-dir", "model=my_decoder", "my_model.")
"""Of commands that need files or packages of the reader's; other tests run these."""


def commands(text):
    """Yield module and settings of a text's commands; in scripts, variables that hold settings are put in."""
    values = dict(re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE))
    for line in re.findall(
        r"^ *(?:torchrun [^|]*? -m|python -m) mtlsi_net\.(\w+ .*)$", text.replace("\\\n", " "), re.MULTILINE
    ):
        for name, value in values.items():
            line = line.replace(f"${name}", value)
        line = re.sub(r"<[^>]+>", "place", line.replace('"$@"', ""))  # <experiment>, <time>
        module, *words = shlex.split(line, comments=True)
        yield module, [word for word in words if word != "-m"]


FOUND = [
    pytest.param(module, words, id=f"{page.relative_to(ROOT)}-{number}-{module}")
    for page in sorted(PAGES)
    for number, (module, words) in enumerate(commands(page.read_text()))
    if not any(own in " ".join(words) for own in (*OWN_FILES, "$"))
]
EXAMPLES = [
    pytest.param(module, words, id=f"help-{number}-{module}")
    for name in sorted(path.stem for path in (ROOT / "conf").glob("[!_]*.yaml"))
    for number, (module, words) in enumerate(commands(help_text(name).partition("Examples:")[2].partition("\n\n")[0]))
]


DIFFERENT = {(own.values[0], *own.values[1]): own for own in [*EXAMPLES, *FOUND]}
"""Each command once, however often it is shown."""


def test_commands_are_found():
    assert len(FOUND) > 70
    assert len(EXAMPLES) == 3 * len(MODULES - {"_entry"})
    assert {own.values[0] for own in FOUND} <= MODULES


@pytest.mark.parametrize(("module", "words"), DIFFERENT.values())
def test_every_command_composes(module, words):
    swept = [own for own in OverridesParser.create().parse_overrides(words) if own.is_sweep_override()]
    names = {own.key_or_group for own in swept}
    launcher = "hydra"  # its own settings are composed with the launchers
    plain = [word for word in words if word.partition("=")[0] not in names and not word.startswith(launcher)]
    for number in {0, -1} if swept else {0}:  # all first choices together, and all last ones
        compose_config(*plain, *(choices(own)[number] for own in swept), name=module)


def choices(own: Override):
    """Return the first and the last word that a swept setting stands for."""
    if isinstance(own.value(), Glob):  # of ablations, which are composed one by one elsewhere
        return [f"{own.key_or_group}=full"]
    found = [f"{own.key_or_group}={value}" for value in own.sweep_string_iterator()]
    return found[:: max(1, len(found) - 1)]
