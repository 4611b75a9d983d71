"""Networks by MLX, whose own device they run on: the GPU of Apple machines, and the CPU elsewhere.

A module becomes a function of MLX arrays, by the types of its parts, see `mlx_forms.py`. Its weights are copied once.
Tensors are copied to and from MLX through numpy, in the memory of the CPU, which is also that of an Apple GPU.

Every call evaluates all of its arrays, on a stream that it alone has meanwhile. A stream is a thread of MLX. The one
that MLX would give to each calling thread stays when that thread ends, so streams are kept here and taken again. A
forked child has none of its parent's threads, and makes streams of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tts_infer.config import DTypeName
from tts_infer.devices import CPU, precision
from tts_infer.engines.engine import not_in
from tts_infer.errors import PlacementError, first_sentence
from tts_infer.sentences import Sentence
from tts_infer.stages import TOLERANCE, Stage, relative_error

_idle: dict[int, list[Any]] = {}  # streams that no call has, by process


class MLXEngine:
    """MLX. Entry of `ENGINES`; needs the extra `mlx`."""

    automatic = False  # nobody has measured it on an Apple GPU
    package = "mlx"

    @property
    def examined(self) -> bool:
        """On a GPU. On Linux, MLX multiplies matrices by one thread of the reference BLAS."""
        return _has_gpu()

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        if device != CPU:
            text = "MLX takes tensors in the memory of the CPU, not of {device}"
            return Sentence(text, code="mlx-memory", device=device)
        try:
            from tts_infer.engines.mlx_forms import formless
        except (ImportError, OSError) as error:  # such as mlx on Linux without mlx-cpu
            text = "MLX does not load: {failure}; pip install 'tts-infer[mlx]'"
            return Sentence(text, code="mlx-loads", failure=first_sentence(error))
        if (part := formless(stage.module)) is not None:
            return Sentence("MLX has no form of {part}", code="mlx-form", part=part)
        return None if dtype == "float32" else not_in("MLX", ("float32",), dtype)

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        prepared = stage.using(Converted(stage.module.to(device)))
        _require_equal(prepared, stage)
        return prepared

    def padded_frames(self, batch: int, frames: int) -> int | None:
        return None


def _require_equal(prepared: Stage, stage: Stage) -> None:
    """Compare a prepared stage with torch on its probe: nobody has run this engine on every device that MLX has.

    Raises:
        PlacementError: they differ.
    """
    with torch.inference_mode(), precision(CPU):
        (got, _), (expected, _) = prepared(stage.probe()), stage(stage.probe())
    error = relative_error(got, expected)
    if not error <= TOLERANCE["float32"]:  # also for NaN
        text = "MLX computes {stage!r} wrongly here, by {error:.1e} of the peak; use 'torch'"
        raise PlacementError(text, code="mlx-wrong", stage=stage.name, error=error)


class Converted:
    """A module in MLX, which takes and gives tensors on the CPU as the module does. Calls are thread-safe.

    Args:
        module: each of its parts has a form.

    Raises:
        PlacementError: it is called in a forked child, and MLX computes on a GPU, which a child cannot use.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        from tts_infer.engines.mlx_forms import form_of

        self._form, self._made_by = form_of(module), os.getpid()

    def __call__(self, *inputs: Any) -> Any:
        """Run it on tensors, tuples of them and None. The results are new tensors."""
        import mlx.core as mx

        if os.getpid() != self._made_by and _has_gpu():
            text = "MLX cannot use the GPU in a forked child; start processes by 'spawn', or use another engine"
            raise PlacementError(text, code="mlx-forked")
        with _stream():
            results = self._form(*map(_arrays, inputs))
            mx.eval(results)
            return _tensors(results)


def _has_gpu() -> bool:
    import mlx.core as mx

    return bool(mx.default_device() == mx.Device(mx.gpu))


@contextmanager
def _stream() -> Iterator[None]:
    """A stream that nobody else has."""
    import mlx.core as mx

    idle = _idle.setdefault(os.getpid(), [])
    try:
        stream = idle.pop()
    except IndexError:
        stream = mx.new_thread_unsafe_stream(mx.default_device())
    try:
        with mx.stream(stream):
            yield
    finally:
        idle.append(stream)


def _arrays(given: Tensor | tuple[Tensor, ...] | None) -> Any:
    """Tensors as MLX arrays, which have memory of their own."""
    import mlx.core as mx

    if isinstance(given, tuple):
        return tuple(map(_arrays, given))
    return None if given is None else mx.array(given.detach().numpy())


def _tensors(made: Any) -> Any:
    """MLX arrays as tensors, which have memory of their own."""
    return tuple(map(_tensors, made)) if isinstance(made, tuple) else torch.from_numpy(np.array(made))
