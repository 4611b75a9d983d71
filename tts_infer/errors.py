"""Errors of the package. Each is also the builtin that it specialises, so `except ValueError` keeps working.

The text of every error is one line: what was got, what is allowed, what to do. Every error has a code and the values in
its text, so that a translation hangs on the code and not on the sentence:

    raise InputError("mel is empty: shape {shape}", code="mel-empty", shape=shape)
"""

from __future__ import annotations

import difflib
import importlib
import os
import reprlib
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, ClassVar, TypeVar, cast

from tts_infer.sentences import Several

E = TypeVar("E", bound="TTSInferError")
_LONG = 200  # characters of a name


def first_sentence(error: BaseException) -> str:
    """The first sentence of another library's error, or its type; the rest may be pages of dispatcher tables."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return lines[0].split(". ")[0].rstrip(".") if lines else type(error).__name__


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The names, those first that a mistyped one may stand for."""
    known = list(names)
    like = [one for one in known if name and name in one] or difflib.get_close_matches(name, known)
    return [*like, *(one for one in known if one not in like)]


def few(names: Iterable[str], shown: int = 3, length: int = 60) -> str:
    """The first names of many, and how many more there are, on one line. Long names are cut in the middle."""
    names = [name if name.isprintable() else repr(name) for name in names]
    listed = [name if len(name) <= length else f"{name[: length // 2]}...{name[-length // 2 :]}" for name in names]
    more = len(listed) - shown
    return ", ".join(listed[:shown]) + (f" and {more} more" if more > 0 else "")


def _shown(value: Any, long: int = _LONG) -> Any:
    """A value as a message shows it. What a caller gave by mistake may be a tensor, or a key of a megabyte."""
    if isinstance(value, (float, int)):
        return value if abs(value) < 10**40 or isinstance(value, float) else reprlib.repr(value)
    if isinstance(value, Several):
        return Several(_shown(one, long) for one in value)
    said = str(value)
    if isinstance(value, (str, os.PathLike)):
        return value if len(said) <= long else f"{said[: long // 2]}...{said[-long // 2 :]}"
    return value if len(said) <= long // 4 and "\n" not in said else reprlib.repr(" ".join(said.split()))


class TTSInferError(Exception):
    """Base of everything that this package raises on a user's mistake.

    Args:
        text: the sentence; with a code, a format string for `fields`.
        code: the name of the sentence, the same in every language.
        where: the file or item that the sentence is about; the message begins with it.
        fields: the values in the sentence.
    """

    longest: ClassVar[int] = 299  # characters of a message

    def __init__(self, text: str, /, *, code: str = "", where: str = "", **fields: Any) -> None:
        self.text, self.code, self.where, self.fields = text, code, where, fields
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        """The message. Where it would be long, values are cut shorter and shorter."""
        said = self.text
        for long in (_LONG, 150, 120, 100, 80, 60, 40, 25):
            if self.code:
                said = self.text.format(**{name: _shown(value, long) for name, value in self.fields.items()})
            said = f"{_shown(self.where, long)}: {said}" if self.where else said
            if len(said) <= self.longest or not self.code:
                break
        return said

    def within(self: E, where: object) -> E:
        """The same error about a part of something: the message begins with the name of that."""
        path = f"{where}: {self.where}" if self.where else str(where)
        return type(self)(self.text, code=self.code, where=path, **self.fields)

    def naming(self: E, names: Mapping[str, str]) -> E:
        """The same error with other names for what it is about, such as those by which a page's visitor knows files.

        To replace them in the message would be too late: long paths are cut there.
        """

        def named(value: Any) -> Any:
            said = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
            if not isinstance(said, str):
                return value
            for name, other in names.items():
                said = said.replace(name, other) if name in said else said  # what has a code keeps it
            return said

        fields = {key: named(value) for key, value in self.fields.items()}
        text = self.text if self.code else named(self.text)
        return type(self)(text, code=self.code, where=named(self.where), **fields)

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.text, self.code, self.where, self.fields)


def _remade(kind: type[E], text: str, code: str, where: str, fields: dict[str, Any]) -> E:
    return kind(text, code=code, where=where, **fields)


class ConfigError(TTSInferError, ValueError):
    """A configuration file or value that cannot be used."""


class CheckpointError(TTSInferError, ValueError):
    """Weights that do not fit the model, or are not safe to load. Its message may name some of their tensors."""

    longest = 500


class VocoderNotFoundError(TTSInferError, FileNotFoundError):
    """A vocoder that is neither known, nor on disk, nor reachable."""


class VoiceNotFoundError(TTSInferError, FileNotFoundError):
    """A voice that no front end has, or that must be downloaded first."""


class InputError(TTSInferError, ValueError):
    """Audio or features whose shape or values cannot be processed."""


class InputTypeError(TTSInferError, TypeError):
    """Audio or features of a type that is never processed (integers, complex numbers, objects)."""


class FileError(TTSInferError, OSError):
    """A file that cannot be read or written."""


class PlacementError(TTSInferError, ValueError):
    """A device, engine, method or dtype that is unknown or cannot be used here."""


class ExportError(TTSInferError, RuntimeError):
    """A vocoder that cannot be written as a graph, or whose graph computes something else."""


class MissingPackageError(TTSInferError, ImportError):
    """A package that only one command needs, and that is not installed."""


def require_package(module: str, extra: str, package: str = "") -> ModuleType:
    """Import a module that comes with an extra of this package.

    Args:
        module: its dotted name.
        extra: what installs it.
        package: its name on PyPI, if that is not the first part of the module's name.

    Raises:
        MissingPackageError: it is not installed, or it cannot be loaded.
    """
    _keep_private()
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a native library that does not load
        raise missing_package(package or module.partition(".")[0], extra, error) from None


def _keep_private() -> None:
    """Keep packages from telling their makers of every run, as ONNX Runtime and OpenVINO would.

    What the environment says of it already stays as it is. OpenVINO has no such variable; it works without the package
    that tells.

    Source: onnxruntime, docs/Privacy.md; openvino/tools/ovc/telemetry_utils.py.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))  # as Python notes what it shall not import


def import_other(module: str, distribution: str) -> ModuleType:
    """Import a module of a package that is no dependency of ours.

    Args:
        module: its dotted name.
        distribution: what pip installs.

    Raises:
        MissingPackageError: it is not installed, or something that it needs is missing or does not load.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a native library that does not load
        raise MissingPackageError(
            "needs {module} ({reason}); pip install {package}",
            code="other-package-missing",
            module=module,
            reason=str(error)[:150],
            package=distribution,
        ) from None


def missing_package(package: str, extra: str, error: Exception) -> MissingPackageError:
    """The error that names the package, why it cannot be used, and the extra that installs it."""
    return MissingPackageError(
        "needs {package} ({reason}); pip install 'tts-infer[{extra}]'",
        code="package-missing",
        package=package,
        reason=str(error),
        extra=extra,
    )
