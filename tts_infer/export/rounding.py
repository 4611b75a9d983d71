"""What weights in fewer bits cost, measured on real speech: log-mel error, and time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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
# A busy machine disturbs some turns, a slow graph is slow in all: so many rounds of turns must call it slow.
ROUNDS = 5
SLOWER = 1.25
WORSE_DB = 0.005  # half of the last digit that people read


@dataclass(frozen=True)
class RoundingCost:
    """A graph with rounded weights beside the one without, on one recording.

    Attributes:
        speech: the recording.
        error_db, unrounded_error_db: log-mel error of the copy to the recording.
        difference_db: log-mel error of one copy to the other.
        time_ratio: time of the fastest run, relative to the graph without; the smallest of up to 5 rounds.
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
    copies, runs = [], []
    for graph, run in (unrounded, rounded):
        given = graph.example(1, 1) | {graph.inputs[0]: audio if graph.stages[0].takes == ("audio",) else mel}
        copies.append(vocoder.mel(graph.audio(*run(given))).cpu())
        runs.append(partial(run, given))
    before, after = (log_mel_error_db(mel, copy, config) for copy in copies)
    apart = log_mel_error_db(copies[0], copies[1], config)
    cost = RoundingCost(str(speech), after, before, apart, time_ratio(*runs), sizes[1], sizes[0])
    if cost.time_ratio > SLOWER and cost.error_db > cost.unrounded_error_db + WORSE_DB:
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


def time_ratio(before: Callable[[], object], after: Callable[[], object]) -> float:
    """The fastest run of one relative to that of the other, in turns; measured again as long as the ratio is high."""
    ratio = math.inf
    for _ in range(ROUNDS):
        ms = [[_ms(before), _ms(after)] for _ in range(RUNS)]
        ratio = min(ratio, min(one[1] for one in ms) / min(one[0] for one in ms))
        if ratio <= SLOWER:
            break
    return ratio


def _ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3
