"""The table of measures, and all of them at once."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tts_infer import MelConfig, Vocoder
from tts_infer.evaluation.dnsmos import _session
from tts_infer.evaluation.measures import MEASURES, chosen_measures, measure
from tts_infer.evaluation.metrics import _visqol
from tts_infer.evaluation.pair import Pair, Signal
from tts_infer.evaluation.speaker import _encoder

KEYS = [one.key for one in MEASURES]
WITHOUT_COMPILER = chosen_measures([key for key in KEYS if key != "visqol"])  # it compiles for seconds: test_metrics
UNTRACKED = ("periodicity_error", "vuv_f1", "f0_rmse_cents")


def test_the_table() -> None:
    assert len(set(KEYS)) == len(KEYS)
    for one in MEASURES:
        low, high = one.range
        assert low < high and one.meaning and one.package
        assert one.best not in "01" or low <= float(one.best) <= high


@pytest.mark.slow
def test_a_perfect_copy(vocoder: Vocoder, speech: torch.Tensor) -> None:
    """Every measure is at the better end of its range, and nothing is beyond it."""
    samples = speech[0, :36000].numpy()
    mel = vocoder.mel(samples)
    first, second = (Signal(samples, 24000, "crepe-tiny") for _ in range(2))
    pair = Pair(first, second, (mel, mel), vocoder.mel_config, seams=(12000, 24000))
    values, missing = measure(pair, WITHOUT_COMPILER)
    assert not missing and list(values) == [one.key for one in WITHOUT_COMPILER]
    for one in WITHOUT_COMPILER:
        goal = {"high": one.range[1], "low": one.range[0], "0": 0.0, "1": 1.0}[one.best]
        if one.package == "speechmos":  # it hears no original
            assert 1 < (values[one.key] or 0) < 5
        else:
            assert values[one.key] == pytest.approx(4.644 if one.key == "pesq_wb" else goal, abs=1e-3), one.key


def test_a_louder_shorter_copy(vocoder: Vocoder, speech: torch.Tensor) -> None:
    """The units: nepers, decibels; what the copy lacks at the end counts for nothing."""
    samples = speech[0, :36000].numpy()
    mel = vocoder.mel(samples)
    copy = Signal(2 * samples[:35840], 24000, "none")
    pair = Pair(Signal(samples, 24000, "none"), copy, (mel, mel + np.log(2.0)), vocoder.mel_config)
    values, missing = measure(pair, WITHOUT_COMPILER)
    assert values["log_mel_l1"] == pytest.approx(np.log(2.0), abs=1e-6)
    assert values["log_mel_error_db"] == pytest.approx(6.0206, abs=1e-4)
    assert values["level_db"] == pytest.approx(6.0206, abs=1e-4)
    assert values["pesq_wb"] == pytest.approx(4.644, abs=1e-3)  # it levels both
    assert missing == dict.fromkeys(UNTRACKED, "no pitch tracker was asked for")
    assert values["seam_click_db"] is None  # no piece was joined to another


def test_powers_have_half_the_decibels() -> None:
    mel = torch.zeros(1, 80, 4)
    empty = Signal(np.zeros(0, np.float32), 24000, "none")
    pair = Pair(empty, empty, (mel, mel + 1), MelConfig(n_mels=80, power=2))
    values, _ = measure(pair, chosen_measures(["log_mel_error_db", "log_mel_l1"]))
    assert list(values) == ["log_mel_error_db", "log_mel_l1"]
    assert values["log_mel_l1"] == 1.0 and values["log_mel_error_db"] == pytest.approx(4.3429, abs=1e-4)


def test_nothing_and_silence_have_no_measures() -> None:
    empty, silence = (Signal(np.zeros(n, np.float32), 24000, "crepe-tiny") for n in (0, 36000))
    pair = Pair(silence, empty, None, MelConfig(), seams=(0,))
    values, missing = measure(pair)
    assert set(values.values()) == {None} and not missing
    values, missing = measure(replace(pair, copy=silence))
    defined = {key: value for key, value in values.items() if value is not None}
    assert defined == {"mr_stft_db": 0.0, "short_stft_db": 0.0, "mcd_db": 0.0, "periodicity_error": 0.0}


def test_missing_packages_are_not_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    for cached in (_session, _encoder, _visqol):
        cached.cache_clear()
    for package in ("pesq", "pystoi", "torchcrepe", "speechmos", "visqol", "resemblyzer"):
        monkeypatch.setitem(sys.modules, package, None)
    samples = (0.1 * np.random.default_rng(0).standard_normal(9000)).astype(np.float32)
    signal = Signal(samples, 24000, "crepe")
    values, missing = measure(Pair(signal, signal, None, MelConfig()))
    quality = {one.key for one in MEASURES if one.package in ("speechmos", "visqol-python", "Resemblyzer")}
    assert set(missing) == {"pesq_wb", "stoi", *UNTRACKED} | quality
    for key, reason in missing.items():
        assert f"pip install 'tts-infer[{'quality' if key in quality else 'evaluate'}]'" in reason
    assert values["level_db"] == 0.0 and values["pesq_wb"] is None
