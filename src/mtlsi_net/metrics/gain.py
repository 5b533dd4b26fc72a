"""Relative gains over other networks, and skill over a constant, which summarise the scores of several tasks in one number."""

from collections.abc import Mapping

from mtlsi_net.core.errors import InputError


def relative_gain(value: float, reference: float, higher_is_better: bool) -> float:
    """Return (value - reference) / reference as a fraction, its sign turned so that positive means better.

    Raises:
        InputError: the reference is 0.
    """
    if reference == 0:
        raise InputError("relative gain: the reference score is 0; choose another reference run or leave the task out")
    gain = (value - reference) / reference
    return gain if higher_is_better else -gain


def delta_m(
    multi_task: Mapping[str, float], single_task: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> float:
    """Return Delta_m, the mean relative gain over single-task models of the same backbone, as a fraction (paper).

    Args:
        multi_task: task -> main score of the multi-task model.
        single_task: task -> the same score of the model trained for this task only.
        higher_is_better: task -> direction of the score.

    Raises:
        InputError: no task, a task missing from one of the three, or a reference of 0.

    Example:
        >>> single, multi = {"semseg": 0.5, "depth": 0.6}, {"semseg": 0.55, "depth": 0.57}
        >>> round(delta_m(multi, single, {"semseg": True, "depth": False}), 3)  # +10 % and 5 % less error
        0.075
    """
    if not multi_task:
        raise InputError("Delta_m: no tasks; give at least one")
    _check_names("Delta_m", "tasks", multi_task, single_task, higher_is_better)
    gains = [relative_gain(multi_task[name], single_task[name], higher_is_better[name]) for name in multi_task]
    return sum(gains) / len(gains)


def _check_names(
    what: str,
    items: str,
    multi_task: Mapping[str, float],
    single_task: Mapping[str, float],
    higher_is_better: Mapping[str, bool],
) -> None:
    """Raise an InputError unless all three have the same names."""
    for other, scores in (("single-task scores", single_task), ("directions", higher_is_better)):
        if set(scores) != set(multi_task):
            raise InputError(
                f"{what}: {other} cover the {items} {sorted(scores)}, but multi-task scores cover {sorted(multi_task)}"
            )


def delta_m_percent(
    multi_task: Mapping[str, float], single_task: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> float:
    """Return Delta m % as CAGrad, Nash-MTL and FAMO publish it: the mean relative loss over all scores, **negative is better**.

    Args:
        multi_task: score -> value of the multi-task model; several scores of one task count singly.
        single_task: the same of single-task models.
        higher_is_better: score -> its direction.

    Raises:
        InputError: as ``delta_m``.

    Example:
        >>> single, multi = {"mIoU": 0.5, "abs_err": 0.6}, {"mIoU": 0.55, "abs_err": 0.57}
        >>> round(delta_m_percent(multi, single, {"mIoU": True, "abs_err": False}), 3)
        -7.5
    """
    return -100 * delta_m(multi_task, single_task, higher_is_better)


def delta_p_percent(
    multi_task: Mapping[str, float], single_task: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> float:
    """Return Delta p % as LibMTL computes it: of each task the mean relative gain over its scores, averaged over tasks.

    Positive is better. Arguments and errors as ``delta_m_percent``; scores are named ``task/metric``.

    Example:
        >>> single = {"semseg/mIoU": 0.5, "semseg/acc": 0.8, "depth/abs_err": 0.6}
        >>> multi = {"semseg/mIoU": 0.55, "semseg/acc": 0.8, "depth/abs_err": 0.57}
        >>> round(delta_p_percent(multi, single, {"semseg/mIoU": True, "semseg/acc": True, "depth/abs_err": False}), 3)
        5.0
    """
    if not multi_task:
        raise InputError("Delta_p: no scores; give at least one")
    _check_names("Delta_p", "scores", multi_task, single_task, higher_is_better)
    gains: dict[str, list[float]] = {}
    for name, value in multi_task.items():
        gain = relative_gain(value, single_task[name], higher_is_better[name])
        gains.setdefault(name.partition("/")[0], []).append(gain)
    return 100 * sum(sum(own) / len(own) for own in gains.values()) / len(gains)


def skill_over_constant(value: float, constant: float, higher_is_better: bool) -> float:
    """Return the share of the constant prediction's error that a model removes (our choice).

    1 is perfect, 0 no better than the constant, below 0 worse. The error of a higher-is-better score is its distance
    from 1, the best value of every such score here; of the others it is the score itself. A constant without error
    gives 0 if the model has none either, else minus infinity; NaN stays NaN.
    """
    error, reference = (1 - value, 1 - constant) if higher_is_better else (value, constant)
    if reference == 0:
        return 0.0 if error == 0 else float("-inf")
    return 1 - error / reference
