"""The table of measures, and all of them at once."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from tts_infer import MelConfig, Vocoder
from tts_infer.evaluation.measures import MEASURES, Signal, measure

KEYS = {one.key for one in MEASURES}


def test_a_perfect_copy(vocoder: Vocoder, speech: torch.Tensor) -> None:
    """Every measure is at its best, and is the best that its entry says."""
    samples = speech[0, :36000].numpy()
    mel = vocoder.mel(samples)
    first, second = (Signal(samples, 24000, "crepe-tiny") for _ in range(2))
    values, missing = measure(first, second, (mel, mel), vocoder.mel_config)
    assert not missing and set(values) == KEYS
    best = {"low": 0.0, "0": 0.0, "1": 1.0}
    for one in MEASURES:
        goal = {"pesq_wb": 4.644}.get(one.key, best.get(one.best, 1.0))
        assert values[one.key] == pytest.approx(goal, abs=1e-3), one.key


def test_a_louder_shorter_copy(vocoder: Vocoder, speech: torch.Tensor) -> None:
    """The units: nepers, decibels; what the copy lacks at the end counts for nothing."""
    samples = speech[0, :36000].numpy()
    mel = vocoder.mel(samples)
    copy = Signal(2 * samples[:35840], 24000, "none")
    values, missing = measure(Signal(samples, 24000, "none"), copy, (mel, mel + np.log(2.0)), vocoder.mel_config)
    assert values["log_mel_l1"] == pytest.approx(np.log(2.0), abs=1e-6)
    assert values["log_mel_error_db"] == pytest.approx(6.0206, abs=1e-4)
    assert values["level_db"] == pytest.approx(6.0206, abs=1e-4)
    assert values["pesq_wb"] == pytest.approx(4.644, abs=1e-3)  # it levels both
    assert missing == dict.fromkeys(("periodicity_error", "vuv_f1"), "no pitch tracker was asked for")


def test_powers_have_half_the_decibels() -> None:
    mel = torch.zeros(1, 80, 4)
    empty = Signal(np.zeros(0, np.float32), 24000, "none")
    values, _ = measure(empty, empty, (mel, mel + 1), MelConfig(n_mels=80, power=2))
    assert values["log_mel_l1"] == 1.0 and values["log_mel_error_db"] == pytest.approx(4.3429, abs=1e-4)


def test_nothing_and_silence_have_no_measures() -> None:
    empty, silence = (Signal(np.zeros(n, np.float32), 24000, "crepe-tiny") for n in (0, 12000))
    values, missing = measure(silence, empty, None, MelConfig())
    assert set(values.values()) == {None} and not missing
    values, missing = measure(silence, silence, None, MelConfig())
    defined = {key: value for key, value in values.items() if value is not None}
    assert defined == {"mr_stft_db": 0.0, "short_stft_db": 0.0, "mcd_db": 0.0, "periodicity_error": 0.0}


def test_missing_packages_are_not_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pesq", "pystoi", "torchcrepe"):
        monkeypatch.setitem(sys.modules, package, None)
    samples = (0.1 * np.random.default_rng(0).standard_normal(9000)).astype(np.float32)
    signal = Signal(samples, 24000, "crepe")
    values, missing = measure(signal, signal, None, MelConfig())
    assert set(missing) == {"pesq_wb", "stoi", "periodicity_error", "vuv_f1"}
    assert all("pip install 'tts-infer[evaluate]'" in reason for reason in missing.values())
    assert values["level_db"] == 0.0 and values["pesq_wb"] is None
