"""WhisperSpeech: `install()` replaces its vocoder, which decodes tokens of EnCodec."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tts_infer.errors import InputError, import_other
from tts_infer.integrations.other_packages import replace
from tts_infer.integrations.vocos import Vocos
from tts_infer.io.writer import write_audio
from tts_infer.loading import load_vocoder

REPO_ID = "charactr/vocos-encodec-24khz"


def install() -> Callable[[], None]:
    """Replace `Vocoder` in `whisperspeech.a2wav`, and where other modules of WhisperSpeech have it by value.

    Returns:
        A function that takes the replacement back.

    Raises:
        MissingPackageError: WhisperSpeech cannot be imported.
    """
    return replace("whisperspeech.a2wav", "Vocoder", Vocoder, "WhisperSpeech")


class Vocoder:
    """Tokens to audio, on any device: WhisperSpeech itself keeps Apple GPUs from decoding.

    Args:
        repo_id: a vocoder of EnCodec's codes, see `load_vocoder`.
        device: where it runs; None: the first accelerator, or the CPU.

    Raises:
        VocoderNotFoundError, ConfigError, CheckpointError, PlacementError: see `load_vocoder`.
    Source: whisperspeech/a2wav.py Vocoder of WhisperSpeech 0.8.9.
    """

    def __init__(self, repo_id: str | os.PathLike[str] = REPO_ID, device: str | torch.device | None = None) -> None:
        self.vocos = Vocos(load_vocoder(repo_id, device="auto" if device is None else device))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.vocos.parameters()).device

    def decode(self, atoks: Tensor) -> Tensor:
        """Decode tokens. The number of codebooks says the bandwidth.

        Shape: (K, L) or (B, K, L), int64 -> (B, T)
        Raises:
            InputError, InputTypeError: see `Vocoder.codes_to_features`.
        """
        codes = atoks.permute(1, 0, 2) if atoks.ndim == 3 else atoks
        vocoder = self.vocos.vocoder
        conditions: dict[str, Any] = vocoder.conditions_of(codes)
        return vocoder.decode(vocoder.codes_to_features(codes), **conditions)

    def decode_to_file(self, fname: str | os.PathLike[str], atoks: Tensor) -> None:
        """Decode the tokens of one item into a file, whose name says the format.

        Raises:
            InputError: several items; or see `decode`.
            FileError: it cannot be written.
        """
        audio = self.decode(atoks)
        if len(audio) != 1:
            raise InputError(
                "a file holds one item, but tokens of {count} were given; write each to a file of its own",
                code="one-item-a-file",
                count=len(audio),
            )
        write_audio(fname, audio[0].cpu().numpy(), self.vocos.sample_rate)

    def decode_to_notebook(self, atoks: Tensor) -> None:
        """Decode tokens into a player in the notebook.

        Raises:
            MissingPackageError: IPython is not installed.
        """
        display = import_other("IPython.display", "ipython")
        display.display(display.Audio(self.decode(atoks).cpu().numpy(), rate=self.vocos.sample_rate))
