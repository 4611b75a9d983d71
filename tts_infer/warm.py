"""What a vocoder does once, done before somebody waits for it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tts_infer.arguments import checked
from tts_infer.devices import CPU
from tts_infer.engines.torchscript import RECORDED_CALL, OneCall
from tts_infer.runtime import workers
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders.features import MelSpec

_FRAMES = 10


@checked()
def warm_up(vocoder: Vocoder) -> None:
    """Do now what a vocoder on the CPU otherwise does in its first calls, so that these take no longer than others.

    Networks of oneDNN are recorded as one call, torch reads the passes of refinement, short signals get their graph,
    and workers start. Vocos takes some tenths of a second for it; generators of audio record nothing, and compute a few
    frames. For servers, before the first request, and for streams that must be in time. What comes out of the vocoder
    stays the same.

    Args:
        vocoder: with the number of passes that it has by default.

    Raises:
        InputTypeError: it is no vocoder.
    """
    conditions: dict[str, Any] = {condition.name: 0 for condition in vocoder.features.conditions}
    short = vocoder.placement.short
    is_whole = any(stage.whole for stage in vocoder.stages)

    def once() -> None:
        if short is not None:
            vocoder.decode(_silence(vocoder, min(_FRAMES, short.frames)), refine=0, **conditions)
        vocoder.decode(_silence(vocoder, 1 + (_FRAMES if short is None else short.frames)), **conditions)
        vocoder.decode([_silence(vocoder, frames)[0] for frames in (_FRAMES, _FRAMES + 1)], **conditions)
        if not is_whole:
            stream = vocoder.stream(**conditions)
            for frames in (stream.delay_frames + 1, _FRAMES):  # the first pieces of a stream, and the others
                stream.push(_silence(vocoder, frames))
            stream.flush()

    records = any(isinstance(stage.module, OneCall) for stage in vocoder.stages)
    for _ in range(RECORDED_CALL if records else 1):
        once()
    workers.run([once])  # engines make what they need once more for callers with one thread


def _silence(vocoder: Vocoder, frames: int) -> Tensor:
    """Features of silence; of features that are no mels, zeros. Shape: (1, C, L)"""
    spec = vocoder.features
    value = math.log(spec.config.log_floor) if isinstance(spec, MelSpec) else 0.0
    return torch.full((1, spec.n_channels, frames), value, dtype=torch.float32, device=CPU)
