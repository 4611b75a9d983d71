"""Whole signals, decoded at once, in pieces, or in parts that workers share; and the report of it."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tts_infer.deprecated import renamed
from tts_infer.devices import device_lock
from tts_infer.errors import InputError
from tts_infer.runtime import parallel, workers
from tts_infer.runtime.pipeline import Pipeline, require_pieces
from tts_infer.runtime.timing import StageRecord, StageTimer
from tts_infer.streaming import StreamingDecoder
from tts_infer.vocoders.conditions import of_items, require_batch

# After a call that makes this many seconds of audio, accelerators give their cached memory back.
_LONG_S = 60
MOST_PASSES = 1000  # of refinement, which has converged long before


@dataclass(frozen=True)
class Synthesis:
    """The result of `Vocoder.synthesize`.

    Shape: audio of (B, T), on the device of the last stage; features of (B, n_mels, L)
    """

    audio: Tensor
    features: Tensor
    sample_rate: int
    stages: list[StageRecord]
    total_ms: float  # wall time of the call

    @property
    def seconds(self) -> float:
        """Seconds of audio, over the whole batch."""
        return self.audio.numel() / self.sample_rate

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of compute."""
        return self.seconds / (self.total_ms / 1e3)

    xrt = renamed("xrt", "rtfx")


def passes(refine: int) -> int:
    """The number of passes of a decode.

    Raises:
        InputError: it is not a whole number of 0 to `MOST_PASSES`.
    """
    if not isinstance(refine, (int, np.integer)) or not 0 <= refine <= MOST_PASSES:
        text = "refine is {got}; allowed: a number of passes, 0 to {most}"
        raise InputError(text, code="refine-range", got=reprlib.repr(refine), most=MOST_PASSES)
    return int(refine)


def decode(
    pipeline: Pipeline, features: Tensor, refine: int, timer: StageTimer, conditions: Mapping[str, Tensor]
) -> Tensor:
    """Decode short features at once, and long ones in pieces; on a busy CPU, workers share parts.

    Shape: (B, C, L) -> (B, T)
    """
    batch, _, frames = features.shape
    if pipeline.is_whole:
        return _decode_whole(pipeline, features, refine, timer, conditions)
    chain = pipeline.decoding(refine, frames=batch * frames)
    if pipeline.is_on_cpu and workers.should_share():
        return parallel.decode(pipeline, features, chain, timer, conditions)
    piece = max(1, pipeline.max_frames // batch)
    if frames <= piece:
        return pipeline.decode(features, chain, timer, numbers=conditions)
    stream = StreamingDecoder(pipeline, refine, timed=timer.enabled, conditions=conditions)
    device, done = pipeline.out_device, 0
    with device_lock(device):
        audio = torch.empty(batch, pipeline.n_samples(frames), dtype=torch.float32, device=device)
    for pushed in stream.decode(features.split(piece, dim=2)):
        with device_lock(device):
            audio[:, done : done + pushed.shape[1]] = pushed
        done += pushed.shape[1]
    timer.records += stream.stages
    if audio.numel() >= _LONG_S * pipeline.features.sample_rate:
        pipeline.release_memory()
    return audio


def _decode_whole(
    pipeline: Pipeline, features: Tensor, refine: int, timer: StageTimer, conditions: Mapping[str, Tensor]
) -> Tensor:
    """Decode signals that cannot be cut: as many items at once as are few frames. Shape: (B, C, L) -> (B, T)"""
    batch, _, frames = features.shape
    chain = pipeline.decoding(refine)
    if frames > pipeline.max_frames:
        require_pieces(chain)
    require_batch(conditions, batch)
    count = max(1, pipeline.max_frames // frames)
    made = [
        pipeline.decode(features[items], chain, timer, numbers=of_items(conditions, items))
        for items in (slice(first, first + count) for first in range(0, batch, count))
    ]
    return made[0] if len(made) == 1 else torch.cat(made)


def decode_ragged(
    pipeline: Pipeline,
    features: Tensor,
    lengths: list[int],
    refine: int,
    timer: StageTimer,
    conditions: Mapping[str, Tensor],
) -> list[Tensor]:
    """Decode items of several lengths: together if they are short, else one by one.

    Shape: (B, C, L), B lengths -> B tensors of (T,)
    """
    chain, busy = pipeline.decoding(refine), pipeline.is_on_cpu and workers.should_share()
    if busy and features.shape[2] <= pipeline.max_frames:
        return parallel.decode_ragged(pipeline, features, lengths, chain, timer, conditions)
    if features.shape[0] * features.shape[2] <= pipeline.max_frames:
        return pipeline.decode_ragged(features, lengths, chain, timer, numbers=conditions)
    require_batch(conditions, len(lengths))
    return [
        decode(pipeline, features[i : i + 1, :, :n], refine, timer, of_items(conditions, slice(i, i + 1)))[0]
        for i, n in enumerate(lengths)
    ]
