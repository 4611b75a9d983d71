"""Heads of the Vocos family: one linear layer to a spectrum, and the transform that makes audio of it.

Each head says its own stages. The transform has no weights, and is a stage of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig, Padding, SpectralMethod, require_positive
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mdct import IMDCT
from tts_infer.stages import PROBE_FRAMES, Stage
from tts_infer.vocoders.networks import Framewise
from tts_infer.vocoders.spectral import IMDCTStage, ISTFTStage, with_refinement

# exp() of predicted log-magnitudes is cut off here. Source: vocos/heads.py.
MAX_MAGNITUDE = 1e2


@dataclass(frozen=True)
class HeadConfig:
    """`ISTFTHead`: one linear layer to log-magnitude and phase, then the inverse STFT."""

    dim: int = 512
    n_fft: int = 1024
    hop_length: int = 256
    padding: Padding = "same"

    def __post_init__(self) -> None:
        require_positive(self, "dim", "n_fft", "hop_length")


@dataclass(frozen=True)
class CosHeadConfig:
    """`IMDCTCosHead`: one linear layer to log-magnitude and phase of MDCT coefficients, then the inverse MDCT."""

    dim: int
    mdct_frame_len: int
    padding: Padding = "same"
    clip_audio: bool = False

    def __post_init__(self) -> None:
        require_positive(self, "dim", "mdct_frame_len")

    @property
    def hop_length(self) -> int:
        """Samples between frames."""
        return self.mdct_frame_len // 2


@dataclass(frozen=True)
class SymExpHeadConfig(CosHeadConfig):
    """`IMDCTSymExpHead`: one linear layer to MDCT coefficients on a symmetric exponential scale."""

    sample_rate: int | None = None  # of interest to training only


def make_istft(config: HeadConfig, method: SpectralMethod) -> ISTFT:
    """The inverse STFT that a head's spectrum is meant for."""
    return ISTFT(config.n_fft, config.hop_length, padding=config.padding, method=method)


class ISTFTHead(nn.Module):
    """Linear layer to log-magnitude and phase. `istft` turns its spectrum into audio, as a stage of its own.

    Shape: (B, L, H) -> real, imag of (B, N, L), float32, N = n_fft // 2 + 1
    Source: vocos/heads.py ISTFTHead, which continues in complex numbers.
    """

    def __init__(self, config: HeadConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__()
        self.out = nn.Linear(config.dim, config.n_fft + 2)
        self.istft = make_istft(config, method)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        # float32 from here on: half precision has too few digits for a phase or an exponential
        log_magnitude, phase = self.out(hidden).float().chunk(2, dim=-1)
        magnitude = log_magnitude.exp().clamp_max(MAX_MAGNITUDE)
        return (magnitude * phase.cos()).transpose(1, 2), (magnitude * phase.sin()).transpose(1, 2)

    def audio(self, hidden: Tensor) -> Tensor:
        """Hidden frames to audio. Shape: (B, L, H) -> (B, T), T as in `ISTFT`"""
        audio: Tensor = self.istft(*self(hidden))
        return audio

    def stages(self, mel: MelConfig | None) -> list[Stage]:
        """The steps from hidden frames to audio; refinement is one if the features are this mel."""
        head = _head_stage(self, self.out, ("real", "imag"))
        return [head, *(with_refinement(mel, self.istft) if mel is not None else [ISTFTStage.of(self.istft)])]

    def constants(self) -> dict[str, Tensor]:
        """What checkpoints store beside the weights."""
        return {"istft.window": self.istft.window}


class _IMDCTHead(nn.Module):
    """What both heads of MDCT coefficients share."""

    def __init__(self, config: CosHeadConfig, outputs: int) -> None:
        super().__init__()
        self.out = nn.Linear(config.dim, outputs)
        self.imdct = IMDCT(config.mdct_frame_len, config.padding, config.clip_audio)

    def audio(self, hidden: Tensor) -> Tensor:
        """Hidden frames to audio. Shape: (B, L, H) -> (B, T), T as in `IMDCT`"""
        audio: Tensor = self.imdct(self(hidden))
        return audio

    def stages(self, mel: MelConfig | None) -> list[Stage]:
        """The steps from hidden frames to audio. Coefficients have no magnitude to refine."""
        return [_head_stage(self, self.out, ("coefficients",)), IMDCTStage.of(self.imdct)]

    def constants(self) -> dict[str, Tensor]:
        """What checkpoints store beside the weights: the window, and the factors around an FFT that we do not need."""
        half = self.imdct.hop_length
        n, n0 = np.arange(2 * half), (half + 1) / 2
        before, after = (np.exp(1j * np.pi * angle) for angle in (n0 * n / half, (n + n0) / (2 * half)))
        factors = {"imdct.pre_twiddle": before, "imdct.post_twiddle": after}
        pairs = {key: np.stack([one.real, one.imag], -1).astype(np.float32) for key, one in factors.items()}
        return {"imdct.window": self.imdct.window, **{key: torch.from_numpy(pair) for key, pair in pairs.items()}}


class IMDCTSymExpHead(_IMDCTHead):
    """Linear layer, and sign(x) (exp(|x|) - 1), to MDCT coefficients.

    Shape: (B, L, H) -> (B, L, N), float32, N = mdct_frame_len // 2
    Source: vocos/heads.py IMDCTSymExpHead.
    """

    def __init__(self, config: SymExpHeadConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__(config, config.hop_length)

    def forward(self, hidden: Tensor) -> Tensor:
        x = self.out(hidden).float()
        coefficients: Tensor = x.sign() * (x.abs().exp() - 1).clamp_max(MAX_MAGNITUDE)
        return coefficients


class IMDCTCosHead(_IMDCTHead):
    """Linear layer to log-magnitude m and phase p of MDCT coefficients exp(m) cos(p).

    Shape: (B, L, H) -> (B, L, N), float32, N = mdct_frame_len // 2
    Source: vocos/heads.py IMDCTCosHead.
    """

    def __init__(self, config: CosHeadConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__(config, 2 * config.hop_length)

    def forward(self, hidden: Tensor) -> Tensor:
        log_magnitude, phase = self.out(hidden).float().chunk(2, dim=-1)
        coefficients: Tensor = log_magnitude.exp().clamp_max(MAX_MAGNITUDE) * phase.cos()
        return coefficients


def _head_stage(head: nn.Module, out: nn.Linear, gives: tuple[str, ...]) -> Framewise:
    return Framewise("head", head, ("hidden",), gives, half=True, probe_shape=(PROBE_FRAMES, out.in_features))


def head_samples(head: Any, frames: int) -> int:
    """Samples of audio that a head of this configuration makes of so many frames."""
    return max(0, frames - 1) * head.hop_length if head.padding == "center" else frames * head.hop_length


# The kinds of heads, by their configuration.
HEADS = {HeadConfig: ISTFTHead, SymExpHeadConfig: IMDCTSymExpHead, CosHeadConfig: IMDCTCosHead}
