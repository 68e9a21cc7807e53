"""Options of the command line, made from the models of :mod:`reben_dask.options`."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from reben_dask.options import Flag, Options

Decorator = Callable[[Any], Any]


def model_options(model: type[Options], *names: str) -> Decorator:
    """Decorate a command with an option for each field of a model, or for some of them."""

    def decorate(command: Any) -> Any:
        for name in reversed(names or tuple(model.model_fields)):
            command = _option(name, model.model_fields[name])(command)
        return command

    return decorate


def flag_of(name: str, field: FieldInfo) -> str:
    """Return the option of a field, such as ``--s1-pairs``."""
    return f"--{_flag(field).name or name.replace('_', '-')}"


def _option(name: str, field: FieldInfo) -> Decorator:
    if field.annotation is bool:
        return click.option(flag_of(name, field), name, is_flag=True, default=field.default, help=field.description)
    is_many = get_origin(field.annotation) in (tuple, dict)
    default = None if field.is_required() or is_many else field.default
    return click.option(
        flag_of(name, field),
        name,
        type=_type(field),
        multiple=is_many,
        required=field.is_required(),
        default=default,
        show_default=default is not None,
        metavar=_flag(field).metavar,
        help=field.description,
    )


def _flag(field: FieldInfo) -> Flag:
    return next((item for item in field.metadata if isinstance(item, Flag)), Flag())


def _type(field: FieldInfo) -> Any:
    kinds = list(_leaves(field.annotation))
    if choices := [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]:
        return click.Choice(choices)
    if Path in kinds:
        return click.Path(path_type=Path)
    return click.IntRange(min=1) if int in kinds else str


def _leaves(annotation: Any) -> Iterator[Any]:
    """Member types of a union, tuple or annotated type."""
    if get_origin(annotation) is Literal or not (parts := get_args(annotation)):
        yield annotation
        return
    for part in parts:
        # Others are constraints, such as "at least 1", and the end of a tuple of any length.
        if part is not types.NoneType and (isinstance(part, type) or get_origin(part)):
            yield from _leaves(part)
