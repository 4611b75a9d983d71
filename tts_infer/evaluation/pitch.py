"""Periodicity, voicing and pitch of speech, and their errors: by the tracker of the Vocos paper, or by faster ones.

Definitions. Frames of 64 ms, 10 ms apart, at 16 kHz, without padding. Pitch is searched from 50 to 550 Hz. A frame has
periodicity 0 if its A-weighted spectrum, relative to 20 dB, is below -60 dB on average. A frame is voiced if its
periodicity is at least 0.21. Source: metrics/periodicity.py of the Vocos repository, after CARGAN (arXiv 2110.10139).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.errors import InputError, missing_package, require_package
from tts_infer.evaluation.metrics import PERCEPTUAL_RATE, Samples
from tts_infer.vocoders.reference import without_native_torchaudio

PitchTracker = Literal["crepe", "crepe-tiny", "pyin", "none"]
TRACKER_NAMES: dict[PitchTracker, str] = {
    "crepe": "CREPE full (torchcrepe), Viterbi",
    "crepe-tiny": "CREPE tiny (torchcrepe), Viterbi",
    "pyin": "pYIN (librosa)",
    "none": "none",
}

TRACKER_PACKAGES: dict[PitchTracker, str] = {
    "crepe": "torchcrepe",
    "crepe-tiny": "torchcrepe",
    "pyin": "librosa",
    "none": "none",
}

_WINDOW = 1024
_HOP = PERCEPTUAL_RATE // 100
_RANGE_HZ = (50.0, 550.0)
_VOICED = 0.21
_SILENCE_DB = -60.0
_REFERENCE_DB = 20.0
_BIN_CENTS, _LOWEST_BIN_HZ = 20, 31.70  # of CREPE's 360 bins
_BINS_NEARBY = 4
_FRAMES_AT_ONCE = 32  # as many as fit the CPU's caches


@dataclass(frozen=True)
class PitchTrack:
    """Periodicity, from 0 to 1, voicing and pitch of each frame. The pitch of unvoiced frames means nothing.

    Shape: (L,), (L,) and (L,), L = 1 + (T - 1024) // 160
    """

    periodicity: NDArray[np.float32]
    voiced: NDArray[np.bool_]
    f0_hz: NDArray[np.float32]


def tracker_name(tracker: PitchTracker) -> str:
    """The name of a tracker for reports.

    Raises:
        InputError: no such tracker.
    """
    if tracker not in TRACKER_NAMES:
        raise InputError(
            "pitch tracker is {tracker!r}; allowed: {allowed}",
            code="pitch-tracker-unknown",
            tracker=tracker,
            allowed=", ".join(TRACKER_NAMES),
        )
    return TRACKER_NAMES[tracker]


def track_pitch(samples: Samples, tracker: PitchTracker = "crepe") -> PitchTrack:
    """Find periodicity, voicing and pitch of a signal at 16 kHz.

    Args:
        samples: full scale 1.0.
        tracker: "crepe" is the paper's; "crepe-tiny" is its small model, several times faster; "pyin" is librosa's,
            its periodicity is the probability of voicing, and its voicing is its own decision; "none" tracks nothing
            and gives no frames.

    Shape: (T,) -> L frames, none for T < 1024
    Raises:
        InputError: no such tracker.
        MissingPackageError: no torchcrepe, or no librosa.
    """
    tracker_name(tracker)
    if tracker == "none" or len(samples) < _WINDOW:
        return PitchTrack(np.zeros(0, np.float32), np.zeros(0, np.bool_), np.zeros(0, np.float32))
    track = _pyin(samples) if tracker == "pyin" else _crepe(samples, "full" if tracker == "crepe" else "tiny")
    silent = _loudness_db(samples) < _SILENCE_DB
    return PitchTrack(np.where(silent, np.float32(0), track.periodicity), track.voiced & ~silent, track.f0_hz)


def periodicity_error(reference: PitchTrack, output: PitchTrack) -> float:
    """Root mean square difference of the periodicity, over the frames that both have; NaN if there is none."""
    frames = min(len(reference.periodicity), len(output.periodicity))
    if not frames:
        return math.nan
    difference = reference.periodicity[:frames] - output.periodicity[:frames]
    return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))


def voicing_f1(reference: PitchTrack, output: PitchTrack) -> float:
    """F1 of the decision voiced or unvoiced: 2 TP / (2 TP + FP + FN), where positive means voiced.

    Returns:
        0 to 1; NaN if neither has a voiced frame.
    """
    frames = min(len(reference.voiced), len(output.voiced))
    truth, found = reference.voiced[:frames], output.voiced[:frames]
    wrong, both = int((truth != found).sum()), int((truth & found).sum())
    return 2 * both / (2 * both + wrong) if both or wrong else math.nan


def f0_rmse_cents(reference: PitchTrack, output: PitchTrack) -> float:
    """Root mean square difference of the pitch over the frames that are voiced in both, octave errors included.

    Returns:
        Cents, 100 for a semitone; NaN if no frame is voiced in both.
    """
    frames = min(len(reference.voiced), len(output.voiced))
    both = reference.voiced[:frames] & output.voiced[:frames]
    if not both.any():
        return math.nan
    ratio = output.f0_hz[:frames][both].astype(np.float64) / reference.f0_hz[:frames][both]
    return float(1200 * np.sqrt(np.mean(np.square(np.log2(ratio)))))


def _loudness_db(samples: Samples) -> NDArray[np.float64]:
    """Mean A-weighted power of each frame over its bins, in dB relative to 20 dB.

    Bins count as at most 80 dB below the loudest one.
    """
    librosa = require_package("librosa", "evaluate")
    spectrum = torch.stft(
        torch.from_numpy(samples), _WINDOW, _HOP, window=torch.hann_window(_WINDOW), center=False, return_complex=True
    )
    power_db = 10 * np.log10(np.maximum(spectrum.abs().square().numpy().astype(np.float64), 1e-10))
    power_db = np.maximum(power_db, power_db.max() - 80.0)
    frequencies = librosa.fft_frequencies(sr=PERCEPTUAL_RATE, n_fft=_WINDOW)
    with np.errstate(divide="ignore"):  # log of 0 at 0 Hz; librosa limits the weight to -80 dB
        weights = librosa.A_weighting(frequencies)
    loudness: NDArray[np.float64] = (power_db + weights[:, None] - _REFERENCE_DB).mean(axis=0)
    return loudness


def _pyin(samples: Samples) -> PitchTrack:
    librosa = require_package("librosa", "evaluate")
    low, high = _RANGE_HZ
    f0_hz, voiced, probability = librosa.pyin(
        samples, fmin=low, fmax=high, sr=PERCEPTUAL_RATE, frame_length=_WINDOW, hop_length=_HOP, center=False
    )
    return PitchTrack(probability.astype(np.float32), voiced, f0_hz.astype(np.float32))


@torch.inference_mode()
def _crepe(samples: Samples, capacity: str) -> PitchTrack:
    """The pitch on the best path, and the network's probability of it."""
    torchcrepe, model = _import_torchcrepe(), _crepe_model(capacity)
    frames = torch.from_numpy(samples).unfold(0, _WINDOW, _HOP)
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = frames / frames.std(dim=1, keepdim=True).clamp_min(1e-10)
    probabilities = torch.cat([model(piece) for piece in frames.split(_FRAMES_AT_ONCE)])
    low, high = _RANGE_HZ
    with _kept_random_state():  # torchcrepe adds random dither to its own pitch, which is not used here
        f0_hz, periodicity = torchcrepe.postprocess(
            probabilities.T[None], low, high, decoder=_best_path, return_periodicity=True
        )
    found: NDArray[np.float32] = periodicity[0].numpy().astype(np.float32)
    return PitchTrack(found, found >= _VOICED, f0_hz[0].numpy().astype(np.float32))


def _best_path(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The bins of the best path, and the frequency of each: the mean of the bins nearby, weighted by probability.

    Shape: (1, 360, L) -> (1, L) and (1, L)
    """
    bins, _ = _import_torchcrepe().decode.viterbi(probabilities)
    cents = _BIN_CENTS * torch.arange(probabilities.shape[1])[:, None] + 1200 * math.log2(_LOWEST_BIN_HZ)
    near = ((torch.arange(probabilities.shape[1])[:, None] - bins[0]).abs() <= _BINS_NEARBY) & (probabilities[0] > 0)
    weights = torch.where(near, probabilities[0], torch.zeros(()))
    return bins, torch.exp2((cents * weights).sum(dim=0) / weights.sum(dim=0) / 1200)[None]


@contextmanager
def _kept_random_state() -> Iterator[None]:
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


def _import_torchcrepe() -> ModuleType:
    try:
        return without_native_torchaudio("torchcrepe")
    except (ImportError, OSError) as error:
        raise missing_package("torchcrepe", "evaluate", error) from None


@lru_cache(maxsize=2)
def _crepe_model(capacity: str) -> nn.Module:
    """The network with its own weights, and with convolutions that are several times faster on a CPU."""
    torchcrepe = _import_torchcrepe()
    model: nn.Module = torchcrepe.Crepe(capacity)
    weights = Path(str(torchcrepe.__file__)).parent / "assets" / f"{capacity}.pth"
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    layers: Any = model
    layers.conv1 = _StridedConv(layers.conv1)
    for name in ("conv2", "conv3", "conv4", "conv5", "conv6"):
        setattr(model, name, _FFTConv(getattr(model, name)))
    return model.eval()


class _StridedConv(nn.Module):
    """CREPE's first convolution as one matrix product; its input has one channel.

    Shape: (B, 1, T, 1) -> (B, C, L, 1)
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self._weight, self._bias, self._stride = conv.weight[:, 0, :, 0].detach(), conv.bias, conv.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        frames = x[:, 0, :, 0].unfold(-1, self._weight.shape[1], self._stride)
        return F.linear(frames, self._weight, self._bias).transpose(1, 2)[..., None]


class _FFTConv(nn.Module):
    """A convolution with a kernel of 64, computed by FFT. The widest layer needs a sixteenth of the operations.

    Only the outputs of the circular correlation that do not wrap around are kept, so no padding is needed.

    Shape: (B, C, T, 1) -> (B, C', T - kernel + 1, 1)
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self._weight, self._bias = conv.weight[..., 0].detach(), conv.bias
        self._spectra: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        length, kernel = x.shape[2], self._weight.shape[2]
        size = length + length % 2
        if size not in self._spectra:
            self._spectra[size] = torch.fft.rfft(self._weight, size).conj().permute(2, 1, 0).resolve_conj().contiguous()
        spectrum = torch.fft.rfft(x[..., 0], size).permute(2, 0, 1)  # (bins, B, C)
        product = torch.bmm(spectrum, self._spectra[size]).permute(1, 2, 0)
        result = torch.fft.irfft(product, size)[..., : length - kernel + 1]
        return (result + self._bias[:, None])[..., None] if self._bias is not None else result[..., None]
