"""Arguments of public functions: a call that does not fit the signature is refused in one line."""

from __future__ import annotations

import inspect
import numbers
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import IO, Any, BinaryIO, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from tts_infer.errors import InputTypeError, few

Fn = TypeVar("Fn", bound=Callable[..., Any])
T = TypeVar("T")

# What Python's numeric types stand for in a signature: numpy's numbers, too.
_NUMBERS: dict[Any, Any] = {int: numbers.Integral, float: numbers.Real, bool: (bool, np.bool_)}
_WORDS = {"NoneType": "None", "ndarray": "array", "PathLike": "path", "int": "whole number", "float": "number"}
_MARK = "refuses_misfits"  # of a function whose calls are checked already
_OPEN = (Any, inspect.Parameter.empty, object, BinaryIO, IO)  # of open files, the functions that read them say more


def checked(*names: str) -> Callable[[Fn], Fn]:
    """Decorate a public function: a call that does not fit its signature, or an argument of another kind than its
    annotation states, is refused.

    Kinds only: whether a number is in range, and which texts are known, the function says itself. Not for functions
    that are called for every frame: a call takes some microseconds more.

    Args:
        names: parameters to look at; none: all of them.
    """

    def decorated(function: Fn) -> Fn:
        @cache  # evaluated at the first call, when every module is there
        def looked_at() -> list[tuple[int, str, Any]]:
            """The place, name and annotation of each parameter."""
            parameters = enumerate(inspect.signature(function, eval_str=True).parameters.values())
            single = [(i, one) for i, one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
            return [
                (sys.maxsize if one.kind is one.KEYWORD_ONLY else i, one.name, one.annotation)
                for i, one in single
                if one.name in names or not names
            ]

        @wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            for place, name, annotation in looked_at():
                if place < len(given):
                    _require(_name(function), name, annotation, given[place])
                elif name in named:
                    _require(_name(function), name, annotation, named[name])
            return refusing(*given, **named)

        refusing = _refusing(function)
        return _marked(call)

    return decorated


def called_as_stated(public: T) -> T:
    """Make a call that does not fit the signature raise a package error: of a function, or of the methods of a class.

    `tts_infer` does so with its public names. A call that fits costs next to nothing more. Exceptions, and what is no
    function and no class, stay as they are; so do `forward` of a torch module, which torch calls and traces, and what
    is awaited, whose kind servers look at.
    """
    if inspect.isfunction(public):
        return cast(T, _refusing(public))
    if isinstance(public, type) and not issubclass(public, BaseException):
        for kind in public.__mro__:
            if kind.__module__.partition(".")[0] == __package__:
                _make_methods_refuse(kind)
    return public


def _make_methods_refuse(kind: type) -> None:
    for name, method in list(vars(kind).items()):
        if (name.startswith("_") and name not in ("__init__", "__call__")) or name == "forward":
            continue
        if inspect.isfunction(method):
            setattr(kind, name, _refusing(method))
        elif isinstance(method, classmethod):
            setattr(kind, name, classmethod(_refusing(method.__func__)))


def _refusing(function: Fn) -> Fn:
    if getattr(function, _MARK, False) or inspect.iscoroutinefunction(function):
        return function

    @wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except TypeError:
            _bound(inspect.signature(function), function, given, named)
            raise

    return _marked(call)


def _marked(function: Callable[..., Any]) -> Any:
    """The function, with a note that it refuses calls that do not fit."""
    setattr(function, _MARK, True)
    return function


def _bound(
    signature: inspect.Signature, function: Callable[..., Any], given: tuple[Any, ...], named: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a call by name.

    Raises:
        InputTypeError: the call does not fit.
    """
    try:
        return signature.bind(*given, **named).arguments
    except TypeError as error:
        others = [name for name in named if name not in signature.parameters]
        got = f" (got {few(others)})" if others and str(error).startswith("missing") else ""
        text, takes = "{function}: {reason}; it takes {takes}", ", ".join(_parameters(signature)) or "no arguments"
        reason = f"{error}{got}"
        raise InputTypeError(
            text, code="arguments-misfit", function=_name(function), reason=reason, takes=takes
        ) from None


def _parameters(signature: inspect.Signature) -> list[str]:
    """The names of parameters, as Python writes them."""
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [stars.get(one.kind, "") + name for name, one in signature.parameters.items() if name not in ("self", "cls")]


def _name(function: Callable[..., Any]) -> str:
    return function.__qualname__.removesuffix(".__init__").removesuffix(".__call__")


def require_fields(instance: Any) -> None:
    """The same for the fields of a dataclass, in its `__post_init__`."""
    for name, annotation in get_type_hints(type(instance)).items():
        _require(type(instance).__name__, name, annotation, getattr(instance, name))


def _require(function: str, name: str, annotation: Any, value: Any) -> None:
    if not admits(annotation, value):
        text = "{function}: {name} is a {got}; expected {expected}"
        got, expected = type(value).__name__, said(annotation)
        raise InputTypeError(
            text, code="argument-kind", function=function, name=name, got=got, expected=expected
        )  # fmt: skip


def admits(annotation: Any, value: Any) -> bool:
    """Whether a value is of the kind that an annotation states. What has no kind at run time admits everything."""
    if annotation in _OPEN or isinstance(annotation, TypeVar):
        return True
    if annotation in _NUMBERS:
        return isinstance(value, _NUMBERS[annotation]) and (annotation is bool or not isinstance(value, bool))
    parts = get_args(annotation)
    kind = get_origin(annotation) or (type(None) if annotation is None else annotation)
    if kind in (Union, types.UnionType):
        return any(admits(part, value) for part in parts)
    if kind is Literal:
        return isinstance(value, tuple({type(part) for part in parts}))
    if not isinstance(kind, type) or (getattr(kind, "_is_protocol", False) and not _checkable(kind)):
        return True
    return isinstance(value, kind) and _holds(kind, parts, value)


def _checkable(protocol: type) -> bool:
    return bool(getattr(protocol, "_is_runtime_protocol", False))


def _holds(kind: type, parts: tuple[Any, ...], value: Any) -> bool:
    """Whether what a collection holds is of the stated kinds, too."""
    if not parts:
        return True
    if kind is Sequence:
        return not isinstance(value, (str, bytes)) and all(admits(parts[0], one) for one in value)
    if kind is tuple and parts[-1] is not Ellipsis:
        return len(value) == len(parts) and all(map(admits, parts, value))
    if kind is Mapping:
        return all(admits(parts[0], key) and admits(parts[1], one) for key, one in value.items())
    return True


def said(annotation: Any) -> str:
    """An annotation in words: "str or path or None"."""
    parts = get_args(annotation)
    kind = get_origin(annotation) or (type(None) if annotation is None else annotation)
    if kind in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(said, parts)))
    if kind is Literal:
        return ", ".join(map(repr, parts))
    name = getattr(kind, "__name__", str(kind))
    if kind is Sequence and parts:
        return f"sequence of {said(parts[0])}"
    return _WORDS.get(name, name)
