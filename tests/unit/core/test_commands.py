import shlex

from mtlsi_net.core.commands import command_line, compare_line, data_words


def test_a_shell_reads_the_line_as_it_was_meant():
    words = ["ckpt=outputs/my run", "runs=outputs/*/*", "tasks=[depth,normals]", "x='y'"]
    assert shlex.split(command_line("predict", *words)) == ["python", "-m", "mtlsi_net.predict", *words]
    assert command_line("predict", "ckpt=outputs/a") == "python -m mtlsi_net.predict ckpt=outputs/a"
    assert shlex.split(compare_line("a b"))[2:] == ["mtlsi_net.compare", "runs=[a b,OTHER_RUN]"]


def test_words_about_data_are_kept_for_the_next_command():
    line = "python -m mtlsi_net.verify_data --config-dir my_conf data=kitchens data.root=here ~tasks.depth"
    kept = ["--config-dir", "my_conf", "data=kitchens", "data.root=here", "~tasks.depth"]
    more = [
        "workers=2",
        "manifest=data",
        "--cfg",
        "job",
        "-cd",
        "other",
        "+data.x=1",
        "task_set=nyud",
        "--config-dir=z",
    ]
    assert data_words([*line.split(), *more]) == [*kept, "-cd", "other", "+data.x=1", "task_set=nyud", "--config-dir=z"]
    assert data_words(["python", "-m", "pytest"]) == []
