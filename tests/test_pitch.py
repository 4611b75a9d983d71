"""Periodicity and voicing: a tone, noise, silence, and torchcrepe itself as the reference."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tts_infer import InputError, MissingPackageError, resample
from tts_infer.evaluation import pitch
from tts_infer.evaluation.pitch import (
    PitchTrack,
    PitchTracker,
    f0_rmse_cents,
    periodicity_error,
    track_pitch,
    voicing_f1,
)
from tts_infer.io.audio import AudioClip
from tts_infer.vocoders.reference import without_native_torchaudio

Samples = NDArray[np.float32]


def tone(seconds: float = 0.5, hz: float = 150.0) -> Samples:
    """With harmonics in all of the band: a spectrum that is mostly empty counts as silent."""
    t = np.arange(round(16000 * seconds)) / 16000
    harmonics = np.arange(1, 51)[:, None]
    return (0.1 / harmonics * np.sin(2 * np.pi * harmonics * hz * t)).sum(axis=0).astype(np.float32)


def track(periodicity: list[float], voiced: list[bool], f0_hz: list[float]) -> PitchTrack:
    return PitchTrack(np.array(periodicity, np.float32), np.array(voiced), np.array(f0_hz, np.float32))


def noise(samples: int = 8000) -> Samples:
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("tracker", ["crepe-tiny", "pyin"])
def test_a_tone_is_voiced_and_noise_is_not(tracker: PitchTracker) -> None:
    voiced, unvoiced = track_pitch(tone(), tracker), track_pitch(noise(), tracker)
    assert len(voiced.periodicity) == len(voiced.voiced) == 1 + (8000 - 1024) // 160
    assert voiced.voiced.all() and voiced.periodicity.mean() > 0.7
    assert unvoiced.voiced.mean() < 0.2
    assert voicing_f1(voiced, voiced) == 1.0 and periodicity_error(voiced, voiced) == 0.0
    assert voicing_f1(voiced, unvoiced) < 0.4 and periodicity_error(voiced, unvoiced) > 0.5


def test_silence_is_unvoiced() -> None:
    """Even where the network, which scales every frame, would hear a pitch."""
    assert track_pitch(tone(), "crepe-tiny").voiced.all()
    quiet = track_pitch(1e-5 * tone(), "crepe-tiny")
    assert not quiet.voiced.any() and not quiet.periodicity.any()
    assert not track_pitch(np.zeros(8000, np.float32), "crepe-tiny").voiced.any()


@pytest.mark.parametrize("capacity", ["tiny", "full"])
def test_the_networks_of_torchcrepe_to_the_last_digits(speech: torch.Tensor, capacity: str) -> None:
    torchcrepe = without_native_torchaudio("torchcrepe")
    audio = torch.from_numpy(resample(AudioClip(speech[0].numpy(), 24000), 16000).samples)[None]
    audio = audio[:, 16000 : 16000 + (8000 if capacity == "tiny" else 2400)]
    np.random.seed(3)
    expected_hz, expected = torchcrepe.predict(
        audio, 16000, fmin=50.0, fmax=550.0, model=capacity, return_periodicity=True, pad=False
    )
    np.random.seed(3)
    found = pitch._crepe(audio[0].numpy(), capacity)
    np.testing.assert_allclose(found.periodicity, expected[0].numpy(), atol=2e-5)
    apart = 1200 * np.log2(found.f0_hz / expected_hz[0].numpy())
    assert np.abs(apart[found.voiced]).max() < 50  # theirs has bins of 20 cents and up to 20 cents of dither
    drawn = np.random.random()
    np.random.seed(3)
    assert drawn == np.random.random()  # the dither of the pitch is not drawn from the user's numbers


def test_figures_of_known_tracks() -> None:
    reference = track([1, 1, 0, 0, 1], [True, True, False, False, True], [100, 100, 0, 0, 100])
    output = track([1, 0, 0, 1], [True, False, False, True], [200, 300, 0, 400])
    # common frames: one right, one missed, one wrongly voiced, one rightly unvoiced
    assert voicing_f1(reference, output) == pytest.approx(2 / (2 + 1 + 1))
    assert periodicity_error(reference, output) == pytest.approx(math.sqrt(2 / 4))
    assert f0_rmse_cents(reference, output) == pytest.approx(1200)  # an octave in the one frame that is voiced in both
    fifth = track([1, 1], [True, True], [100, 150])
    assert f0_rmse_cents(reference, fifth) == pytest.approx(1200 * math.log2(1.5) / math.sqrt(2), abs=1e-3)


@pytest.mark.parametrize("tracker", ["crepe-tiny", "pyin"])
def test_the_error_of_a_detuned_tone(tracker: PitchTracker) -> None:
    """A third of a semitone. CREPE hears tones some cents off, and pYIN has bins of 10 cents."""
    plain, sharp = (track_pitch(tone(hz=hz) + 0.01 * noise(), tracker) for hz in (150.0, 150.0 * 2 ** (33 / 1200)))
    assert f0_rmse_cents(plain, sharp) == pytest.approx(33, abs=8)
    assert f0_rmse_cents(plain, plain) == 0.0
    assert np.median(plain.f0_hz) == pytest.approx(150.0, rel=0.006)  # 10 cents


def test_nothing_to_compare() -> None:
    none = track_pitch(noise(1023))
    assert len(none.periodicity) == 0 and math.isnan(periodicity_error(none, none))
    assert len(track_pitch(noise(), "none").periodicity) == 0
    unvoiced, voiced = track([0, 0, 0], [False] * 3, [0, 0, 0]), track([1, 1, 1], [True] * 3, [1, 1, 1])
    assert math.isnan(f0_rmse_cents(none, none)) and math.isnan(f0_rmse_cents(unvoiced, voiced))
    assert math.isnan(voicing_f1(unvoiced, unvoiced)) and voicing_f1(voiced, unvoiced) == 0.0


def test_no_such_tracker() -> None:
    with pytest.raises(InputError, match="pitch tracker is 'swipe'; allowed: crepe, crepe-tiny, pyin, none"):
        track_pitch(noise(), "swipe")  # type: ignore[arg-type]


@pytest.mark.parametrize(("tracker", "package"), [("crepe", "torchcrepe"), ("pyin", "librosa")])
def test_a_missing_package(tracker: PitchTracker, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"needs {package} .*; pip install 'tts-infer\[evaluate\]'"):
        track_pitch(noise(), tracker)
