"""The family of HiFi-GAN: transposed convolutions up to the sample rate, residual blocks between (arXiv 2010.05646).

BigVGAN is the same generator with other activations, see `bigvgan.py`. Attribute names are the keys of the official
checkpoints; weight norm is folded when they are loaded.

Source: jik876/hifi-gan models.py Generator, ResBlock1, ResBlock2; meldataset.py mel_spectrogram.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from tts_infer.config import MelConfig, build, require_positive
from tts_infer.dsp.mel import LogMel
from tts_infer.errors import ConfigError
from tts_infer.stages import Stage
from tts_infer.vocoders.features import MelSpec
from tts_infer.vocoders.networks import Contextual
from tts_infer.vocoders.spectral import MelStage

SLOPE, LAST_SLOPE = 0.1, 0.01  # of the leaky ReLUs in the generator, and of the one before its last convolution
EDGE_KERNEL = 7  # of the first and the last convolution

# Frames that are computed at once. A frame of the largest generators takes about 250 kB while it is computed.
PIECE_FRAMES = 512

# Keys of config.json that only training reads: of HiFi-GAN, then of BigVGAN. They are ignored.
_TRAINING = """
num_gpus batch_size learning_rate adam_b1 adam_b2 lr_decay seed segment_size num_freq fmax_for_loss num_workers
dist_config discriminator_channel_mult mpd_reshapes use_spectral_norm resolutions clip_grad_norm freeze_step
lambda_melloss use_multiscale_melloss use_cqtd_instead_of_mrd use_mbd_instead_of_mrd mbd_fft_sizes cqtd_filters
cqtd_max_filters cqtd_filters_scale cqtd_dilations cqtd_in_channels cqtd_out_channels cqtd_hop_lengths cqtd_n_octaves
cqtd_bins_per_octaves cqtd_normalize_volume use_cuda_kernel
"""
TRAINING_KEYS = frozenset(_TRAINING.split())


@dataclass(frozen=True)
class HiFiGANConfig:
    """A `config.json` of jik876/hifi-gan, without what only training reads."""

    resblock: Literal["1", "2"]
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    upsample_initial_channel: int
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    num_mels: int
    n_fft: int
    hop_size: int
    win_size: int
    sampling_rate: int
    fmin: float
    fmax: float | None

    def __post_init__(self) -> None:
        require_positive(self, "upsample_initial_channel", "num_mels", "n_fft", "hop_size", "win_size", "sampling_rate")
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        pairs = list(zip(rates, kernels, strict=False))
        blocks = self.resblock_dilation_sizes
        self._require("upsample_rates", bool(rates) and min(rates) > 1, "numbers greater than 1")
        self._require("upsample_rates", math.prod(rates) == self.hop_size, f"a product of hop_size = {self.hop_size}")
        self._require("upsample_kernel_sizes", len(kernels) == len(rates), "as many as upsample_rates")
        fits = all(kernel >= rate and (kernel - rate) % 2 == 0 for rate, kernel in pairs)
        self._require("upsample_kernel_sizes", fits, "each its upsample_rate plus 0 or an even number")
        enough = self.upsample_initial_channel >= 2 ** len(rates)
        self._require(
            "upsample_initial_channel", enough, f"at least {2 ** len(rates)}, for one half at each upsampling"
        )
        odd = all(kernel > 0 and kernel % 2 for kernel in self.resblock_kernel_sizes)
        self._require("resblock_kernel_sizes", odd and bool(self.resblock_kernel_sizes), "odd numbers")
        same = len(blocks) == len(self.resblock_kernel_sizes)
        self._require("resblock_dilation_sizes", same, "a list for each of resblock_kernel_sizes")
        positive = all(block and min(block) > 0 for block in blocks)
        self._require("resblock_dilation_sizes", positive, "lists of numbers greater than 0")
        _ = self.mel  # its own sizes are checked, too

    def _require(self, key: str, fits: bool, allowed: str) -> None:
        if not fits:
            got = reprlib.repr(getattr(self, key))
            raise ConfigError(
                "{key} is {got}; allowed: {allowed}", code="generator-size", key=key, got=got, allowed=allowed
            )

    @property
    def mel(self) -> MelConfig:
        """The mel convention. The file states its sizes; the rest is the same for all of HiFi-GAN and BigVGAN."""
        half = self.sampling_rate / 2
        return MelConfig(
            sample_rate=self.sampling_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_size,
            win_length=None if self.win_size == self.n_fft else self.win_size,
            n_mels=self.num_mels,
            f_min=self.fmin,
            f_max=None if self.fmax == half else self.fmax,
            mel_scale="slaney",
            norm="slaney",
            power_eps=1e-9,
            padding="same",
            log_floor=1e-5,
        )


class ResidualBlock(nn.Module):
    """Activations and dilated convolutions; each step is added to its input.

    A step of kind "1" has two convolutions, the second without dilation; a step of kind "2" has one.

    Args:
        kind: "1" or "2".
        channels, kernel: of the convolutions.
        dilations: one for each step.
        activations: the activations before the convolutions, in order.

    Shape: (B, C, T) -> (B, C, T)
    """

    def __init__(self, kind: str, channels: int, kernel: int, dilations: tuple[int, ...], activations: nn.ModuleList):
        super().__init__()

        def convolution(dilation: int) -> nn.Conv1d:
            return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)

        if kind == "1":
            self.convs1 = nn.ModuleList(convolution(dilation) for dilation in dilations)
            self.convs2 = nn.ModuleList(convolution(1) for _ in dilations)
        else:
            self.convs = nn.ModuleList(convolution(dilation) for dilation in dilations)
        self.activations = activations

    @staticmethod
    def convolutions(kind: str, dilations: tuple[int, ...]) -> int:
        """Number of convolutions, and of activations."""
        return (2 if kind == "1" else 1) * len(dilations)

    def forward(self, x: Tensor) -> Tensor:
        rows = [self.convs1, self.convs2] if hasattr(self, "convs1") else [self.convs]
        activations = iter(self.activations)
        for step in zip(*rows, strict=True):
            y = x
            for convolution in step:
                y = convolution(next(activations)(y))
            x = x + y
        return x


class HiFiGAN(nn.Module):
    """The generator. For each upsampling rate: a transposed convolution, then the mean of several residual blocks.

    Args:
        config: its sizes.
        bias_at_final: whether the last convolution has a bias.

    Shape: mel of (B, n_mels, L) -> audio of (B, L * hop_size)
    Source: jik876/hifi-gan models.py Generator.
    """

    activation_reach: ClassVar[int] = 0  # samples on each side that one sample of an activation depends on

    def __init__(self, config: HiFiGANConfig, bias_at_final: bool = True) -> None:
        super().__init__()
        self.config = config
        width, kind = config.upsample_initial_channel, config.resblock
        self.conv_pre = nn.Conv1d(config.num_mels, width, EDGE_KERNEL, padding=EDGE_KERNEL // 2)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            up = nn.ConvTranspose1d(width, width // 2, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(self.upsampler(up))
            width //= 2
            for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True):
                count = ResidualBlock.convolutions(kind, dilations)
                activations = nn.ModuleList(self.activation(width) for _ in range(count))
                self.resblocks.append(ResidualBlock(kind, width, size, dilations, activations))
        self.activation_post = self.last_activation(width)
        self.conv_post = nn.Conv1d(width, 1, EDGE_KERNEL, padding=EDGE_KERNEL // 2, bias=bias_at_final)

    def upsampler(self, convolution: nn.ConvTranspose1d) -> nn.Module:
        """A transposed convolution as the checkpoints name it."""
        return convolution

    def activation(self, channels: int) -> nn.Module:
        """An activation in a residual block. Shape: (B, C, T) -> (B, C, T)"""
        return nn.LeakyReLU(SLOPE)

    def last_activation(self, channels: int) -> nn.Module:
        """The activation before the last convolution. Shape: (B, C, T) -> (B, C, T)"""
        return nn.LeakyReLU(LAST_SLOPE)

    def before_upsampling(self, x: Tensor) -> Tensor:
        """What precedes a transposed convolution. Shape: (B, C, T) -> (B, C, T)"""
        return nn.functional.leaky_relu(x, SLOPE)

    def bound(self, audio: Tensor) -> Tensor:
        """Keep audio between -1 and 1. Shape: any -> the same"""
        return audio.tanh()

    @property
    def receptive_field(self) -> int:
        """Frames on each side of a frame that its samples depend on.

        It follows the first and the last sample of frame 0 back through the layers. Sample t of a transposed
        convolution is made of the samples (t + pad - k) / rate of its input, for the k between 0 and kernel - 1 that
        leave no remainder.
        """
        config, edge = self.config, EDGE_KERNEL // 2
        blocks = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        reach = max(self._block_reach(kernel, dilations) for kernel, dilations in blocks)
        first, last = -edge - self.activation_reach, config.hop_size - 1 + edge + self.activation_reach
        for rate, kernel in reversed(list(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True))):
            pad = (kernel - rate) // 2
            first, last = -((kernel - 1 - pad - (first - reach)) // rate), (last + reach + pad) // rate
        return max(-first, last) + edge

    def _block_reach(self, kernel: int, dilations: tuple[int, ...]) -> int:
        plain = len(dilations) if self.config.resblock == "1" else 0
        activations = ResidualBlock.convolutions(self.config.resblock, dilations) * self.activation_reach
        return kernel // 2 * (sum(dilations) + plain) + activations

    def forward(self, mel: Tensor) -> Tensor:
        x = self.conv_pre(mel)
        count = len(self.config.resblock_kernel_sizes)
        for i, up in enumerate(self.ups):
            x = up(self.before_upsampling(x))
            total: Tensor = self.resblocks[i * count](x)
            for block in self.resblocks[i * count + 1 : (i + 1) * count]:
                total = total + block(x)
            x = total / count
        x = self.conv_post(self.activation_post(x))
        return self.bound(x.float().squeeze(1))


class HiFiGANFamily:
    """HiFi-GAN. Entry of `FAMILIES`. Its checkpoints are a flat config.json, and weights under "generator"."""

    model: ClassVar[type[nn.Module]] = HiFiGAN
    config: ClassVar[type] = HiFiGANConfig

    def matches(self, document: Mapping[str, Any]) -> bool:
        return "upsample_rates" in document and "activation" not in document

    def read(self, document: Mapping[str, Any], where: str) -> Any:
        return build(self.config, {key: document[key] for key in document if key not in TRAINING_KEYS}, where)

    def features(self, config: HiFiGANConfig) -> MelSpec:
        return MelSpec(config.mel)

    def build(self, config: Any) -> nn.Module:
        return self.model(config)

    def stages(self, model: HiFiGAN) -> list[Stage]:
        config = model.config
        # the mel is not part of the model: each of the two stages moves to a device of its own
        mel = MelStage.of(LogMel(config.mel, "fft"))
        generator = Contextual(
            "generator",
            model,
            ("mel",),
            ("audio",),
            half=True,
            max_frames=PIECE_FRAMES,
            channels=config.num_mels,
            hop=config.hop_size,
            context=model.receptive_field,
        )
        return [mel, generator]

    def n_samples(self, config: HiFiGANConfig, frames: int) -> int:
        return frames * config.hop_size

    def constants(self, model: Any) -> dict[str, Tensor]:
        return {}
