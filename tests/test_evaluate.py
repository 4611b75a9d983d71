"""Measures of closeness, on differences that are known."""

from __future__ import annotations

import pytest
import torch

from tts_infer import InputError, MelConfig, log_mel_error_db


def test_known_differences() -> None:
    mel = torch.randn(1, 100, 9, generator=torch.Generator().manual_seed(0))
    assert log_mel_error_db(mel, mel) == 0.0
    # half the magnitude is 6.02 dB less; half the power 3.01 dB
    assert log_mel_error_db(mel, mel - torch.log(torch.tensor(2.0))) == pytest.approx(6.0206, abs=1e-3)
    power = MelConfig(power=2)
    assert log_mel_error_db(mel, mel - torch.log(torch.tensor(2.0)), power) == pytest.approx(3.0103, abs=1e-3)
    assert log_mel_error_db(mel, mel[..., :5]) == 0.0


def test_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match=r"shape \(1, 100, 9\) and \(1, 80, 9\)"):
        log_mel_error_db(torch.zeros(1, 100, 9), torch.zeros(1, 80, 9))
    with pytest.raises(InputError, match="cannot compare"):
        log_mel_error_db(torch.zeros(1, 100, 9), torch.zeros(1, 100, 0))
