"""Vocoders that are called with a mel: HiFi-GAN and BigVGAN in Matcha-TTS, F5-TTS, coqui and ESPnet."""

from __future__ import annotations

import torch
from torch import Tensor

from tts_infer.dsp.conventions import MelUnit, convert_mel
from tts_infer.integrations.module import VocoderModule
from tts_infer.vocoder import Vocoder


class MelVocoder(VocoderModule):
    """`vocoder(mel)` gives audio with a channel axis, as the generator of HiFi-GAN does.

    Args:
        vocoder: what computes; of any family.
        frames_first: take mels of (L, n_mels), and give audio of (T,), as the vocoders of ESPnet do.
        unit: the unit of the program's mels, see `convert_mel`; their filterbank is that of the vocoder.

    Shape: (B, n_mels, L) -> (B, 1, T)
    Raises:
        ConfigError: an unknown unit.
    Source: the `Generator` of jik876/hifi-gan models.py, `BigVGAN` of NVIDIA/BigVGAN bigvgan.py, `inference` of
        coqui's TTS/vocoder/models, and ESPnet's espnet2/tts/utils/parallel_wavegan_pretrained_vocoder.py.
    """

    def __init__(self, vocoder: Vocoder, frames_first: bool = False, unit: str | MelUnit = "ln") -> None:
        super().__init__(vocoder)
        self.frames_first, self.unit = frames_first, unit
        self._in_our_unit(torch.zeros(1))  # refuses an unknown one now

    @property
    def fs(self) -> int:
        """The sample rate, as ESPnet calls it."""
        return self.sample_rate

    def forward(self, mel: Tensor) -> Tensor:
        """Decode.

        Raises:
            InputError, InputTypeError: see `Vocoder.decode`.
        """
        mel = self._in_our_unit(mel)
        if self.frames_first:
            return self.vocoder.decode(mel.transpose(-1, -2))[0]
        return self.vocoder.decode(mel).unsqueeze(1)

    def _in_our_unit(self, mel: Tensor) -> Tensor:
        """Natural logarithms. Shape: any -> the same"""
        return mel if self.unit == "ln" else convert_mel(mel, from_=self.unit, to=self.vocoder.mel_config)

    def inference(self, mel: Tensor) -> Tensor:
        """The same, as coqui calls it."""
        audio: Tensor = self(mel)
        return audio

    def remove_weight_norm(self) -> None:
        """Do nothing: weight norm is resolved when weights are loaded."""
