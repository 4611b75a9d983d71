"""Networks on the CPU as one call of TorchScript, where Python would call some dozens of operators.

Every call from Python takes microseconds, and holds the interpreter, for which the threads of other workers wait. The
operators are the same, so results keep their bits. A recording serves all lengths, since no network here chooses its
operators by a length. `python -m benchmarks.one_call` measures what it saves.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from tts_infer.dsp.script import unoptimised
from tts_infer.dsp.tiles import is_traced
from tts_infer.stages import Tensors

Argument = Tensor | Tensors | None
Kind = tuple[int | None, ...]  # of each argument: None, 0 for a tensor, or the length of a tuple
RECORDED_CALL = 4
_ADVICE = r"`torch\.jit\.trace"  # the beginning of what torch says
_FRAMES = 8  # of the signal that a network is recorded with

# torch records one network at a time in a process. Who finds it taken computes without a recording, and does not wait:
# in a forked child it may be taken for ever, with torch's recorder half way through.
_recording = threading.Lock()


class Packed:
    """A network, or a part of one: a function of tensors, tuples of tensors and None.

    The first axis of all is the batch. Where arguments after the first have frames, these are on axis 1.

    Attributes:
        frame_axis: that of the frames in the first argument; for networks.
    """

    frame_axis: int
    __call__: Callable[..., Any]

    def packed_weights(self) -> list[Tensor]:
        """Its attributes that are packed weights, and those of its parts. torch records these only as buffers."""
        found: list[Tensor] = []
        for value in vars(self).values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Packed):
                    found += one.packed_weights()
                elif isinstance(one, Tensor) and one.is_mkldnn:
                    found.append(one)
        return found


class OneCall:
    """A network as one call. It is recorded when a kind of arguments comes for the fourth time.

    A recording takes as long as some dozens of calls save. Shape: as for the network
    """

    def __init__(self, network: Packed) -> None:
        self._network = network
        self._seen = Counter[Kind]()
        self._calls: dict[Kind, Callable[..., Any] | None] = {}  # None: it cannot be recorded

    def __call__(self, *given: Argument) -> Any:
        if is_traced():  # by somebody else
            return self._network(*given)
        kind = tuple(None if one is None else 0 if isinstance(one, Tensor) else len(one) for one in given)
        call = self._calls.get(kind) or self._recorded(kind, given)
        with unoptimised():
            return self._network(*given) if call is None else call(*_flat(given))

    def _recorded(self, kind: Kind, given: tuple[Argument, ...]) -> Callable[..., Any] | None:
        """The recording, if it is due, and gives the bits of the network."""
        self._seen[kind] += 1
        if self._seen[kind] < RECORDED_CALL or kind in self._calls or not _recording.acquire(blocking=False):
            return None
        try:
            function, few = _OfTensors(self._network, kind), tuple(_flat(self._shortened(given)))
            # torch advises other ways to record, which need a compiler. The filter stays: to take it away again might
            # take away, or bring back, one of another thread.
            warnings.filterwarnings("ignore", _ADVICE, DeprecationWarning)
            with unoptimised():
                call = torch.jit.trace(function, few, check_trace=False)
                right = all(map(torch.equal, _flat(call(*few)), _flat(function(*few))))
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            right = False
        finally:
            _recording.release()
        self._calls[kind] = call if right else None
        return self._calls[kind]

    def _shortened(self, given: tuple[Argument, ...]) -> Iterator[Argument]:
        """One item of the arguments, with few frames."""
        (first, *others), axis = given, self._network.frame_axis
        assert isinstance(first, Tensor)
        surplus = max(0, first.shape[axis] - _FRAMES)
        yield first[:1].narrow(axis, surplus, first.shape[axis] - surplus)
        for one in others:
            if isinstance(one, Tensor):
                yield one[:1, surplus:] if one.dim() > 1 else one[:1]
            else:
                yield one and tuple(part[:1] for part in one)


class _OfTensors(nn.Module):
    """A network whose arguments stand in one row, as torch records them: without tuples and None.

    Args:
        network: the network.
        kind: the kind of its arguments.
    """

    def __init__(self, network: Packed, kind: Kind) -> None:
        super().__init__()
        self.network, self.kind = network, kind
        for i, weight in enumerate(network.packed_weights()):
            self.register_buffer(f"weight{i}", weight)

    def forward(self, *tensors: Tensor) -> Any:
        left = iter(tensors)
        given = (None if n is None else tuple(islice(left, n)) if n else next(left) for n in self.kind)
        return self.network(*given)


def _flat(given: Any) -> Iterator[Tensor]:
    """The tensors of arguments or results, in order."""
    if isinstance(given, Tensor):
        yield given
    elif given is not None:
        for one in given:
            yield from _flat(one)
