"""How close an output is to its reference."""

from __future__ import annotations

from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.errors import InputError


def log_mel_error_db(reference: Tensor, output: Tensor, config: MelConfig | None = None) -> float:
    """Mean absolute difference of two log-mel spectrograms, in dB, over the frames that both have.

    Args:
        reference, output: log-mels of one convention. The output of a copy is up to one frame shorter than its input.
        config: that convention, whose power says how many dB a unit of log-mel is; None: magnitudes.

    Shape: (B, n_mels, L) and (B, n_mels, L') -> a number
    Raises:
        InputError: other axes differ, or there is no common frame.
    """
    frames = min(reference.shape[-1], output.shape[-1])
    if reference.shape[:-1] != output.shape[:-1] or frames == 0:
        raise InputError(f"cannot compare log-mels of shape {tuple(reference.shape)} and {tuple(output.shape)}")
    difference = reference[..., :frames] - output[..., :frames].to(reference.device)
    return float(difference.abs().mean()) * (config or MelConfig()).db_per_unit
