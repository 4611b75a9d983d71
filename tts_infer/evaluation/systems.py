"""What makes copies of audio: vocoders, at each of their settings, and the baseline."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.devices import device_lock
from tts_infer.dsp.mel import LogMel
from tts_infer.errors import InputError, MissingPackageError
from tts_infer.evaluation.griffin_lim import GriffinLim
from tts_infer.evaluation.metrics import Samples
from tts_infer.io.audio import read_blocks
from tts_infer.vocoder import Vocoder

# Of a longer file, the beginning is measured: what PESQ is made for ends there, and so does bounded memory.
MAX_SECONDS = 30.0
BASELINE = "griffin-lim"


@dataclass(frozen=True)
class Candidate:
    """What makes copies: its mel of (1, T) samples, and its decoder from (1, n_mels, L) to (1, T)."""

    label: str
    config: MelConfig
    mel: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Copy:
    """An original at the candidate's rate, its copy, their log-mels, and how long decoding took."""

    candidate: Candidate
    original: Samples
    samples: Samples
    mels: tuple[Tensor, Tensor] | None  # None: the copy is too short for one
    decode_s: float
    shortened: bool  # the file is longer


def candidates_of(
    vocoders: Sequence[Vocoder | Candidate], refine: Sequence[int | None] = (None,), baseline: bool = True
) -> tuple[list[Candidate], dict[str, str]]:
    """Make candidates of vocoders, each once for every refinement, and Griffin-Lim for each of their conventions.

    Returns:
        The candidates, those of one label told apart by numbers; and why the baseline is missing, if it is.

    Raises:
        InputError: a refinement that there is not.
    """
    found: list[Candidate] = []
    for vocoder in vocoders:
        if isinstance(vocoder, Candidate):
            found.append(vocoder)
            continue
        for steps in refine:
            label = vocoder.name if steps is None else f"{vocoder.name} refine={steps}"
            found.append(Candidate(label, vocoder.mel_config, vocoder.mel, _decoder(vocoder, steps)))
    conventions = {one.config: one.label for one in reversed(found)} if baseline else {}
    missing: dict[str, str] = {}
    for config, label in reversed(conventions.items()):
        name = BASELINE if len(conventions) == 1 else f"{BASELINE} for {label}"
        try:
            found.append(Candidate(name, config, LogMel(config, "fft"), GriffinLim(config)))
        except MissingPackageError as error:
            missing[BASELINE] = str(error)
    return _told_apart(found), missing


def _decoder(vocoder: Vocoder, refine: int | None) -> Callable[[Tensor], Tensor]:
    """Decode with that many passes of refinement; None: the vocoder's own default."""
    if refine is None:
        return vocoder.decode
    if refine < 0:  # before any work
        raise InputError(f"refine is {refine}; allowed: a number of passes, 0 or more")
    return partial(vocoder.decode, refine=refine)


def _told_apart(candidates: Sequence[Candidate]) -> list[Candidate]:
    seen: Counter[str] = Counter()
    result = []
    for one in candidates:
        seen[one.label] += 1
        result.append(one if seen[one.label] == 1 else replace(one, label=f"{one.label} ({seen[one.label]})"))
    return result


def copies(path: Path, candidates: Sequence[Candidate]) -> Iterator[Copy]:
    """Copy the beginning of one file with each candidate, at that candidate's rate.

    Raises:
        FileError, InputError: the file cannot be read, or is too short for one frame.
    """
    originals: dict[int, tuple[Samples, bool]] = {}
    for candidate in candidates:
        rate = candidate.config.sample_rate
        if rate not in originals:
            originals[rate] = _beginning(path, rate)
        yield _copy(candidate, *originals[rate])


@torch.inference_mode()
def _copy(candidate: Candidate, original: Samples, shortened: bool) -> Copy:
    mel = candidate.mel(torch.from_numpy(original)[None])
    start = time.perf_counter()
    samples = _on_cpu(candidate.decode(mel)[0].float()).numpy()
    spent = time.perf_counter() - start
    mels = None
    if len(samples) >= candidate.config.hop_length:
        mels = _on_cpu(mel), _on_cpu(candidate.mel(torch.from_numpy(samples)[None]))
    return Copy(candidate, original, samples, mels, spent, shortened)


def _on_cpu(tensor: Tensor) -> Tensor:
    with device_lock(tensor.device):
        return tensor.cpu()


def _beginning(path: Path, sample_rate: int) -> tuple[Samples, bool]:
    """The first 30 s of a file, and whether there is more."""
    wanted, samples = round(MAX_SECONDS * sample_rate), 0
    blocks = []
    for block in read_blocks(path, sample_rate):
        blocks.append(block)
        samples += len(block)
        if samples > wanted:
            break
    return np.concatenate(blocks)[:wanted], samples > wanted
