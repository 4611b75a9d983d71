"""Decoding as frames arrive: exact, incremental, with the state in one's hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.devices import CPU, exclusive
from tts_infer.errors import InputError
from tts_infer.inputs import as_features
from tts_infer.pipeline import DecodeState, Pipeline
from tts_infer.timing import StageTimer

Lookahead = int | Literal["full"]


class StreamingDecoder:
    """Decodes a mel that arrives in pieces; the pieces of audio join to what `Vocoder.decode` gives of the whole.

    Every convolution keeps the few frames that it will need again, so no frame is computed twice. Several streams of
    one vocoder may run at once; one stream belongs to one thread at a time.

    Args:
        pipeline: the vocoder's stages.
        lookahead: frames that must have arrived after a frame before it is decoded. "full" (the network's reach) is
            exact; less comes earlier and is approximate, and costs one more pass over the last `reach` frames a push.

    Raises:
        InputError: lookahead is neither "full" nor between 0 and the network's reach.
    """

    def __init__(self, pipeline: Pipeline, lookahead: Lookahead = "full") -> None:
        reach = pipeline.model.backbone.reach
        frames = reach if lookahead == "full" else lookahead
        if not isinstance(frames, int) or not 0 <= frames <= reach:
            raise InputError(f"lookahead is {lookahead!r}; allowed: 'full', or 0 to {reach} frames")
        self._pipeline, self._lookahead = pipeline, frames
        self._timer = StageTimer(enabled=False)
        self.reset()

    @property
    def delay_frames(self) -> int:
        """Frames by which audio is later than the mel: lookahead, and what later windows still add to.

        A frame's samples are complete once the frames whose windows overlap them have been decoded.
        """
        return self._lookahead + self._pipeline.model.head.istft.overlap // 2

    def reset(self) -> None:
        """Forget everything: the next push begins a new signal."""
        self._state: DecodeState | None = DecodeState(self._pipeline, self._lookahead)
        self._batch: int | None = None

    @torch.inference_mode()
    def push(self, mel: Tensor | NDArray[Any]) -> Tensor:
        """Add frames, and return the samples that are due: possibly none yet.

        Shape: (B, n_mels, L) or (n_mels, L) -> (B, T), T >= 0; B is that of the first push
        Raises:
            InputError, InputTypeError: see `as_features`; another batch size than before; or a stream that was
                flushed.
        """
        with exclusive(mel.device if isinstance(mel, Tensor) else CPU):
            features = as_features(mel, self._pipeline.model.config.mel.n_mels)
        if self._batch not in (None, features.shape[0]):
            raise InputError(f"this stream has a batch of {self._batch}, but {features.shape[0]} were pushed")
        self._batch = features.shape[0]
        return self._decode(features, final=False)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """End the signal, and return everything that is left. Then only `reset` is allowed.

        Shape: (B, T), T >= 0
        Raises:
            InputError: nothing was pushed, or the stream was flushed already.
        """
        if self._batch is None:
            raise InputError("nothing was pushed, so there is nothing to flush")
        device = self._pipeline.placement.backbone.device
        with exclusive(device):
            nothing = torch.zeros(self._batch, self._pipeline.model.config.mel.n_mels, 0, device=device)
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

    def _decode(self, features: Tensor, final: bool) -> Tensor:
        if self._state is None:
            raise InputError("this stream was flushed; call reset() before the next signal")
        return self._pipeline.decode_piece(features, self._state, self._timer, final)
