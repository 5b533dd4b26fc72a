"""The documentation: pages made from the code name everything, and quoted messages are those that the code prints."""

import ast
import re
import runpy
from functools import cache
from pathlib import Path

import pytest
import yaml
from helpers.documents import GENERATED, ROOT, documents

import mtlsi_net
from mtlsi_net.__main__ import commands

CONF, DOCS = ROOT / "conf", ROOT / "docs"
TOOL = runpy.run_path(str(ROOT / "tools" / "docs_pages.py"))
OTHERS_MESSAGES = {"operator torchvision::nms does not exist", "CUDA out of memory"}


def test_the_page_of_commands_has_every_command_and_setting():
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TOOL["commands_page"](), re.MULTILINE | re.DOTALL))
    assert set(sections) == set(commands())
    for name, text in sections.items():
        keys = yaml.safe_load((CONF / f"{name}.yaml").read_text()).keys() - {"defaults", "hydra"}
        assert all(re.search(rf"^{key}:", text, re.MULTILINE) for key in keys), name
    assert "`task_weights=fixed`](groups.md#task_weights)" in sections["train"]


def test_the_page_of_groups_has_every_choice_with_its_file():
    sections = re.findall(r"^## (\S+) \{ #(\S+) \}\n(.*?)(?=^## |\Z)", TOOL["groups_page"](), re.MULTILINE | re.DOTALL)
    found = {
        f"{group}/{choice}" for group, _, text in sections for choice in re.findall(r'^\?\?\? note "(\w+)', text, re.M)
    }
    files = {file.relative_to(CONF).with_suffix("").as_posix() for file in CONF.glob("*/**/[!_]*.yaml")}
    assert found == {name for name in files if not name.startswith("hydra/job_logging")}
    assert {anchor for _, anchor, _ in sections} >= {"backbone", "model-fusion"}


def test_the_python_pages_have_every_name_of_the_library():
    pages = dict(TOOL["api_pages"]())
    found = re.findall(r"^::: (\S+)", "\n".join(pages.values()), re.MULTILINE)
    assert {name.rpartition(".")[2] for name in found} == {*mtlsi_net.__all__, "losses"}


def test_every_page_is_in_the_navigation():
    nav = set(re.findall(r"^ .*?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    by_hand = {page.relative_to(DOCS).as_posix() for page in documents()[1:]}
    assert {page for page in nav if not page.startswith(GENERATED)} == by_hand
    assert all((ROOT / source).is_file() for source in TOOL["PICTURES"].values())


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    links = set(re.findall(r"\]\(([^)#]+)[^)]*\)", text))
    assert not [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]


@cache
def messages() -> list[str]:
    """Return all strings of the package; what is filled in is a zero byte."""
    texts = []
    for file in Path(mtlsi_net.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def quoted() -> list[str]:
    """Return the messages in the first cells of the page on troubleshooting."""
    text = (DOCS / "troubleshooting.md").read_text()
    return re.findall(r"^\| `([^|]+)` \|", text, re.MULTILINE)


def test_thirty_messages_are_explained():
    rows = re.findall(r"^\| (?!---|message)", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(rows) >= 30
    assert len(quoted()) >= 25
    assert set(quoted()) >= OTHERS_MESSAGES


@pytest.mark.parametrize("message", [message for message in quoted() if message not in OTHERS_MESSAGES])
def test_a_quoted_message_is_printed_by_the_code(message):
    pieces = [re.escape(piece) for piece in message.split("...")]
    pattern = re.compile(".*?".join(pieces).replace(r"\(.*?\)", r"\(.*?\)"), re.DOTALL)
    assert any(pattern.search(text) for text in messages()), message
