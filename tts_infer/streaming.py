"""Decoding as frames arrive, and mels as samples arrive: exact, with the state in one's hand."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.arguments import checked
from tts_infer.devices import CPU, device_lock, device_of
from tts_infer.dsp.mismatch import ConventionCheck, FirstSecond
from tts_infer.errors import InputError, InputTypeError
from tts_infer.io.features import as_audio
from tts_infer.runtime import workers
from tts_infer.runtime.pipeline import Pipeline, Placed, require_pieces
from tts_infer.runtime.timing import StageRecord, StageTimer, add_up
from tts_infer.stages import total_frames
from tts_infer.vocoders.conditions import NO_NUMBERS, require_batch

Lookahead = int | Literal["full"]
Array = Tensor | NDArray[Any]


# What a stream remembers between two pushes; the rest is made of the arguments.
_REMEMBERED = {"_state", "_batch", "_ended", "_device", "_records", "total_ms", "_first_second"}


class StageStream:
    """What all streams share: the state of the stages, and the report of all pushes.

    Args:
        chain: the stages, in order.
        takes, gives: names of the tensors that are pushed and returned.
        timed: keep the stage report of all pushes.
        conditions: what else the stages take, by name.

    Raises:
        InputError: a stage computes over whole signals, see `require_pieces`.
    """

    _made_with: tuple[Any, ...]

    def __init__(
        self,
        chain: Sequence[Placed],
        takes: str,
        gives: str,
        timed: bool,
        conditions: Mapping[str, Tensor] = NO_NUMBERS,
    ) -> None:
        require_pieces(chain)
        self._chain, self._takes, self._gives, self._timed = chain, takes, gives, timed
        self._conditions = conditions
        self.is_on_cpu = all(placed.place.device == CPU for placed in chain)
        self._records: list[StageRecord] = []
        self.total_ms = 0.0  # of computing, over all pushes; 0 if it is not `timed`
        self.reset()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy goes on from here. Its stages are prepared again: what engines pack is valid in one process only."""
        kept = {name: value for name, value in vars(self).items() if name in _REMEMBERED}
        return _copied, (type(self), self._made_with, kept)

    @property
    def stages(self) -> list[StageRecord]:
        """The stage report of everything pushed so far, resets notwithstanding; empty if it is not `timed`."""
        return [record.copy() for record in self._records]

    @property
    def delay_frames(self) -> int:
        """Frames by which the output is later than the input: lookahead, refinement and overlapping windows."""
        return total_frames((placed.stage for placed in self._chain), lambda stage: stage.delay_frames)

    def reset(self) -> None:
        """Forget everything: the next push begins a new signal."""
        self._state: Any = None  # made by the first push, which says how large the batch is
        self._batch: int | None = None
        self._ended = False

    def _require_open(self) -> None:
        if self._ended:
            raise InputError("this stream was flushed; call reset() before the next signal", code="stream-flushed")

    def _require_batch(self, batch: int) -> None:
        if self._batch not in (None, batch):
            raise InputError(
                "this stream has a batch of {expected}, but {got} were pushed",
                code="stream-batch",
                expected=self._batch,
                got=batch,
            )

    def _require_begun(self) -> None:
        self._require_open()
        if self._state is None:
            raise InputError("nothing was pushed, so there is nothing to flush", code="stream-empty")

    def advance(self, piece: Tensor) -> Tensor:
        """Push a piece through the stages as it is. Shape: (B, ...) -> (B, ...)"""
        return self._advance(piece, final=False)

    @torch.inference_mode()
    def _advance(self, piece: Tensor, final: bool) -> Tensor:
        start, timer = time.perf_counter(), StageTimer(self._timed)
        if self._state is None:
            require_batch(self._conditions, piece.shape[0])
            self._state, self._batch = Pipeline.initial_state(self._chain, piece.shape[0]), piece.shape[0]
        values: Mapping[str, Tensor] = {self._takes: piece, **self._conditions}

        def compute() -> tuple[dict[str, Tensor], Any]:
            return Pipeline.run(self._chain, values, timer, state=self._state, final=final)

        live, self._state = workers.alone(compute) if self.is_on_cpu else compute()
        if self._timed:
            self._records = add_up([self._records, timer.records]) if self._records else timer.records
            self.total_ms += (time.perf_counter() - start) * 1e3
        self._ended = final
        return live[self._gives]


def _copied(kind: type[StageStream], made_with: tuple[Any, ...], kept: Mapping[str, Any]) -> StageStream:
    stream = kind(*made_with)
    vars(stream).update(kept)
    return stream


def _each(pieces: Iterable[Array]) -> Iterable[Array]:
    """Pieces to iterate over; a single number as an array says that it is iterable, and is not."""
    if isinstance(pieces, (Tensor, np.ndarray)) and pieces.ndim == 0:
        text = "pieces are a single number; expected an iterable of tensors or arrays"
        raise InputTypeError(text, code="pieces-single")
    return pieces


class StreamingDecoder(StageStream):
    """Decodes features that arrive in pieces; the pieces of audio join to what `Vocoder.decode` gives of the whole.

    The stages of Vocos keep the few frames that they will need again, and compute no frame twice; generators of audio
    compute the frames around a piece again. Several streams of one vocoder may run at once; one stream belongs to one
    thread at a time.

    Args:
        pipeline: the vocoder's stages.
        refine: passes of refinement; each comes n_fft / hop_length - 1 frames later.
        lookahead: frames that must have arrived after a frame before it is decoded. "full" (the network's receptive
            field) is exact; less comes earlier and is approximate: frames that have not arrived are taken to be like
            the last one, and are computed at every push.
        timed: keep the stage report of all pushes.
        conditions: what else the stages take, by name; see `Pipeline.conditions`.
        convention: the first second is compared with it; None: not.

    Raises:
        InputError: lookahead is neither "full" nor between 0 and the network's receptive field.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        refine: int = 0,
        lookahead: Lookahead = "full",
        timed: bool = False,
        conditions: Mapping[str, Tensor] = NO_NUMBERS,
        convention: ConventionCheck | None = None,
    ) -> None:
        most = pipeline.receptive_field
        full = isinstance(lookahead, str) and lookahead == "full"
        frames = most if full else lookahead
        if not isinstance(frames, (int, np.integer)) or not 0 <= frames <= most:
            raise InputError(
                "lookahead is {got!r}; allowed: 'full', or 0 to {most} frames",
                code="lookahead-range",
                got=lookahead,
                most=most,
            )
        self._features, self._out_device = pipeline.features, pipeline.out_device
        self._convention = convention
        self._made_with = (pipeline, refine, lookahead, timed, dict(conditions), convention)
        chain = pipeline.decoding(refine, None if full else int(frames))
        super().__init__(chain, pipeline.features.name, "audio", timed, conditions)

    def reset(self) -> None:
        super().reset()
        self._first_second = FirstSecond(self._convention)

    @workers.forkable
    def push(self, features: Array) -> Tensor:
        """Add frames, and return the samples that are due: possibly none yet.

        Shape: (B, C, L) or (C, L) -> (B, T), L >= 0, T >= 0; B is that of the first push
        Raises:
            InputError, InputTypeError: see `Vocoder.decode`; another batch size than before; or a stream that was
                flushed.
        """
        self._require_open()
        with device_lock(device_of(features)):
            piece = self._features.check(features, piece=True)
            self._require_batch(piece.shape[0])
            self._first_second.push(piece)
        if piece.shape[2] == 0:
            return self._no_samples(piece.shape[0])
        self._device = piece.device
        return self._advance(piece, final=False)

    @workers.forkable
    def flush(self) -> Tensor:
        """End the signal, and return everything that is left. Then only `reset` is allowed.

        Shape: (B, T), T >= 0
        Raises:
            InputError: nothing was pushed, or the stream was flushed already.
        """
        self._require_begun()
        assert self._batch is not None
        with device_lock(self._device):
            self._first_second.end()
            shape = self._batch, self._features.n_channels, 0
            nothing = torch.zeros(shape, dtype=torch.float32, device=self._device)
        return self._advance(nothing, final=True)

    @checked()
    def decode(self, pieces: Iterable[Array]) -> Iterator[Tensor]:
        """Decode pieces as they come, and flush after the last: `for audio in stream.decode(mels): play(audio)`.

        Raises:
            InputError, InputTypeError: see `push`.
        """
        for piece in _each(pieces):
            audio = self.push(piece)
            if audio.shape[1]:
                yield audio
        yield self.flush()

    def _no_samples(self, batch: int) -> Tensor:
        with device_lock(self._out_device):
            return torch.zeros(batch, 0, dtype=torch.float32, device=self._out_device)


class StreamingMel(StageStream):
    """The features of audio that arrives in pieces; the pieces join to what `Vocoder.mel` gives of the whole.

    Args:
        pipeline: the vocoder's stages.
        timed: keep the stage report of all pushes.
    """

    def __init__(self, pipeline: Pipeline, timed: bool = False) -> None:
        self._made_with = (pipeline, timed)
        super().__init__(pipeline.front(), "audio", pipeline.features.name, timed)

    @workers.forkable
    def push(self, audio: Array) -> Tensor:
        """Add samples, and return the frames that no later sample can change: possibly none yet.

        Shape: (B, T) or (T,) -> (B, C, L), T >= 0, L >= 0; B is that of the first push
        Raises:
            InputError, InputTypeError: see `as_audio`; another batch size than before; or a stream that was flushed.
        """
        self._require_open()
        with device_lock(device_of(audio)):
            samples = as_audio(audio, piece=True)
        self._require_batch(samples.shape[0])
        self._device = samples.device
        return self._advance(samples, final=False)

    @workers.forkable
    def flush(self) -> Tensor:
        """End the signal, and return the frames that are left.

        Shape: (B, C, L), L >= 0
        Raises:
            InputError: nothing was pushed, or too little for one frame; or the stream was flushed already.
        """
        self._require_begun()
        assert self._batch is not None
        with device_lock(self._device):
            nothing = torch.zeros(self._batch, 0, dtype=torch.float32, device=self._device)
        return self._advance(nothing, final=True)

    @checked()
    def compute(self, pieces: Iterable[Array]) -> Iterator[Tensor]:
        """The features of pieces as they come, and those that are left after the last.

        Raises:
            InputError, InputTypeError: see `push` and `flush`.
        """
        for piece in _each(pieces):
            yield self.push(piece)
        yield self.flush()
