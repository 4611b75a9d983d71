"""Networks that tell recordings from generated speech: one per STFT resolution, one per period of samples.

The default sizes suit a CPU. For a GPU, `width` gives the sizes of the papers.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from training.losses import Judgement, stft

SLOPE = 0.1  # of the leaky ReLUs
LOUDNESS = 0.8  # every waveform is judged at this peak


class ResolutionDiscriminator(nn.Module):
    """Looks at a compressed complex STFT.

    After the multi-resolution discriminator of UnivNet, with strides in frequency. Channels:
    real and imaginary part scaled to |S|^0.3, and a log magnitude.

    Shape: (B, T) -> scores (B, 1, L, N'), features of all layers except the first
    """

    def __init__(self, n_fft: int, width: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(n_fft))
        shapes = [
            ((3, 9), (1, 4), (1, 4)),
            ((3, 5), (1, 2), (1, 2)),
            ((3, 5), (1, 2), (1, 2)),
            ((3, 3), (1, 2), (1, 1)),
        ]
        channels = [3] + [width] * len(shapes)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(channels[i], channels[i + 1], kernel, stride, padding))
            for i, (kernel, stride, padding) in enumerate(shapes)
        )
        self.score = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        audio = audio - audio.mean(-1, keepdim=True)
        audio = LOUDNESS * audio / (audio.abs().amax(-1, keepdim=True) + 1e-4)
        window = self.get_buffer("window")
        spectrum = stft(audio, window, len(window) // 2)
        power = spectrum.real.square() + spectrum.imag.square() + 1e-5
        scale = power.pow(-0.35)
        x = torch.stack([spectrum.real * scale, spectrum.imag * scale, 0.2 * power.log()], 1)
        return _through(x, self.layers, self.score)


class PeriodDiscriminator(nn.Module):
    """Looks at every p-th sample. After the multi-period discriminator of HiFi-GAN.

    Shape: (B, T) -> scores (B, 1, L', p), features of all layers except the first
    """

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        channels = [1, width // 2, width, 2 * width, 2 * width]
        layers = [nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)) for a, b in pairwise(channels)]
        layers.append(nn.Conv2d(channels[-1], channels[-1], (5, 1), 1, (2, 0)))
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.score = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        audio = LOUDNESS * audio / (audio.abs().amax(-1, keepdim=True) + 1e-4)
        rows = audio.shape[1] // self.period
        x = audio[:, : rows * self.period].reshape(-1, 1, rows, self.period)
        return _through(x, self.layers, self.score)


def _through(x: Tensor, layers: nn.ModuleList, score: nn.Module) -> tuple[Tensor, list[Tensor]]:
    x = x.contiguous(memory_format=torch.channels_last)
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    return score(x).float(), features[1:]


class Discriminators(nn.Module):
    """All of them. Shape: (B, T) -> `Judgement`"""

    def __init__(
        self, width: int = 32, resolutions: tuple[int, ...] = (2048, 1024, 512), periods: tuple[int, ...] = (3, 5, 11)
    ):
        super().__init__()
        self.of_resolutions = nn.ModuleList(ResolutionDiscriminator(n, width) for n in resolutions)
        self.of_periods = nn.ModuleList(PeriodDiscriminator(p, width) for p in periods)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, audio: Tensor, bfloat16: bool = False) -> Judgement:
        with torch.autocast(audio.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return [judge(audio) for judge in [*self.of_resolutions, *self.of_periods]]
