"""DNSMOS, speaker similarity and ViSQOL: against the packages that their networks are of."""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import ROOT
from tts_infer import read_audio
from tts_infer.evaluation import dnsmos, speaker
from tts_infer.evaluation.metrics import visqol_speech

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def clip() -> Samples:
    """At 16 kHz."""
    return read_audio(ROOT / "examples" / "english.wav", 16000).samples


def noisy(samples: Samples, level: float) -> Samples:
    return samples + (level * np.random.default_rng(0).standard_normal(len(samples))).astype(np.float32)


def test_published_scores() -> None:
    """What DNSMOS's own script printed for 116-288045-0000 of LibriSpeech: raw scores, and those of listeners.

    Source: lhotse-speech/lhotse, pull request 1406.
    """
    raw = (4.063082, 4.277124, 3.8230743)
    found = [
        np.polyval(curve, one)
        for curve, one in zip((dnsmos._SIGNAL, dnsmos._BACKGROUND, dnsmos._OVERALL), raw, strict=True)
    ]
    # the raw scores were printed as float32
    assert found == pytest.approx([3.5793391333091105, 4.077787772035253, 3.321576764081075], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2.0, 10.5, 19.5])
def test_scores_of_the_package(clip: Samples, seconds: float) -> None:
    """Also where it doubles a clip, and where it leaves windows out."""
    from speechmos import dnsmos as package

    samples = np.resize(clip, round(16000 * seconds))
    expected, found = package.run(samples, 16000), dnsmos.dnsmos_p835(samples)
    assert found == pytest.approx([expected[f"{name}_mos"] for name in ("sig", "bak", "ovrl")], abs=1e-5)


def test_noise_lowers_opinions_and_silence_has_none(clip: Samples) -> None:
    clean, bad = dnsmos.dnsmos_p835(clip), dnsmos.dnsmos_p835(noisy(clip, 0.05))
    assert all(1 < score < 5 for score in (*clean, *bad))
    assert clean.overall - bad.overall > 0.2 and clean.background - bad.background > 0.5  # noise is background
    assert all(map(math.isnan, dnsmos.dnsmos_p835(np.zeros(16000, np.float32))))
    assert all(map(math.isnan, dnsmos.dnsmos_p835(clip[:0])))


def test_a_voice_is_its_own_best_match(clip: Samples) -> None:
    """A fifth higher, it is another voice; noise takes some of it away."""
    assert speaker.speaker_similarity(clip, clip) == pytest.approx(1.0, abs=1e-6)
    higher = np.interp(np.arange(0, len(clip) - 1, 1.5), np.arange(len(clip)), clip).astype(np.float32)
    little, much = (speaker.speaker_similarity(clip, noisy(clip, level)) for level in (0.001, 0.03))
    assert 1 > little > much > 0
    assert speaker.speaker_similarity(clip[: len(higher)], higher) < 0.75 < little
    assert math.isnan(speaker.speaker_similarity(clip[:7999], clip[:7999]))
    assert math.isnan(speaker.speaker_similarity(clip, np.zeros_like(clip)))


@pytest.mark.parametrize("seconds", [0.6, 2.0, 7.3])
def test_embeddings_of_the_package(clip: Samples, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the pauses, which it cuts out by `webrtcvad`; that needs a module which setuptools no longer has."""
    monkeypatch.setitem(sys.modules, "webrtcvad", ModuleType("webrtcvad"))
    package = pytest.importorskip("resemblyzer", exc_type=ImportError)
    encoder = package.VoiceEncoder("cpu", verbose=False)
    samples = 0.05 * np.resize(clip, round(16000 * seconds))
    expected = encoder.embed_utterance(package.normalize_volume(samples, -30, increase_only=True))
    np.testing.assert_allclose(speaker._embedding(samples, speaker._encoder()), expected, atol=1e-6)


def test_weights_are_read_without_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """`weights_only` lets no pickle run code; torch 2.4 and 2.5 do not have it by default."""
    asked: list[Any] = []
    load = torch.load

    def seen(*given: Any, **named: Any) -> Any:
        asked.append(named["weights_only"])
        return load(*given, **named)

    monkeypatch.setattr(torch, "load", seen)
    speaker._encoder.cache_clear()
    speaker._encoder()
    assert asked == [True]


@pytest.mark.slow
def test_visqol(clip: Samples) -> None:
    pytest.importorskip("visqol")
    assert visqol_speech(clip, clip) == 5.0
    little, much = (visqol_speech(clip, noisy(clip, level)) for level in (0.001, 0.03))
    assert 5 > little > much > 1
    assert math.isnan(visqol_speech(clip[:15999], clip[:15999]))
    assert math.isnan(visqol_speech(clip, np.zeros_like(clip)))
    quiet = noisy(np.zeros(16000, np.float32), 1e-7)
    assert math.isnan(visqol_speech(quiet, quiet)) or visqol_speech(quiet, quiet) == 5.0  # no speech, or all of it
