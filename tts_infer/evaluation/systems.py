"""What is evaluated and compared: systems that copy audio, such as a vocoder with its settings."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tts_infer.arguments import checked, require_fields
from tts_infer.config import MelConfig
from tts_infer.decoding import Synthesis
from tts_infer.devices import CPU, device_lock
from tts_infer.errors import InputError
from tts_infer.evaluation.metrics import Samples
from tts_infer.io.audio import read_blocks
from tts_infer.io.notes import SignalMeter
from tts_infer.runtime.placement import make_placement
from tts_infer.runtime.timing import StageTimer
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import family_of
from tts_infer.vocoders.griffin_lim import GriffinLim

# Only the beginning of a longer file is measured: PESQ is made for at most 30 s, and memory stays bounded.
MAX_SECONDS = 30.0
BASELINE = "griffin-lim"


@dataclass(frozen=True)
class System:
    """A function that computes the mel of (1, T) samples, and one that decodes (1, n_mels, L) to (1, T).

    Attributes:
        label: its name beside others.
        config: the convention of the mel.
        mel, decode: the functions.
        timed: what does both and reports its stages, as `Vocoder.synthesize`; None: the two functions are the stages.
        seams: of so many samples, those at which pieces are joined; None: it makes one piece.
        vocoder: the vocoder that it is, with its own number of passes; None: other software.
    """

    label: str
    config: MelConfig
    mel: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    timed: Callable[..., Synthesis] | None = None
    seams: Callable[[int], Sequence[int]] | None = None
    vocoder: Vocoder | None = None

    @torch.inference_mode()
    def synthesize(self, features: Tensor | None = None, *, audio: Tensor | None = None) -> Synthesis:
        """Decode a mel, or copy audio, and report where the time went.

        Shape: features of (1, n_mels, L), or audio of (1, T)
        """
        if self.timed is not None:
            return self.timed(features, audio=audio)
        start, timer = time.perf_counter(), StageTimer(enabled=True)
        if features is None:
            assert audio is not None
            with timer.stage("mel", CPU, self.label):
                features = self.mel(audio)
        with timer.stage("decode", CPU, self.label):
            made = self.decode(features)
        total_ms = (time.perf_counter() - start) * 1e3
        return Synthesis(made, features, self.config.sample_rate, timer.records, total_ms)

    def __post_init__(self) -> None:
        require_fields(self)


@dataclass(frozen=True)
class Copy:
    """An original at the system's sample rate, its copy, the log-mels of both, and the time that decoding took."""

    system: System
    original: Samples
    samples: Samples
    mels: tuple[Tensor, Tensor] | None  # None: the copy is too short for one frame
    decode_s: float
    shortened: bool  # only the beginning of the file was copied


@checked()
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
            found.append(system_of(vocoder, label, passes))
    conventions: dict[MelConfig, str] = {}
    for system in found if baseline else ():
        conventions.setdefault(system.config, system.label)
    for config, label in conventions.items():
        name = BASELINE if len(conventions) == 1 else f"{BASELINE} for {label}"
        found.append(system_of(_griffin_lim(config), name))
    return number_equal_labels(found), {}


def system_of(vocoder: Vocoder, label: str, refine: int | None = None) -> System:
    """A vocoder as a system.

    Args:
        vocoder: any that takes mels.
        label: its name beside others.
        refine: passes of refinement; None: the default of the vocoder.

    Raises:
        InputError: the refinement is negative, or the vocoder takes no mels.
    """
    if refine is not None and refine < 0:  # refuse before any work is done
        raise InputError("refine is {refine}; allowed: 0 or more passes", code="refine-negative", refine=refine)
    own = copy.copy(vocoder)  # the same stages, and another default
    own.refine = vocoder.refine if refine is None else refine
    return System(label, vocoder.mel_config, own.mel, own.decode, own.synthesize, vocoder=own)


def _griffin_lim(config: MelConfig) -> Vocoder:
    model = GriffinLim(config)
    placement = make_placement(device=CPU, mel="fft", stages=family_of(model).stages(model))
    return Vocoder(model, placement, BASELINE)


def number_equal_labels(systems: Sequence[System]) -> list[System]:
    """The systems, with numbers behind labels that another one has."""
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
            originals[rate] = read_beginning(path, rate)
        yield _copy(system, *originals[rate])


@torch.inference_mode()
def _copy(system: System, original: Samples, shortened: bool) -> Copy:
    mel = system.mel(torch.from_numpy(original)[None])
    start = time.perf_counter()
    samples = on_cpu(system.decode(mel)[0].float()).numpy()
    decode_s = time.perf_counter() - start
    mels = None
    if len(samples) >= system.config.hop_length:
        mels = on_cpu(mel), on_cpu(system.mel(torch.from_numpy(samples)[None]))
    return Copy(system, original, samples, mels, decode_s, shortened)


def on_cpu(tensor: Tensor) -> Tensor:
    """The tensor in memory that numpy can read."""
    with device_lock(tensor.device):
        return tensor.cpu()


def read_beginning(path: Path, sample_rate: int, meter: SignalMeter | None = None) -> tuple[Samples, bool]:
    """The first 30 s of a file, and whether the file is longer.

    Args:
        path: the file.
        sample_rate: at which it is read.
        meter: measures what is read of it.
    """
    wanted, samples = round(MAX_SECONDS * sample_rate), 0
    blocks = []
    for block in read_blocks(path, sample_rate, meter=meter):
        blocks.append(block)
        samples += len(block)
        if samples > wanted:
            break
    return np.concatenate(blocks)[:wanted], samples > wanted
