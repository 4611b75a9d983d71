"""STFT losses of several resolutions, of mel bands and of stereo, with the definitions of auraloss 0.4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from tts_infer.config import SpectralMethod
from tts_infer.errors import ConfigError, InputError
from tts_infer.losses.frames import WINDOWS, WindowName
from tts_infer.losses.stft import STFTLoss, Terms

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MelSettings(TypedDict, total=False):
    """Further arguments of `STFTLoss` that `MelSTFTLoss` takes."""

    w_sc: float
    w_log_mag: float
    w_lin_mag: float
    w_phs: float
    perceptual_weighting: bool
    scale_invariance: bool
    eps: float
    reduction: Literal["mean", "sum"]
    mag_distance: Literal["L1", "L2"]
    method: SpectralMethod


class Settings(MelSettings, total=False):
    """Arguments of `STFTLoss` that all resolutions share, apart from the window."""

    sample_rate: int | None
    scale: Literal["mel"] | None
    n_bins: int | None


class MelSTFTLoss(STFTLoss):
    """`STFTLoss` of mel bands.

    Args:
        sample_rate: of the audio.
        fft_size, hop_size, win_length, window: of the STFT.
        n_mels: number of bands.
        settings: further arguments of `STFTLoss`.

    Source: auraloss 0.4 freq.py MelSTFTLoss.
    """

    def __init__(
        self,
        sample_rate: int,
        fft_size: int = 1024,
        hop_size: int = 256,
        win_length: int = 1024,
        window: WindowName = "hann_window",
        *,
        n_mels: int = 128,
        **settings: Unpack[MelSettings],
    ) -> None:
        mel: Settings = {"sample_rate": sample_rate, "scale": "mel", "n_bins": n_mels, **settings}
        super().__init__(fft_size, hop_size, win_length, window, **mel)


class MultiResolutionSTFTLoss(nn.Module):
    """Mean of the STFT losses of several resolutions.

    Args:
        fft_sizes, hop_sizes, win_lengths: one of each for every resolution.
        window: of all resolutions.
        settings: further arguments of `STFTLoss`.

    Shape: as `STFTLoss`
    Raises:
        ConfigError: at construction, if the lists differ in length or their sizes do not fit each other.
        InputError: tensors whose shapes do not fit each other.
    Source: auraloss 0.4 freq.py MultiResolutionSTFTLoss.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (1024, 2048, 512),
        hop_sizes: Sequence[int] = (120, 240, 50),
        win_lengths: Sequence[int] = (600, 1200, 240),
        window: WindowName = "hann_window",
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__()
        counts = len(fft_sizes), len(hop_sizes), len(win_lengths)
        if min(counts) == 0 or len(set(counts)) > 1:
            raise ConfigError(
                "fft_sizes, hop_sizes and win_lengths have {counts} entries; give each the same number, at least one",
                code="loss-resolutions",
                counts=", ".join(map(str, counts)),
            )
        sizes = zip(fft_sizes, hop_sizes, win_lengths, strict=True)
        self.losses = nn.ModuleList(STFTLoss(*three, window, **settings) for three in sizes)

    def forward(self, input: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.terms(input, target, lengths).loss

    def terms(self, input: Tensor, target: Tensor, lengths: Tensor | None = None) -> Terms:
        """The loss and its parts, each as the mean over the resolutions. Arguments as for `STFTLoss.terms`."""
        every = [loss.terms(input, target, lengths) for loss in self.losses if isinstance(loss, STFTLoss)]
        return Terms(*(torch.stack(parts).mean() for parts in zip(*every, strict=True)))


class RandomResolutionSTFTLoss(nn.Module):
    """Mean of the STFT losses of random resolutions, which change as training goes on.

    Args:
        resolutions: how many are used at a time.
        min_fft_size, max_fft_size: a size is a power of 2, from the first on and below the second. By "matmul" a
            size of 16384 needs 270 MB of constants, and seconds to make them; use smaller sizes there.
        min_hop_size, max_hop_size: range of the hop, as a part of the size.
        windows: names to draw from.
        randomize_rate: calls with the same resolutions.
        seed: of the draws; processes with the same seed draw the same. None: another one every time.
        settings: further arguments of `STFTLoss`.

    Shape: as `STFTLoss`
    Source: auraloss 0.4 freq.py RandomResolutionSTFTLoss, which uses numpy's global generator; with the same seed there
        the draws are the same. Here signals may be shorter than max_fft_size.
    """

    def __init__(
        self,
        resolutions: int = 3,
        min_fft_size: int = 16,
        max_fft_size: int = 32768,
        min_hop_size: float = 0.1,
        max_hop_size: float = 1.0,
        windows: Sequence[WindowName] = (
            "hann_window",
            "bartlett_window",
            "blackman_window",
            "hamming_window",
            "kaiser_window",
        ),
        randomize_rate: int = 1,
        seed: int | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__()
        fits = resolutions > 0 and randomize_rate > 0 and 16 <= min_fft_size <= max_fft_size / 2
        if not fits or not 0.1 <= min_hop_size <= max_hop_size <= 1 or not set(windows) <= set(WINDOWS) or not windows:
            raise ConfigError(
                "random resolutions do not fit: fft sizes {low} to {high}, hops {short} to {long}; allowed: sizes from "
                "16, the second at least twice the first; hops 0.1 to 1; known windows; positive counts",
                code="loss-random",
                low=min_fft_size,
                high=max_fft_size,
                short=min_hop_size,
                long=max_hop_size,
            )
        self.resolutions, self.randomize_rate, self.calls = resolutions, randomize_rate, 0
        self.exponents = int(np.log2(min_fft_size)), int(np.log2(max_fft_size))
        self.hops, self.windows, self.settings = (min_hop_size, max_hop_size), list(windows), settings
        self.random = np.random.RandomState(seed)
        self.randomize_losses()  # as auraloss: the first draw is not used

    def randomize_losses(self) -> None:
        """Draw new resolutions."""
        self.losses = nn.ModuleList(self._draw() for _ in range(self.resolutions))

    def _draw(self) -> STFTLoss:
        size = int(2 ** self.random.randint(*self.exponents))
        hop = int(size * (self.hops[0] + self.random.rand() * (self.hops[1] - self.hops[0])))
        win_length = int(size * self.random.choice([1.0, 0.5, 0.25]))
        window: WindowName = self.windows[self.windows.index(self.random.choice(self.windows))]
        return STFTLoss(size, hop, win_length, window, **self.settings)

    def forward(self, input: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        if self.calls % self.randomize_rate == 0:
            self.randomize_losses()
        self.calls += 1
        self.losses.to(input.device)
        return torch.stack([loss(input, target, lengths) for loss in self.losses]).mean()


class SumAndDifferenceSTFTLoss(nn.Module):
    """Loss of stereo: half the weighted sum of the multi-resolution losses of left + right and of left - right.

    Args:
        fft_sizes, hop_sizes, win_lengths, window: as for `MultiResolutionSTFTLoss`.
        w_sum, w_diff: weights of both.
        settings: further arguments of `STFTLoss`.

    Shape: input, target of (B, 2, T); lengths of (B,) -> ()
    Raises:
        ConfigError: at construction, as for `MultiResolutionSTFTLoss`.
        InputError: not stereo, or shapes that do not fit each other.
    Source: auraloss 0.4 freq.py SumAndDifferenceSTFTLoss.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (1024, 2048, 512),
        hop_sizes: Sequence[int] = (120, 240, 50),
        win_lengths: Sequence[int] = (600, 1200, 240),
        window: WindowName = "hann_window",
        w_sum: float = 1.0,
        w_diff: float = 1.0,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__()
        self.w_sum, self.w_diff = w_sum, w_diff
        self.loss = MultiResolutionSTFTLoss(fft_sizes, hop_sizes, win_lengths, window, **settings)

    def forward(self, input: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        for audio in (input, target):
            if audio.ndim != 3 or audio.shape[1] != 2:
                raise InputError(
                    "audio has shape {shape}; stereo of (B, 2, T) is needed",
                    code="loss-stereo",
                    shape=tuple(audio.shape),
                )
        same = self.loss(input.sum(1), target.sum(1), lengths)
        other = self.loss(input[:, 0] - input[:, 1], target[:, 0] - target[:, 1], lengths)
        return (self.w_sum * same + self.w_diff * other) / 2
