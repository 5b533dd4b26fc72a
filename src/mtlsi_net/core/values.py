"""Check of a configuration's values against the annotations of the constructors that take them."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mtlsi_net.core.errors import UserError

SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
MANY = {bool: "true or false", int: "whole numbers", float: "numbers", str: "texts"}
LENGTH = 80
"""Characters of a value that a message shows."""
MISSING = "???"


def check_values(node: Any, key: str, find: Callable[[str], Any]) -> None:  # noqa: ANN401 - any part of a configuration
    """Raise a UserError if a value of a ``_target_`` node, or of one below it, is none that its constructor takes.

    Args:
        node: mappings, lists and plain values, resolved.
        key: of the node, with which messages start.
        find: dotted name -> class or function, None if it does not exist; such nodes are not checked.
    """
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    if not isinstance(node, Mapping):
        return
    target = find(str(node["_target_"])) if "_target_" in node else None
    annotations = {} if target is None else _annotations(target)
    for name, value in node.items():
        path = f"{key}.{name}".lstrip(".")
        if name in annotations and not str(name).startswith("_"):
            check_value(value, annotations[name], path)
        check_values(value, path, find)


def check_value(value: Any, annotation: Any, key: str) -> None:  # noqa: ANN401 - any value and type
    """Raise a UserError unless a setting's value is what its annotation says; what is built later is not looked at."""
    if _is_built(value) or value == MISSING:
        return
    inner = _values_of_mapping(annotation)
    if isinstance(value, Mapping) and inner is not None:
        for name, part in value.items():
            check_value(part, inner, f"{key}.{name}")
        return
    adapter = _adapter(_strict(annotation))
    if adapter is None:
        return
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        kinds = {problem["type"] for problem in error.errors()}
        wanted = describe(annotation)
        problem = _problem(value, kinds, "list" in wanted)
        raise UserError(f"{key}={shown_value(value)} {problem}; give {wanted}") from None


def shown_value(value: Any) -> str:  # noqa: ANN401
    """Return a value as a command line has it, shortened if it is long."""
    if isinstance(value, list | tuple):
        text = f"[{','.join(map(shown_value, value))}]"
    elif isinstance(value, Mapping):
        text = "{" + ",".join(f"{name}: {shown_value(part)}" for name, part in value.items()) + "}"
    else:
        text = {None: "null", True: "true", False: "false"}.get(value, str(value)) if _is_word(value) else str(value)
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 3]}..."


def describe(annotation: Any) -> str:  # noqa: ANN401
    """Return what values an annotation stands for, in words: ``a whole number of at least 0, or null``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        parts = [part for part in arguments if not (part is int and float in arguments)]
        return " or ".join(dict.fromkeys(describe(part) for part in parts))
    if origin is Annotated:
        return describe(arguments[0]) + _limits(arguments[0], arguments[1:])
    if origin is Literal:
        return " or ".join(shown_value(value) for value in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)} {_many(arguments[0])}"
    if _values_of_mapping(annotation) is not None:
        return "a mapping {name: value} to " + _many(_values_of_mapping(annotation))
    if arguments and _is_sequence(origin):
        return f"a list of {_many(arguments[0])}"
    if annotation in SCALARS:
        return SCALARS[annotation]
    if annotation is None:
        return "null"
    if annotation is Path:
        return "a path"
    return "a node with _target_"


def _is_word(value: Any) -> bool:  # noqa: ANN401
    return value is None or isinstance(value, bool)


def _is_built(value: Any) -> bool:  # noqa: ANN401
    """Say whether an object is built from a value, or from a part of it, before the constructor gets it."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_is_built, value.values()))
    return any(map(_is_built, value)) if isinstance(value, list | tuple) else False


def _is_sequence(origin: Any) -> bool:  # noqa: ANN401
    return getattr(origin, "__name__", "") in ("list", "tuple", "Sequence", "Iterable", "Collection")


def _values_of_mapping(annotation: Any) -> Any:  # noqa: ANN401
    """Return the annotation of a mapping's values, also of one that may be null; None if it is no mapping."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        found = [inner for part in arguments if (inner := _values_of_mapping(part)) is not None]
        return found[0] if found else None
    is_mapping = origin is dict or getattr(origin, "__name__", "") == "Mapping"
    return arguments[1] if is_mapping and len(arguments) == 2 else None


def _many(annotation: Any) -> str:  # noqa: ANN401
    """Return the plural of ``describe``."""
    if get_origin(annotation) is Annotated:
        base, *limits = get_args(annotation)
        return _many(base) + _limits(base, limits)
    return MANY.get(annotation, "values") if not get_args(annotation) else f"({describe(annotation)})"


def _limits(base: Any, metadata: Any) -> str:  # noqa: ANN401
    """Return the range that annotations set: `` of at least 0``, or nothing."""
    flat = [part for entry in metadata for part in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
    words = []
    for part in flat:
        if (low := getattr(part, "ge", None)) is not None:
            words.append(f"of at least {low}")
        if (low := getattr(part, "gt", None)) is not None:
            words.append(f"of at least {low + 1}" if base is int else f"above {low}")
        if (high := getattr(part, "le", None)) is not None:
            words.append(f"at most {high}")
        if (high := getattr(part, "lt", None)) is not None:
            words.append(f"below {high}")
    return " " + " and ".join(words) if words else ""


def _problem(value: Any, kinds: set[str], takes_list: bool) -> str:  # noqa: ANN401
    """Return what is wrong with a value, by the kinds of pydantic's errors."""
    if kinds & {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return "is out of range"
    if "literal_error" in kinds and isinstance(value, str):
        return "is not known"
    if isinstance(value, list | tuple):
        return "does not fit" if takes_list else "is a list"
    if isinstance(value, Mapping):
        return "is a mapping"
    return f"is {SCALARS.get(type(value), type(value).__name__)}" if value is not None else "is no value"


@cache
def _annotations(target: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the annotations of a constructor's or function's parameters, as far as they can be evaluated.

    What a constructor takes as ``**options`` goes to the next one in the order of base classes.
    """
    is_class = inspect.isclass(target)
    try:
        parameters = inspect.signature(target).parameters
        hints = get_type_hints(target.__init__ if is_class else target, include_extras=True)
    except (NameError, TypeError, ValueError, AttributeError):
        return {}
    kinds = {name: one.kind for name, one in parameters.items()}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    own = {name: hints[name] for name, kind in kinds.items() if kind not in variable and name in hints}
    if not is_class or inspect.Parameter.VAR_KEYWORD not in kinds.values():
        return own
    _, *bases = [owner for owner in target.__mro__ if "__init__" in vars(owner)]
    passed_on = _annotations(bases[0]) if bases else {}
    return own | {name: annotation for name, annotation in passed_on.items() if name not in kinds}


def _strict(annotation: Any) -> Any:  # noqa: ANN401
    """Return an annotation that takes no text for a number, no number for a truth value, and so on."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (bool, int, float, str):
        return Annotated[annotation, Strict()]
    if origin in (Union, UnionType):
        return Union[tuple(map(_strict, arguments))]  # noqa: UP007 - of parts that are not written here
    if origin is Annotated:
        return Annotated[(_strict(arguments[0]), *arguments[1:])]
    if _is_sequence(origin) and arguments:
        return origin[tuple(part if part is Ellipsis else _strict(part) for part in arguments)]
    return annotation


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:  # noqa: ANN401
    """Return pydantic's check of an annotation; None if it knows none."""
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # of other people's types: pydantic raises many kinds
        return None
