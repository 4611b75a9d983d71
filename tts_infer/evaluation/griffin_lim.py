"""Griffin-Lim by librosa: the baseline that every vocoder has to beat."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.dsp.mel import mel_filterbank
from tts_infer.dsp.stft import STFT
from tts_infer.errors import require_package

ITERATIONS = 60


class GriffinLim:
    """A log-mel to audio without any training: magnitudes by non-negative least squares, phases by iteration.

    librosa.util.nnls inverts the filterbank, as librosa.feature.inverse.mel_to_stft does. librosa.griffinlim does 60
    iterations with its momentum of 0.99, from random phases with a fixed seed.

    Args:
        config: the convention of the mel.

    Shape: (1, n_mels, L) -> (1, T), aligned with the audio of the mel; T as in `ISTFT.n_samples`, and one more if
        the padding "same" is uneven
    Raises:
        MissingPackageError: no librosa.
    """

    def __init__(self, config: MelConfig) -> None:
        require_package("librosa", "evaluate")
        self._config = config
        self._filterbank = mel_filterbank(config).T
        # frame l is centred at sample l * hop in librosa, and at l * hop + shift in this convention
        self._shift = (
            config.n_fft // 2 - STFT(config.n_fft, config.hop_length, config.win_length, config.padding, "fft").pad[0]
        )

    def __call__(self, mel: Tensor) -> Tensor:
        librosa, config = require_package("librosa", "evaluate"), self._config
        frames = mel.shape[-1]
        samples = (frames - 1) * config.hop_length + 2 * self._shift
        if frames < 2:  # librosa would warn about audio without samples
            return torch.zeros(1, samples, dtype=torch.float32, device="cpu")
        levels = np.exp(mel[0].detach().cpu().numpy().astype(np.float64))
        magnitude = librosa.util.nnls(self._filterbank, levels) ** (1 / config.power)
        audio = librosa.griffinlim(
            magnitude,
            n_iter=ITERATIONS,
            hop_length=config.hop_length,
            win_length=config.win_length or config.n_fft,
            n_fft=config.n_fft,
            momentum=0.99,
            random_state=0,
        )
        aligned = np.zeros((1, samples), np.float32)
        aligned[0, self._shift : self._shift + len(audio)] = audio
        return torch.from_numpy(aligned)
