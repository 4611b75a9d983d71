"""Functions of tensors as one call of TorchScript, where Python would call some dozens of operators.

Every call from Python takes microseconds, and holds the interpreter, for which the threads of other workers wait. For
few frames, that is half of the time. The operators are the same, so results keep their bits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, ParamSpec, TypeVar

import torch

from tts_infer.locks import ProcessLock

P = ParamSpec("P")
T = TypeVar("T")


def unoptimised() -> AbstractContextManager[None]:
    """Run what is compiled as it is. To optimise it first takes 20 ms, and gains nothing."""
    context: AbstractContextManager[None] = torch.jit.optimized_execution(False)
    return context


class Script(Generic[P, T]):
    """A function that runs without Python: torch reads its source at the first call.

    Where torch cannot read it, it runs as what it is.

    Args:
        function: of tensors, numbers, lists, tuples and None. It uses torch's operators by the name `torch`, and no
            other names than those of `others`.
        others: the functions that it calls, each after those that it calls itself.
    """

    def __init__(self, function: Callable[P, T], *others: Callable[..., Any]) -> None:
        self.function, self._reading = function, ProcessLock()
        self._call: Callable[P, T] | None = None
        try:  # now: files may be others when the first call comes
            self._source: str | None = "\n".join(map(inspect.getsource, (*others, function)))
        except OSError:
            self._source = None

    def __call__(self, *given: P.args, **named: P.kwargs) -> T:
        call = self._call or self._read()
        with unoptimised():
            return call(*given, **named)

    def _read(self) -> Callable[P, T]:
        with self._reading:
            if self._call is None:
                try:
                    self._call = self.compiled()
                except RuntimeError:
                    self._call = self.function
            return self._call

    def compiled(self) -> Callable[P, T]:
        """The function as torch reads it.

        Raises:
            RuntimeError: it has something that TorchScript does not know, or there is no source.
        """
        if self._source is None:
            raise RuntimeError(f"{self.function.__name__} has no source")
        call: Callable[P, T] = getattr(torch.jit.CompilationUnit(self._source), self.function.__name__)
        return call
