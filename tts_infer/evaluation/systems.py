"""What is evaluated: systems that copy audio. A system is a vocoder with its settings, or the Griffin-Lim baseline."""

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
from tts_infer.errors import InputError
from tts_infer.evaluation.griffin_lim import GriffinLim
from tts_infer.evaluation.metrics import Samples
from tts_infer.io.audio import read_blocks
from tts_infer.vocoder import Vocoder

# Only the beginning of a longer file is measured: PESQ is made for at most 30 s, and memory stays bounded.
MAX_SECONDS = 30.0
BASELINE = "griffin-lim"


@dataclass(frozen=True)
class System:
    """A function that computes the mel of (1, T) samples, and one that decodes (1, n_mels, L) to (1, T)."""

    label: str
    config: MelConfig
    mel: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Copy:
    """An original at the system's sample rate, its copy, the log-mels of both, and the time that decoding took."""

    system: System
    original: Samples
    samples: Samples
    mels: tuple[Tensor, Tensor] | None  # None: the copy is too short for one frame
    decode_s: float
    shortened: bool  # only the beginning of the file was copied


def systems_of(
    vocoders: Sequence[Vocoder | System], refine: Sequence[int | None] = (None,), baseline: bool = True
) -> tuple[list[System], dict[str, str]]:
    """Make one system of each vocoder and refinement, and one Griffin-Lim for each mel convention among them.

    Args:
        vocoders: a `System` is taken as it is.
        refine: numbers of passes; None: the default of the vocoder.
        baseline: whether Griffin-Lim is added.

    Returns:
        The systems, with numbers behind equal labels; and why others are missing: never now, as the
        baseline needs no package.

    Raises:
        InputError: a refinement is negative, or a vocoder makes audio of another rate than its mels'.
    """
    found: list[System] = []
    for vocoder in vocoders:
        if isinstance(vocoder, System):
            found.append(vocoder)
            continue
        if vocoder.sample_rate != vocoder.mel_config.sample_rate:
            text = (
                "{name} makes audio of {rate} Hz from mels of {mel_rate} Hz; copies of other rates cannot be compared"
            )
            rates = vocoder.sample_rate, vocoder.mel_config.sample_rate
            raise InputError(text, code="evaluate-rates", name=vocoder.name, rate=rates[0], mel_rate=rates[1])
        for passes in refine:
            label = vocoder.name if passes is None else f"{vocoder.name} refine={passes}"
            found.append(System(label, vocoder.mel_config, vocoder.mel, _decoder(vocoder, passes)))
    conventions: dict[MelConfig, str] = {}
    for system in found if baseline else ():
        conventions.setdefault(system.config, system.label)
    for config, label in conventions.items():
        name = BASELINE if len(conventions) == 1 else f"{BASELINE} for {label}"
        found.append(System(name, config, LogMel(config, "fft"), GriffinLim(config)))
    return _number_equal_labels(found), {}


def _decoder(vocoder: Vocoder, refine: int | None) -> Callable[[Tensor], Tensor]:
    """Decode with so many passes of refinement; None: the default of the vocoder."""
    if refine is None:
        return vocoder.decode
    if refine < 0:  # refuse before any work is done
        raise InputError("refine is {refine}; allowed: 0 or more passes", code="refine-negative", refine=refine)
    return partial(vocoder.decode, refine=refine)


def _number_equal_labels(systems: Sequence[System]) -> list[System]:
    seen: Counter[str] = Counter()
    result = []
    for one in systems:
        seen[one.label] += 1
        result.append(one if seen[one.label] == 1 else replace(one, label=f"{one.label} ({seen[one.label]})"))
    return result


def copy_file(path: Path, systems: Sequence[System]) -> Iterator[Copy]:
    """Copy the beginning of one file with each system, at the sample rate of that system.

    Raises:
        FileError, InputError: the file cannot be read, or is too short for one frame.
    """
    originals: dict[int, tuple[Samples, bool]] = {}
    for system in systems:
        rate = system.config.sample_rate
        if rate not in originals:
            originals[rate] = _beginning(path, rate)
        yield _copy(system, *originals[rate])


@torch.inference_mode()
def _copy(system: System, original: Samples, shortened: bool) -> Copy:
    mel = system.mel(torch.from_numpy(original)[None])
    start = time.perf_counter()
    samples = _on_cpu(system.decode(mel)[0].float()).numpy()
    decode_s = time.perf_counter() - start
    mels = None
    if len(samples) >= system.config.hop_length:
        mels = _on_cpu(mel), _on_cpu(system.mel(torch.from_numpy(samples)[None]))
    return Copy(system, original, samples, mels, decode_s, shortened)


def _on_cpu(tensor: Tensor) -> Tensor:
    with device_lock(tensor.device):
        return tensor.cpu()


def _beginning(path: Path, sample_rate: int) -> tuple[Samples, bool]:
    """The first 30 s of a file, and whether the file is longer."""
    wanted, samples = round(MAX_SECONDS * sample_rate), 0
    blocks = []
    for block in read_blocks(path, sample_rate):
        blocks.append(block)
        samples += len(block)
        if samples > wanted:
            break
    return np.concatenate(blocks)[:wanted], samples > wanted
