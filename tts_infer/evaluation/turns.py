"""Systems take turns on one input, and are measured.

found = tts_infer.compare("speech.wav", tts_infer.contestants(engines=["onednn", "vocos", "griffin-lim"]))
print(found.as_dict())
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tts_infer.arguments import checked
from tts_infer.config import MelConfig
from tts_infer.decoding import Synthesis
from tts_infer.devices import CPU
from tts_infer.dsp.mel import log_mel_error_db
from tts_infer.errors import InputError
from tts_infer.evaluation.comparison import SHORTENED, Comparison, Result, Sound, Spread
from tts_infer.evaluation.metrics import Samples
from tts_infer.evaluation.systems import MAX_SECONDS, System, on_cpu, read_beginning, systems_of
from tts_infer.io.feature_files import read_features
from tts_infer.io.features import as_features, prefix_errors
from tts_infer.io.notes import Note, SignalMeter
from tts_infer.io.sources import Name, holds_features, is_path
from tts_infer.runtime.memory import NO_PEAK, with_peak
from tts_infer.stages import relative_error
from tts_infer.vocoder import Features, Vocoder

RUNS = 5
# Threads of the system before spin for a while, waiting for more work.
_REST_S = 0.01


@dataclass
class _Entry:
    """A system with its input, and what its runs gave so far."""

    system: System
    original: Samples | None  # None: the input is a mel
    mel: Tensor | None
    first: Synthesis | None = None
    peak_bytes: int | None = None

    def run(self) -> Synthesis:
        if self.original is not None:
            return self.system.synthesize(audio=torch.from_numpy(self.original)[None])
        return self.system.synthesize(self.mel)


@checked("systems", "runs")
def compare(
    source: Name | Features,
    systems: Sequence[Vocoder | System],
    *,
    runs: int = RUNS,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Decode one mel, or copy one clip, with every system, and measure.

    The first run of each is not timed. Then they take turns, so that a slow moment of the machine hits all of them. The
    first 30 s of the input are used.

    Args:
        source: an audio file, a file of a mel, or a mel itself, of (n_mels, L) or (1, n_mels, L).
        systems: at least one; see `contestants`.
        runs: timed ones of each.
        progress: called after each run with the number of runs done and of all runs.

    Raises:
        FileError, InputError, InputTypeError: the input cannot be read, or a system cannot decode it; no systems, or
            fewer runs than one.
    """
    found, _ = systems_of(systems, baseline=False)
    if not found or runs < 1:
        text = "nothing to compare: {systems} systems and {runs} runs; give at least one of each"
        raise InputError(text, code="nothing-to-compare", systems=len(found), runs=runs)
    entries, notes = _entries(source, found)
    reports: list[list[Synthesis]] = [[] for _ in entries]
    for turn in range(len(entries) * (runs + 1)):
        entry, report = entries[turn % len(entries)], reports[turn % len(entries)]
        with prefix_errors(entry.system.label):
            if entry.first is None:
                entry.first, entry.peak_bytes = with_peak(entry.run)
            else:
                time.sleep(_REST_S)
                report.append(_without_sound(entry.run()))
        if progress is not None:
            progress(turn + 1, len(entries) * (runs + 1))
    sounds = tuple(_sound(entry) for entry in entries)
    results = tuple(
        _result(entry, report, sound, sounds[0]) for entry, report, sound in zip(entries, reports, sounds, strict=True)
    )
    unavailable = {"peak_bytes": NO_PEAK} if any(one.peak_bytes is None for one in results) else {}
    name = str(source) if is_path(source) else "a mel"
    copied, threads = entries[0].original is not None, torch.get_num_threads()
    shortened = SHORTENED in notes
    return Comparison(name, copied, shortened, runs, threads, results, sounds, unavailable, notes)


def _entries(source: Name | Features, systems: Sequence[System]) -> tuple[list[_Entry], tuple[Note, ...]]:
    """Every system with its input, and what is odd about the input."""
    if is_path(source) and not holds_features(source):
        clips: dict[int, Samples] = {}
        notes: list[Note] = []
        for rate in dict.fromkeys(system.config.sample_rate for system in systems):
            meter = SignalMeter()
            clips[rate], cut = read_beginning(Path(source), rate, meter)
            notes += [*([SHORTENED] if cut else []), *meter.notes()]
        entries = [_Entry(system, clips[system.config.sample_rate], None) for system in systems]
        return entries, tuple(dict.fromkeys(notes))
    config = systems[0].config
    with prefix_errors(source if is_path(source) else "input"):
        given = read_features(source) if isinstance(source, (str, os.PathLike)) else source
        mel = as_features(given, config.n_mels)
        if mel.shape[0] != 1:
            text = "mel holds a batch of {batch}; expected one mel a file"
            raise InputError(text, code="mel-file-batch", batch=mel.shape[0])
    frames = round(MAX_SECONDS * config.sample_rate / config.hop_length)
    return [_Entry(system, None, mel[..., :frames]) for system in systems], (SHORTENED,) * (mel.shape[2] > frames)


def _without_sound(made: Synthesis) -> Synthesis:
    """The figures of a run; its tensors may go."""
    nothing = torch.zeros(0, device=CPU)
    return replace(made, audio=nothing, features=nothing)


def _sound(entry: _Entry) -> Sound:
    made = entry.first
    assert made is not None
    with torch.inference_mode():
        audio, features = on_cpu(made.audio)[0].float().numpy(), on_cpu(made.features)[0]
    return Sound.of(entry.system, entry.original, audio, made.sample_rate, features)


def _result(entry: _Entry, report: Sequence[Synthesis], sound: Sound, first: Sound) -> Result:
    """The figures of one system.

    Args:
        entry, sound: its input and output.
        report: its timed runs.
        first: what the first system made.
    """
    rate = sound.sample_rate
    seconds = len(sound.audio) / rate
    runs = sorted(report, key=lambda run: run.total_ms)
    assert entry.first is not None
    return Result(
        entry.system.label,
        rate,
        seconds,
        Spread.of([run.total_ms for run in runs]),
        Spread.of([seconds / (run.total_ms / 1e3) for run in runs]),
        runs[len(runs) // 2].stages,
        entry.peak_bytes,
        _distance_db(sound.input_mel, sound.mel, sound.system.config),
        _distance_db(first.mel, sound.mel_as(first), first.system.config),
        _difference(sound, first),
    )


def _distance_db(reference: Tensor | None, mel: Tensor | None, config: MelConfig) -> float | None:
    """The log-mel error; None: there is no frame that both have."""
    if reference is None or mel is None or not min(reference.shape[1], mel.shape[1]):
        return None
    return log_mel_error_db(reference, mel, config)


def _difference(sound: Sound, first: Sound) -> float | None:
    """Largest difference of two waveforms, relative to the peak of the first; None: they do not match."""
    if sound.sample_rate != first.sample_rate or not len(sound.audio) or sound.audio.shape != first.audio.shape:
        return None
    return relative_error(torch.from_numpy(sound.audio), torch.from_numpy(first.audio))
