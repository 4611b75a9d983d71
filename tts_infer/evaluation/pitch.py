"""Periodicity and voicing of speech: the errors of the Vocos paper, by the pitch tracker that it uses, or quicker ones.

Definitions. Frames of 64 ms, 10 ms apart, at 16 kHz, no padding; pitch sought from 50 to 550 Hz. A frame whose
A-weighted spectrum, relative to 20 dB, is below -60 dB on average has periodicity 0. A frame is voiced if its
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
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.engines.reference import without_native_torchaudio
from tts_infer.errors import InputError, MissingPackageError
from tts_infer.evaluation.metrics import PERCEPTUAL_RATE, Samples, require

PitchTracker = Literal["crepe", "crepe-tiny", "pyin", "none"]
TRACKER_NAMES: dict[PitchTracker, str] = {
    "crepe": "CREPE full (torchcrepe), Viterbi",
    "crepe-tiny": "CREPE tiny (torchcrepe), Viterbi",
    "pyin": "pYIN (librosa)",
    "none": "none",
}

_WINDOW = 1024
_HOP = PERCEPTUAL_RATE // 100
_RANGE_HZ = (50.0, 550.0)
_VOICED = 0.21
_SILENCE_DB = -60.0
_REFERENCE_DB = 20.0
_FRAMES_AT_ONCE = 32  # what fits the caches


@dataclass(frozen=True)
class PitchTrack:
    """Periodicity, from 0 to 1, and voicing of each frame.

    Shape: (L,) and (L,), L = 1 + (T - 1024) // 160
    """

    periodicity: NDArray[np.float32]
    voiced: NDArray[np.bool_]


def track_pitch(samples: Samples, tracker: PitchTracker = "crepe") -> PitchTrack:
    """Find periodicity and voicing of a signal at 16 kHz.

    Args:
        samples: full scale 1.0.
        tracker: "crepe": as in the paper; "crepe-tiny": its small model, several times quicker; "pyin": librosa's,
            whose periodicity is its probability of voicing, and whose voicing is its own decision; "none": nothing is
            tracked, no frame is there.

    Shape: (T,) -> L frames, none for T < 1024
    Raises:
        InputError: no such tracker.
        MissingPackageError: no torchcrepe, or no librosa.
    """
    if tracker not in get_args(PitchTracker):
        raise InputError(f"pitch tracker is {tracker!r}; allowed: {', '.join(get_args(PitchTracker))}")
    if tracker == "none" or len(samples) < _WINDOW:
        return PitchTrack(np.zeros(0, np.float32), np.zeros(0, np.bool_))
    if tracker == "pyin":
        periodicity, voiced = _pyin(samples)
    else:
        periodicity = _crepe(samples, "full" if tracker == "crepe" else "tiny")
        voiced = periodicity >= _VOICED
    silent = _loudness_db(samples) < _SILENCE_DB
    periodicity[silent] = 0.0
    return PitchTrack(periodicity, voiced & ~silent)


def periodicity_error(reference: PitchTrack, output: PitchTrack) -> float:
    """Root mean square difference of the periodicity, over the frames that both have; NaN where there is none."""
    frames = min(len(reference.periodicity), len(output.periodicity))
    if not frames:
        return math.nan
    difference = reference.periodicity[:frames] - output.periodicity[:frames]
    return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))


def voicing_f1(reference: PitchTrack, output: PitchTrack) -> float:
    """F1 of voiced against unvoiced frames: 2 TP / (2 TP + FP + FN), positive meaning voiced.

    Returns:
        0 to 1; NaN where no frame of either is voiced.
    """
    frames = min(len(reference.voiced), len(output.voiced))
    truth, found = reference.voiced[:frames], output.voiced[:frames]
    wrong, right = int((truth != found).sum()), int((truth & found).sum())
    return 2 * right / (2 * right + wrong) if right or wrong else math.nan


def _loudness_db(samples: Samples) -> NDArray[np.float64]:
    """Mean over the bins of each frame's A-weighted power spectrum, of which at most 80 dB are kept, less 20 dB."""
    librosa = require("librosa")
    spectrum = torch.stft(
        torch.from_numpy(samples), _WINDOW, _HOP, window=torch.hann_window(_WINDOW), center=False, return_complex=True
    )
    power_db = 10 * np.log10(np.maximum(spectrum.abs().square().numpy().astype(np.float64), 1e-10))
    power_db = np.maximum(power_db, power_db.max() - 80.0)
    frequencies = librosa.fft_frequencies(sr=PERCEPTUAL_RATE, n_fft=_WINDOW)
    with np.errstate(divide="ignore"):  # 0 Hz has no loudness; it ends at -80 dB
        weights = librosa.A_weighting(frequencies)
    loudness: NDArray[np.float64] = (power_db + weights[:, None] - _REFERENCE_DB).mean(axis=0)
    return loudness


def _pyin(samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    librosa = require("librosa")
    low, high = _RANGE_HZ
    _, voiced, probability = librosa.pyin(
        samples, fmin=low, fmax=high, sr=PERCEPTUAL_RATE, frame_length=_WINDOW, hop_length=_HOP, center=False
    )
    return probability.astype(np.float32), voiced


@torch.inference_mode()
def _crepe(samples: Samples, capacity: str) -> NDArray[np.float32]:
    """The probability, by the network, of the pitch on the best path."""
    torchcrepe, model = _import_torchcrepe(), _crepe_model(capacity)
    frames = torch.from_numpy(samples).unfold(0, _WINDOW, _HOP)
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = frames / frames.std(dim=1, keepdim=True).clamp_min(1e-10)
    probabilities = torch.cat([model(piece) for piece in frames.split(_FRAMES_AT_ONCE)])
    low, high = _RANGE_HZ
    with _kept_random_state():  # the pitch, which nobody asked for, is dithered
        _, periodicity = torchcrepe.postprocess(probabilities.T[None], low, high, return_periodicity=True)
    found: NDArray[np.float32] = periodicity[0].numpy().astype(np.float32)
    return found


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
        raise MissingPackageError(f"needs torchcrepe ({error}); pip install 'tts-infer[evaluate]'") from None


@lru_cache(maxsize=2)
def _crepe_model(capacity: str) -> nn.Module:
    """The network with its own weights, and convolutions that are several times quicker on a CPU."""
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
    """CREPE's first convolution, of one channel, as one matrix product.

    Shape: (B, 1, T, 1) -> (B, C, L, 1)
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self._weight, self._bias, self._stride = conv.weight[:, 0, :, 0].detach(), conv.bias, conv.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        frames = x[:, 0, :, 0].unfold(-1, self._weight.shape[1], self._stride)
        return F.linear(frames, self._weight, self._bias).transpose(1, 2)[..., None]


class _FFTConv(nn.Module):
    """A convolution with a kernel of 64 by way of the spectrum: a sixteenth of the operations of the widest layer.

    Only those outputs of a circular correlation are kept that wrap around nothing, so no padding is needed.

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
