"""Parameters as Stripe takes them: forms with brackets in names, checked against stripe-python's own typed dictionaries.

An unknown, missing or mistyped parameter is refused as Stripe refuses it, so what passes here has the shape of the real API.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Mapping
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin
from urllib.parse import parse_qsl

import typing_extensions
from stripe._request_options import RequestOptions

_PART = re.compile(r"\[([^\]]*)\]")
_INTEGER = re.compile(r"-?\d+")
# Those of a request, not of its form.
_OPTIONS = frozenset(RequestOptions.__annotations__)
_BOOLEANS = {"true": True, "false": False}


class Refused(Exception):
    """An error as Stripe answers it."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


def parse_form(body: str) -> dict[str, Any]:
    """Nested values of `a[b]=1&c[0][d]=2`; lists are dictionaries of numbers turned into lists."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(body, keep_blank_values=True):
        parts = [name.partition("[")[0], *_PART.findall(name)]
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = value
    return {name: _as_lists(value) for name, value in tree.items()}


def _as_lists(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [_as_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _as_lists(each) for key, each in value.items()}


def check(shape: Any, values: Mapping[str, Any], path: str = "") -> dict[str, Any]:  # noqa: ANN401 - a TypedDict class
    """The values in the types of a typed dictionary.

    Raises:
        Refused: 400, a parameter is unknown, missing or of another type.
    """
    names = [name for name in shape.__annotations__ if path or name not in _OPTIONS]
    for name in values:
        if name not in names:
            shown = f"{path}[{name}]" if path else name
            raise Refused(400, f"Received unknown parameter: {shown}", code="parameter_unknown", param=shown)
    for name in sorted(shape.__required_keys__ & set(names) - set(values)):
        shown = f"{path}[{name}]" if path else name
        raise Refused(400, f"Missing required param: {shown}.", code="parameter_missing", param=shown)
    namespace = vars(sys.modules[shape.__module__])
    return {
        name: _coerce(shape.__annotations__[name], value, f"{path}[{name}]" if path else name, namespace)
        for name, value in values.items()
    }


def _coerce(kind: Any, value: Any, path: str, namespace: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if isinstance(kind, ForwardRef):
        kind = kind.__forward_arg__
    if isinstance(kind, str):
        return _coerce(eval(kind, dict(namespace)), value, path, namespace)  # noqa: S307 - stripe-python's own source
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is typing_extensions.NotRequired:
        return _coerce(arguments[0], value, path, namespace)
    if origin in (Union, types.UnionType):
        return _first_that_fits(arguments, value, path, namespace)
    if origin is Literal and value in arguments:
        return value
    if origin is list and isinstance(value, list):
        return [_coerce(arguments[0], each, f"{path}[{n}]", namespace) for n, each in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _coerce(arguments[1], each, f"{path}[{key}]", namespace) for key, each in value.items()}
    if typing_extensions.is_typeddict(kind) and isinstance(value, dict):
        return check(kind, value, path)
    if isinstance(value, str):
        return _scalar(kind, value, path)
    raise _invalid(path, value)


def _first_that_fits(kinds: tuple[Any, ...], value: Any, path: str, namespace: Mapping[str, Any]) -> Any:  # noqa: ANN401
    refusal = _invalid(path, value)
    for kind in kinds:
        try:
            return _coerce(kind, value, path, namespace)
        except Refused as error:
            # What a dictionary says about its own keys tells more than that none of the kinds fits.
            refusal = error if isinstance(value, dict) and error.code != "parameter_invalid" else refusal
    raise refusal


def _scalar(kind: Any, value: str, path: str) -> Any:  # noqa: ANN401
    if kind is str:
        return value
    if kind is int and _INTEGER.fullmatch(value):
        return int(value)
    if kind is bool and value in _BOOLEANS:
        return _BOOLEANS[value]
    if getattr(kind, "__name__", "") in ("Decimal", "float"):
        return value
    raise _invalid(path, value)


def _invalid(path: str, value: object) -> Refused:
    return Refused(400, f"Invalid {path}: {str(value)[:100]}", code="parameter_invalid", param=path)
