"""Decoding as frames arrive, and mels as samples arrive: exact, with the state in one's hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.devices import CPU, device_lock
from tts_infer.errors import InputError
from tts_infer.io.features import as_audio, as_features
from tts_infer.runtime.pipeline import DecodeState, Pipeline
from tts_infer.runtime.timing import StageRecord, StageTimer, add_up

Lookahead = int | Literal["full"]


class StreamingDecoder:
    """Decodes a mel that arrives in pieces; the pieces of audio join to what `Vocoder.decode` gives of the whole.

    Every convolution keeps the few frames that it will need again, so no frame is computed twice. Several streams of
    one vocoder may run at once; one stream belongs to one thread at a time.

    Args:
        pipeline: the vocoder's stages.
        refine: passes of refinement; each comes n_fft / hop_length - 1 frames later.
        lookahead: frames that must have arrived after a frame before it is decoded. "full" (the network's reach) is
            exact; less comes earlier and is approximate, and costs one more pass over the last `reach` frames a push.
        timed: keep the stage report of all pushes.

    Raises:
        InputError: lookahead is neither "full" nor between 0 and the network's reach.
    """

    def __init__(self, pipeline: Pipeline, refine: int = 0, lookahead: Lookahead = "full", timed: bool = False) -> None:
        reach = pipeline.model.backbone.reach
        frames = reach if lookahead == "full" else lookahead
        if not isinstance(frames, (int, np.integer)) or not 0 <= frames <= reach:
            raise InputError(f"lookahead is {lookahead!r}; allowed: 'full', or 0 to {reach} frames")
        self._pipeline, self._refine, self._lookahead = pipeline, refine, int(frames)
        self._reports = _Reports(timed)
        self.reset()

    @property
    def delay_frames(self) -> int:
        """Frames by which audio is later than the mel, see `DecodeState`."""
        return DecodeState(self._pipeline, self._refine, self._lookahead).delay_frames

    @property
    def stages(self) -> list[StageRecord]:
        """The stage report of everything pushed so far, resets notwithstanding; empty if it is not `timed`."""
        return self._reports.total()

    def reset(self) -> None:
        """Forget everything: the next push begins a new signal."""
        self._state: DecodeState | None = DecodeState(self._pipeline, self._refine, self._lookahead)
        self._batch: int | None = None

    @torch.inference_mode()
    def push(self, mel: Tensor | NDArray[Any]) -> Tensor:
        """Add frames, and return the samples that are due: possibly none yet.

        Shape: (B, n_mels, L) or (n_mels, L) -> (B, T), L >= 0, T >= 0; B is that of the first push
        Raises:
            InputError, InputTypeError: see `as_features`; another batch size than before; or a stream that was
                flushed.
        """
        self._require_open()
        with device_lock(mel.device if isinstance(mel, Tensor) else CPU):
            features = as_features(mel, self._pipeline.model.config.mel.n_mels, piece=True)
        if self._batch not in (None, features.shape[0]):
            raise InputError(f"this stream has a batch of {self._batch}, but {features.shape[0]} were pushed")
        if features.shape[2] == 0:
            return self._no_samples(features.shape[0])
        self._batch, self._device = features.shape[0], features.device
        return self._decode(features, final=False)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """End the signal, and return everything that is left. Then only `reset` is allowed.

        Shape: (B, T), T >= 0
        Raises:
            InputError: nothing was pushed, or the stream was flushed already.
        """
        self._require_open()
        if self._batch is None:
            raise InputError("nothing was pushed, so there is nothing to flush")
        with device_lock(self._device):
            shape = self._batch, self._pipeline.model.config.mel.n_mels, 0
            nothing = torch.zeros(shape, dtype=torch.float32, device=self._device)
        audio = self._decode(nothing, final=True)
        self._state = None
        return audio

    def decode(self, pieces: Iterable[Tensor | NDArray[Any]]) -> Iterator[Tensor]:
        """Decode pieces as they come, and flush after the last: `for audio in stream.decode(mels): play(audio)`.

        Raises:
            InputError, InputTypeError: see `push`.
        """
        for piece in pieces:
            audio = self.push(piece)
            if audio.shape[1]:
                yield audio
        yield self.flush()

    def _require_open(self) -> None:
        if self._state is None:
            raise InputError("this stream was flushed; call reset() before the next signal")

    def _decode(self, features: Tensor, final: bool) -> Tensor:
        assert self._state is not None
        with self._reports.one() as timer:
            return self._pipeline.decode_piece(features, self._state, timer, final)

    def _no_samples(self, batch: int) -> Tensor:
        device = self._pipeline.placement.istft.device
        with device_lock(device):
            return torch.zeros(batch, 0, dtype=torch.float32, device=device)


class StreamingMel:
    """The log-mel of audio that arrives in pieces; the pieces of mel join to what `Vocoder.mel` gives of the whole.

    Frames depend on nothing but their own samples, so a piece is computed together with the samples before it that
    its first frames, and the padding of its end, need; frames that this gives twice are dropped.

    Args:
        pipeline: the vocoder's stages.
        timed: keep the stage report of all pushes.
    """

    def __init__(self, pipeline: Pipeline, timed: bool = False) -> None:
        self._pipeline, self._reports = pipeline, _Reports(timed)
        self._stft = pipeline.model.feature_extractor.stft
        self._kept: Tensor | None = None
        self._ended = False
        self._first = 0  # frames before the samples that are kept
        self._done = 0  # frames that were returned

    @property
    def stages(self) -> list[StageRecord]:
        """The stage report of everything pushed so far; empty if it is not `timed`."""
        return self._reports.total()

    def push(self, audio: Tensor | NDArray[Any]) -> Tensor:
        """Add samples, and return the frames that no later sample can change: possibly none yet.

        Shape: (B, T) or (T,) -> (B, n_mels, L), T >= 0, L >= 0; B is that of the first push
        Raises:
            InputError, InputTypeError: see `as_audio`; another batch size than before; or a stream that was flushed.
        """
        self._require_open()
        with device_lock(audio.device if isinstance(audio, Tensor) else CPU):
            samples = as_audio(audio, piece=True)
            if self._kept is not None and self._kept.shape[0] != samples.shape[0]:
                raise InputError(f"this stream has a batch of {self._kept.shape[0]}, got {samples.shape[0]}")
            # what is kept is a copy: whoever pushed may use the memory again
            before = samples[:, :0] if self._kept is None else self._kept
            self._kept = torch.cat([before, samples.to(before.device)], 1)
        stft, here = self._stft, self._kept.shape[1]
        ready = (here + stft.pad[0] - stft.n_fft) // stft.hop_length + 1  # whose windows end within the samples
        if self._first + ready <= self._done:
            return self._no_frames(self._kept)
        return self._frames(self._first + ready, self._kept)

    def flush(self) -> Tensor:
        """End the signal, and return the frames that are left.

        Shape: (B, n_mels, L), L >= 0
        Raises:
            InputError: nothing was pushed, or too little for one frame; or the stream was flushed already.
        """
        self._require_open()
        if self._kept is None:
            raise InputError("nothing was pushed, so there is nothing to flush")
        stop = self._first + self._stft.n_frames(self._kept.shape[1])
        rest = self._no_frames(self._kept) if 0 < stop == self._done else self._frames(stop, self._kept)
        self._ended = True
        return rest

    def _require_open(self) -> None:
        if self._ended:
            raise InputError("this stream was flushed; begin another for the next signal")

    def _no_frames(self, kept: Tensor) -> Tensor:
        place = self._pipeline.placement.mel
        with device_lock(place.device):
            shape = kept.shape[0], self._pipeline.model.config.mel.n_mels, 0
            return torch.zeros(shape, dtype=torch.float32, device=place.device)

    @torch.inference_mode()
    def _frames(self, stop: int, kept: Tensor) -> Tensor:
        """Frames that were not returned yet, to `stop`."""
        with self._reports.one() as timer:
            mel = self._pipeline.mel(kept, timer)[..., self._done - self._first : stop - self._first]
        stft = self._stft
        # a window, and one frame more: as many samples as padding mirrors
        first = max(self._first, stop - -(-stft.n_fft // stft.hop_length) - 1)
        with device_lock(kept.device):
            self._kept = kept[:, (first - self._first) * stft.hop_length :].clone()
        self._first, self._done = first, stop
        return mel


class _Reports:
    """The stage reports of many pushes, as one."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._total: list[StageRecord] = []

    @contextmanager
    def one(self) -> Iterator[StageTimer]:
        timer = StageTimer(self._enabled)
        yield timer
        self._total = add_up([self._total, timer.records]) if self._total else timer.records

    def total(self) -> list[StageRecord]:
        return [record.copy() for record in self._total]
