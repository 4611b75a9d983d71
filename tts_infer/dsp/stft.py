"""Short-time Fourier transforms from operators that every device has: matmul, pad, add, reshape.

Analysis of frame l:    X[k, l] = sum_n w[n] x[l hop + n] exp(-2 pi i k n / n_fft)
Synthesis:              y[t]    = sum_l w[t - l hop] x_l[t - l hop]  /  sum_l w[t - l hop]^2

`dft.py` computes the sums over n and k, as real matrix products or FFTs. `frames.py` cuts frames and adds them up.
"""

from __future__ import annotations

from torch import Tensor, nn

from tts_infer.config import Padding, SpectralMethod, require_whole
from tts_infer.devices import precision
from tts_infer.dsp import register_constant
from tts_infer.dsp.checks import require_floats
from tts_infer.dsp.dft import RealDFT
from tts_infer.dsp.frames import framed, hann_window, reflect_pad
from tts_infer.dsp.tiles import is_traced
from tts_infer.errors import ConfigError, InputError

# The largest transforms. The matrices of "matmul" have n_fft ** 2 / 2 values each.
MOST_FFT, MOST_MATMUL = 2**16, 2**13


class Spectral(nn.Module):
    """Base of STFT and ISTFT: sizes, window, and the number of samples that padding adds."""

    window: Tensor

    def __init__(
        self, n_fft: int, hop_length: int, win_length: int | None, padding: Padding, method: SpectralMethod
    ) -> None:
        super().__init__()
        win_length = n_fft if win_length is None else win_length
        most = MOST_FFT if method == "fft" else MOST_MATMUL
        for name, size in (("n_fft", n_fft), ("win_length", win_length), ("hop_length", hop_length)):
            require_whole(name, size, most)
        if n_fft < 2 or n_fft % 2:
            raise ConfigError("n_fft is {n_fft}; it must be even and at least 2", code="n-fft-odd", n_fft=n_fft)
        # the one value of a Hann window of 1 sample is 0
        for name, size, least in (("win_length", win_length, 2), ("hop_length", hop_length, 1)):
            if not least <= size <= n_fft:
                raise ConfigError(
                    "{name} is {got}; it must be between {least} and n_fft = {n_fft}",
                    code="stft-size-range",
                    name=name,
                    got=size,
                    least=least,
                    n_fft=n_fft,
                )
        if padding not in ("center", "same"):
            raise ConfigError("padding is {got!r}; allowed: 'center', 'same'", code="padding-unknown", got=padding)
        if method not in ("matmul", "fft"):
            raise ConfigError("method is {got!r}; allowed: 'matmul', 'fft'", code="spectral-method", got=method)
        self.n_fft, self.hop_length, self.win_length = n_fft, hop_length, win_length
        self.padding, self.method = padding, method
        register_constant(self, "window", hann_window(win_length, n_fft))

    @property
    def pad(self) -> tuple[int, int]:
        """Samples that padding adds before and after the signal, and that the inverse trims."""
        if self.padding == "center":
            return self.n_fft // 2, self.n_fft // 2
        left = (self.n_fft - self.hop_length) // 2
        return left, self.n_fft - self.hop_length - left

    def extra_repr(self) -> str:
        return f"{self.n_fft}, {self.hop_length}, {self.win_length}, padding={self.padding!r}, method={self.method!r}"


class STFT(Spectral):
    """Short-time Fourier transform with reflect padding.

    Args:
        n_fft: size of the transform, even.
        hop_length: samples between frames, at most n_fft.
        win_length: Hann window, centred in n_fft; None: n_fft.
        padding: "center" adds n_fft / 2 samples on each side, "same" (n_fft - hop_length) / 2.
        method: "matmul" (real numbers only) or "fft".

    Shape:
        (B, T) -> real, imag of (B, N, L), N = n_fft // 2 + 1;
        L = T // hop_length + 1 for "center", T // hop_length for "same".

    Raises:
        ConfigError: at construction, if the sizes do not fit each other.
        InputError, InputTypeError: no floats of (B, T), or too short for one frame: "center" needs 1 sample, "same"
            hop_length samples.

    Source: torch.stft (center=True, pad_mode="reflect"); "same" is the convention of HiFi-GAN's meldataset.py.
    """

    def __init__(
        self,
        n_fft: int,
        hop_length: int,
        win_length: int | None = None,
        padding: Padding = "center",
        method: SpectralMethod = "matmul",
    ) -> None:
        super().__init__(n_fft, hop_length, win_length, padding, method)
        self.dft = RealDFT(n_fft, method)

    def n_frames(self, samples: int) -> int:
        """Frames that `samples` give."""
        return samples // self.hop_length + (1 if self.padding == "center" else 0)

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        padded = self.padded(audio)
        with precision(padded.device):
            return self.transform(padded)

    def padded(self, audio: Tensor) -> Tensor:
        """Pad a signal by reflection. Frame l then begins at sample l * hop_length. Shape: (B, T) -> (B, T + pad)"""
        require_floats(audio, "audio", (2,), "(B, T)")
        needed = 1 if self.padding == "center" else self.hop_length
        if not is_traced() and audio.shape[-1] < needed:  # a graph serves every length
            raise InputError(
                "audio has {samples} samples; at least {needed} are needed for one frame",
                code="audio-too-short",
                samples=audio.shape[-1],
                needed=needed,
            )
        return reflect_pad(audio.to(self.window.dtype), *self.pad)

    def transform(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        """Transform a padded signal, or a part of one. Shape: (B, T) -> 2 x (B, N, L)"""
        real, imag = self.dft(framed(padded, self.n_fft, self.hop_length, self.method == "fft") * self.window)
        return real.transpose(1, 2), imag.transpose(1, 2)
