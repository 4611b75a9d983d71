"""Errors of the package. Each is also the builtin it specialises, so `except ValueError` keeps working.

The text of every error is one line: what was got, what is allowed, what to do.
"""

from __future__ import annotations


def first_sentence(error: BaseException) -> str:
    """What another library's error begins with, or its kind; the rest may be pages of dispatcher tables."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return lines[0].split(". ")[0].rstrip(".") if lines else type(error).__name__


class TTSInferError(Exception):
    """Base of everything this package raises on a user's mistake."""


class ConfigError(TTSInferError, ValueError):
    """A configuration file or value that cannot be used."""


class CheckpointError(TTSInferError, ValueError):
    """Weights that do not fit the model, or are not safe to load."""


class VocoderNotFoundError(TTSInferError, FileNotFoundError):
    """A vocoder that is neither known, nor on disk, nor reachable."""


class InputError(TTSInferError, ValueError):
    """Audio or features whose shape or values cannot be processed."""


class InputTypeError(TTSInferError, TypeError):
    """Audio or features of a type that is never processed (integers, complex numbers, objects)."""


class FileError(TTSInferError, OSError):
    """A file that cannot be read as, or written as, what its user asked for."""


class PlacementError(TTSInferError, ValueError):
    """A device, method or dtype that is unknown or cannot be used here."""


class MissingPackageError(TTSInferError, ImportError):
    """A package that only one command needs, and that is not installed."""
