"""The STFT loss of one resolution, with the definitions of auraloss 0.4."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig, SpectralMethod
from tts_infer.dsp.filterbank import BandedProduct
from tts_infer.dsp.mel import mel_filterbank
from tts_infer.errors import ConfigError
from tts_infer.losses.frames import WindowName, flattened, make_stft, mean, spectrum, total, valid_frames
from tts_infer.losses.weighting import AWeighting


class Terms(NamedTuple):
    """A loss and its parts before they are weighted. Parts whose weight is 0 are 0. Shape: all of ()"""

    loss: Tensor
    convergence: Tensor
    log: Tensor
    linear: Tensor
    phase: Tensor


class STFTLoss(nn.Module):
    """Difference of two STFTs: a weighted sum of up to four terms.

    Magnitudes are |X| = sqrt(max(re^2 + im^2, eps)).

    Args:
        fft_size, hop_size, win_length, window: of the STFT.
        w_sc: weight of the spectral convergence, norm(|Y| - |X|) / norm(|Y|), over the whole batch.
        w_log_mag: weight of the mean distance of ln |X| and ln |Y|.
        w_lin_mag: weight of the mean distance of |X| and |Y|.
        w_phs: weight of the mean square difference of phases, -pi to pi, not wrapped. A bin of silence has phase 0.
        sample_rate: needed by `scale` and `perceptual_weighting`.
        scale: "mel" compares n_bins bands of Slaney's filterbank instead of the bins; None: the bins.
        n_bins: number of mel bands.
        perceptual_weighting: filter both signals by the A-weighting first.
        scale_invariance: scale the target's magnitudes to those of the input first, item by item.
        eps: floor of the power.
        reduction: "mean" or "sum" of the distances of magnitudes over bins and frames.
        mag_distance: "L1" or "L2", which is the square.
        method: "matmul" (real numbers only; for Apple GPUs) or "fft" (faster on CPU and CUDA).

    Shape: input, target of (B, T) or (B, C, T); lengths of (B,), integers -> ()

    Raises:
        ConfigError: at construction, if the arguments do not fit each other.
        InputError: tensors whose shapes do not fit each other.
    Source: auraloss 0.4 freq.py STFTLoss. Differences: signals may be shorter than a window; `lengths`;
        scale_invariance is right for more than one item; gradients and mel bands without bins are finite.
    """

    def __init__(
        self,
        fft_size: int = 1024,
        hop_size: int = 256,
        win_length: int = 1024,
        window: WindowName = "hann_window",
        w_sc: float = 1.0,
        w_log_mag: float = 1.0,
        w_lin_mag: float = 0.0,
        w_phs: float = 0.0,
        sample_rate: int | None = None,
        scale: Literal["mel"] | None = None,
        n_bins: int | None = None,
        perceptual_weighting: bool = False,
        scale_invariance: bool = False,
        eps: float = 1e-8,
        reduction: Literal["mean", "sum"] = "mean",
        mag_distance: Literal["L1", "L2"] = "L1",
        method: SpectralMethod = "matmul",
    ) -> None:
        super().__init__()
        _require("scale", scale, (None, "mel"))
        _require("reduction", reduction, ("mean", "sum"))
        _require("mag_distance", mag_distance, ("L1", "L2"))
        self.w_sc, self.w_log_mag, self.w_lin_mag, self.w_phs = w_sc, w_log_mag, w_lin_mag, w_phs
        self.scale_invariance, self.eps, self.mag_distance = scale_invariance, eps, mag_distance
        self.reduce = mean if reduction == "mean" else total
        self.stft = make_stft(fft_size, hop_size, win_length, window, method)
        self.filterbank = _filterbank(fft_size, sample_rate, n_bins, method) if scale else None
        self.weighting = AWeighting(_rate(sample_rate)) if perceptual_weighting else None

    def forward(self, input: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.terms(input, target, lengths).loss

    def terms(self, input: Tensor, target: Tensor, lengths: Tensor | None = None) -> Terms:
        """The loss and its parts.

        Args:
            input: what is trained.
            target: what it should be.
            lengths: samples of each item. The loss is that of the items' own frames; what comes after them in the
                tensors has no influence.

        Shape: as `forward`
        """
        x, y, lengths = flattened(input, target, lengths)
        valid = valid_frames(self.stft, x.shape[1], lengths)
        (x_mag, x_phase), (y_mag, y_phase) = self._spectrum(x, lengths), self._spectrum(y, lengths)
        if self.scale_invariance:
            y_mag = y_mag * _gain(x_mag, y_mag, valid)
        zero = x_mag.new_zeros(())
        convergence = _convergence(x_mag, y_mag, valid) if self.w_sc else zero
        log = self._distance(x_mag.log(), y_mag.log(), valid) if self.w_log_mag else zero
        linear = self._distance(x_mag, y_mag, valid) if self.w_lin_mag else zero
        phase = zero if x_phase is None or y_phase is None else mean((x_phase - y_phase).square(), valid)
        loss = self.w_sc * convergence + self.w_log_mag * log + self.w_lin_mag * linear + self.w_phs * phase
        return Terms(loss, convergence, log, linear, phase)

    def _spectrum(self, audio: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Magnitude and, where it is asked for, phase. Shape: (B, T) -> (B, L, bins), (B, L, N)"""
        if self.weighting is not None:
            if lengths is not None:
                audio = audio.where(torch.arange(audio.shape[1], device=audio.device) < lengths[:, None], 0.0)
            audio = self.weighting(audio)
        real, imag = spectrum(self.stft, audio, lengths)
        power = real.square() + imag.square()
        magnitude = power.clamp_min(self.eps).sqrt()
        if self.filterbank is not None:  # a band narrower than a bin may be zero, and has no logarithm
            magnitude = self.filterbank(magnitude).clamp_min(torch.finfo(magnitude.dtype).tiny)
        return magnitude, _phase(real, imag, power) if self.w_phs else None

    def _distance(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        difference = x - y
        return self.reduce(difference.abs() if self.mag_distance == "L1" else difference.square(), valid)


def _convergence(x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
    if valid is not None:
        x, y = x * valid, y * valid
    tiny = torch.finfo(y.dtype).tiny
    return torch.linalg.vector_norm(y - x) / torch.linalg.vector_norm(y).clamp_min(tiny)


def _gain(x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
    """The factor of each item's target that is nearest to its input by least squares. Shape: -> (B, 1, 1)"""
    if valid is not None:
        x, y = x * valid, y * valid
    products, squares = (x * y).sum((1, 2), keepdim=True), y.square().sum((1, 2), keepdim=True)
    empty = squares == 0  # an item without frames
    return products.masked_fill(empty, 1.0) / squares.masked_fill(empty, 1.0)


def _phase(real: Tensor, imag: Tensor, power: Tensor) -> Tensor:
    """Phases from real numbers. Silent bins have phase 0 and no gradient; -0.0 counts as 0.0."""
    silent = power <= torch.finfo(power.dtype).tiny
    return torch.atan2(imag.masked_fill(silent, 0.0) + 0.0, real.masked_fill(silent, 1.0))


def _filterbank(fft_size: int, sample_rate: int | None, n_bins: int | None, method: SpectralMethod) -> BandedProduct:
    if n_bins is None or n_bins <= 0:
        raise ConfigError("n_bins is {got}; scale='mel' needs a number from 1 on", code="loss-bins", got=n_bins)
    rate = _rate(sample_rate)
    config = MelConfig(sample_rate=rate, n_fft=fft_size, n_mels=n_bins, mel_scale="slaney", norm="slaney")
    return BandedProduct(mel_filterbank(config), method)


def _rate(sample_rate: int | None) -> int:
    if sample_rate is None or sample_rate <= 0:
        raise ConfigError(
            "sample_rate is {got}; scale='mel' and perceptual_weighting need it in hertz",
            code="loss-sample-rate",
            got=sample_rate,
        )
    return sample_rate


def _require(name: str, got: object, allowed: tuple[object, ...]) -> None:
    if got not in allowed:
        raise ConfigError(
            "{name} is {got!r}; allowed: {allowed}",
            code="loss-argument",
            name=name,
            got=got,
            allowed=", ".join(map(repr, allowed)),
        )
