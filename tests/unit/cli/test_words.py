"""Words of a command line, as Hydra's own parser reads them afterwards."""

import os

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from mtlsi_net.cli.words import hydra_words
from mtlsi_net.core.errors import UserError

GROUPS = {"experiment": "null", "ablation": "[]", "logger": "csv", "data": "rooms"}
NAMES = (
    *("a b", "a=1,b", "[x] y", "[x].png", "a,b", "#1 (2)", "it's", 'say "hi"', "über/ä", "$5", "100%", "wow!", "a;b&c"),
    *("back\\slash", "end\\", "{x}", "2024", "007", "1e5", "true", " lead", "trail ", "a:b", "x*[0-9].png", "C:\\d\\"),
    *("'quoted' once", "\\'", "a|b", "`x`", "@", "日本", "new\nline", "${paths.output_dir}/x=1"),
)


def read(word):
    return OverridesParser.create().parse_override(word).value()


def words(*given):
    return hydra_words(given, GROUPS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["input", "out", "+data.cache_dir"])
def test_a_path_reaches_hydra_as_it_is(key, name):
    (word,) = words(f"{key}={name}")
    assert read(word) == name


@pytest.mark.parametrize("name", ["[a]", "{a:b}", "${b}", "~", "'q'"])
def test_a_file_that_exists_is_meant_whatever_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    (word,) = words(f"input={name}")
    assert read(word).replace("\\${", "${") == name


def test_home_is_expanded():
    assert words("ckpt=~/runs/a=1") == [f"ckpt='{os.path.expanduser('~')}/runs/a=1'"]


@pytest.mark.parametrize(
    "word",
    [
        *("ckpt=runs/last.ckpt", "data.root='/a, b'", "input=null", "seed=1", "~tasks.depth", "runs=[a,b]", "out="),
        *("optim.lr=1e-3", "model.options.out=3", "input=[a.png,b.png]", "experiment=rooms_demo", "ckpt=${x}"),
    ],
)
def test_all_else_stays_as_it_is(word):
    assert words(word) == [word]


def test_lists_of_paths_are_quoted_one_by_one():
    assert words("runs=[a=1, b (2),'c,d']") == ["runs=['a=1','b (2)','c,d']"]
    assert words("data.files.image=[photos #1,.jpg]") == ["data.files.image=['photos #1',.jpg]"]


def test_commas_of_a_sweep_separate_choices():
    assert words("-m", "data.root=/a=1,/b,'/c,d'") == ["-m", "data.root='/a=1',/b,'/c,d'"]
    assert words("-m", "ckpt=glob(*)", "seed=1,2") == ["-m", "ckpt=glob(*)", "seed=1,2"]
    assert words("data.root=/a,/b") == ["data.root='/a,/b'"]


def test_an_option_and_its_value_are_left_alone():
    assert words("--config-dir", "my=conf #1", "--cfg", "job") == ["--config-dir", "my=conf #1", "--cfg", "job"]


def test_no_choice_of_a_group_is_null():
    assert words("experiment=null", "+ablation=null", "logger=null") == ["~logger"]
    with pytest.raises(UserError, match="data=null: a data is needed"):
        words("data=null")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("photo.png", "'photo.png' is not a setting; settings have the form key=value"),
        ("optim.lr=a=b", "quotes, as in \"optim.lr='a=b'\""),
        ("tasks.semseg.classes=[a&b]", "put texts with such characters in quotes"),
    ],
)
def test_a_word_that_hydra_cannot_read_is_told_in_one_line(word, message):
    with pytest.raises(UserError) as told:
        words(word)
    assert message in str(told.value)
