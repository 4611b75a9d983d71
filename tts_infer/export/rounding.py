"""What weights in fewer bits cost, measured on real speech: log-mel error, and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tts_infer.dsp.mel import log_mel_error_db
from tts_infer.errors import ExportError
from tts_infer.evaluation.systems import read_beginning
from tts_infer.export.graphs import Decoder
from tts_infer.vocoder import Vocoder

Run = Callable[[Mapping[str, Tensor]], list[Tensor]]
RUNS = 7
# Of the fastest runs. Both graphs compute the same with other numbers, so a machine's noise must not decide.
SLOWER = 1.25


@dataclass(frozen=True)
class RoundingCost:
    """A graph with rounded weights beside the one without, on one recording.

    Attributes:
        speech: the recording.
        error_db, unrounded_error_db: log-mel error of the copy to the recording.
        difference_db: log-mel error of one copy to the other.
        time_ratio: time of the fastest run, relative to the graph without.
        size, unrounded_size: bytes of the graphs' files.
    """

    speech: str
    error_db: float
    unrounded_error_db: float
    difference_db: float
    time_ratio: float
    size: int
    unrounded_size: int


@torch.no_grad()
def rounding_cost(
    vocoder: Vocoder, speech: Path, unrounded: tuple[Decoder, Run], rounded: tuple[Decoder, Run], sizes: tuple[int, int]
) -> RoundingCost:
    """Copy the first 30 s of a recording with both graphs, in turns.

    Args:
        vocoder: makes the mels.
        speech: an audio file.
        unrounded, rounded: the modules of both graphs, which say what goes in and comes out, and the graphs.
        sizes: bytes of both.

    Raises:
        FileError, InputError: the recording cannot be read, or the vocoder takes no mels.
        ExportError: the rounded one is slower and worse.
    """
    config = vocoder.mel_config
    samples, _ = read_beginning(speech, config.sample_rate)
    audio = torch.from_numpy(samples)[None]
    mel = vocoder.mel(audio).cpu()
    copies, times = [], []
    for graph, run in (unrounded, rounded):
        given = graph.example(1, 1) | {graph.inputs[0]: audio if graph.stages[0].takes == ("audio",) else mel}
        copies.append(vocoder.mel(graph.audio(*run(given))).cpu())
        times.append((run, given, list[float]()))
    for _ in range(RUNS):
        for run, given, ms in times:
            start = time.perf_counter()
            run(given)
            ms.append((time.perf_counter() - start) * 1e3)
    fastest = [min(ms) for _, _, ms in times]
    before, after = (log_mel_error_db(mel, copy, config) for copy in copies)
    apart, ratio = log_mel_error_db(copies[0], copies[1], config), fastest[1] / fastest[0]
    cost = RoundingCost(str(speech), after, before, apart, ratio, sizes[1], sizes[0])
    if cost.time_ratio > SLOWER and cost.error_db > cost.unrounded_error_db:
        text = "these weights are slower, {ratio:.2f} of the time, and worse, {error:.3f} dB after {before:.3f} dB; "
        text += "use float32; no file was written"
        raise ExportError(
            text,
            code="export-slower-and-worse",
            ratio=cost.time_ratio,
            error=cost.error_db,
            before=cost.unrounded_error_db,
        )
    return cost
