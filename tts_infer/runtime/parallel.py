"""Decodes on the CPU, shared between workers: parts of long signals, items of batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from tts_infer.devices import CPU
from tts_infer.runtime import workers
from tts_infer.runtime.pipeline import Pipeline, Placed
from tts_infer.runtime.timing import StageRecord, StageTimer, add_up
from tts_infer.runtime.workers import Part
from tts_infer.stages import total_frames
from tts_infer.vocoders.conditions import NO_NUMBERS, of_items, require_batch

T = TypeVar("T")


def decode(
    pipeline: Pipeline,
    features: Tensor,
    chain: Sequence[Placed],
    timer: StageTimer,
    numbers: Mapping[str, Tensor] = NO_NUMBERS,
) -> Tensor:
    """Decode whole signals of one length, as `Pipeline.decode`, in parts that workers share.

    A part is computed with the frames around it that its own frames depend on, so the parts join to the whole.

    Shape: (B, C, L) -> (B, T)
    """
    batch, _, frames = features.shape
    require_batch(numbers, batch)
    (features,) = timer.move((features,), CPU)
    context = total_frames((placed.stage for placed in chain), lambda stage: stage.delay_frames)
    cut = workers.parts(batch, frames, context, workers.count(), workers.other_cores())
    if len(cut) == 1 or any(placed.stage.whole for placed in chain):
        return workers.alone(lambda: pipeline.decode(features, chain, timer, numbers=numbers))
    samples, per_frame = pipeline.n_samples(frames), pipeline.n_samples(frames + 1) - pipeline.n_samples(frames)
    audio = torch.empty(batch, samples, dtype=torch.float32, device=CPU)
    timers = [StageTimer(timer.enabled) for _ in cut]

    def compute(part: Part, own: StageTimer) -> None:
        begin, end = max(0, part.start - context), min(frames, part.stop + context)
        with torch.inference_mode():
            given = of_items(numbers, part.items)
            piece = pipeline.decode(features[part.items, :, begin:end], chain, own, numbers=given)
            last = part.stop == frames
            wanted = slice((part.start - begin) * per_frame, None if last else (part.stop - begin) * per_frame)
            audio[part.items, part.start * per_frame : samples if last else part.stop * per_frame] = piece[:, wanted]

    start = time.perf_counter()
    workers.run([_task(compute, part, own) for part, own in zip(cut, timers, strict=True)])
    timer.records += _as_wall_time([own.records for own in timers], (time.perf_counter() - start) * 1e3)
    return audio


def decode_ragged(
    pipeline: Pipeline,
    features: Tensor,
    lengths: list[int],
    chain: Sequence[Placed],
    timer: StageTimer,
    numbers: Mapping[str, Tensor] = NO_NUMBERS,
) -> list[Tensor]:
    """Decode several lengths: groups of items that workers share.

    Shape: (B, C, L), B lengths -> B tensors of (T,)
    """
    require_batch(numbers, len(lengths))
    groups = [part.items for part in workers.parts(len(lengths), features.shape[2], 0, workers.count())]
    if len(groups) == 1 or features.shape[2] > workers.PART_FRAMES:
        return workers.alone(lambda: pipeline.decode_ragged(features, lengths, chain, timer, numbers))
    timers = [StageTimer(timer.enabled) for _ in groups]

    def compute(items: slice, own: StageTimer) -> list[Tensor]:
        longest = max(lengths[items])
        with torch.inference_mode():
            given = of_items(numbers, items)
            return pipeline.decode_ragged(features[items, :, :longest], lengths[items], chain, own, given)

    start = time.perf_counter()
    made = workers.run([_task(compute, items, own) for items, own in zip(groups, timers, strict=True)])
    timer.records += _as_wall_time([own.records for own in timers], (time.perf_counter() - start) * 1e3)
    return [audio for group in made for audio in group]


def _task(compute: Callable[..., T], *arguments: object) -> Callable[[], T]:
    return lambda: compute(*arguments)


def _as_wall_time(reports: Sequence[list[StageRecord]], wall_ms: float) -> list[StageRecord]:
    """One report of parts that ran side by side: each stage's share of the wall time."""
    total = add_up(reports)
    spent = sum(record["ms"] for record in total)
    for record in total:
        record["ms"] *= wall_ms / spent if spent else 0.0
    return total
