"""Tones and clicks of known levels, added to speech."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tts_infer.evaluation.artefacts import FLOOR_DB, click_db, whistle_db

Samples = NDArray[np.float32]
RATE = 24000


@pytest.fixture(scope="module")
def clip(speech: torch.Tensor) -> Samples:
    """Speech with a little noise, as recordings have."""
    samples = speech[0].numpy()
    return samples + noise(len(samples), rms(samples) * 1e-3)


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def noise(samples: int, level: float = 0.1, seed: int = 0) -> Samples:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def with_tone(clip: Samples, level_db: float, hz: float, rate: int = RATE) -> Samples:
    """The clip and a sine of this level relative to it."""
    amplitude = math.sqrt(2) * rms(clip) * 10 ** (level_db / 20)
    return (clip + amplitude * np.sin(2 * np.pi * hz * np.arange(len(clip)) / rate)).astype(np.float32)


@pytest.mark.parametrize(("level_db", "hz"), [(-10, 400.0), (-20, 1000.0), (-30, 93.75 * 25), (-40, 7003.0), (0, 60.0)])
def test_a_tone_of_known_level(clip: Samples, level_db: float, hz: float) -> None:
    """Within 1.5 dB: the quarter of the frames where speech works against the tone counts for the floor."""
    assert whistle_db(clip, with_tone(clip, level_db, hz), RATE) == pytest.approx(level_db, abs=1.5)


def test_tones_add_up_and_rates_do_not_matter() -> None:
    quiet = noise(96000, 1e-4)
    two = with_tone(quiet, 20, 1000.0) + with_tone(quiet, 20, 3000.0) - quiet
    assert whistle_db(quiet, two, RATE) == pytest.approx(20 + 10 * math.log10(2), abs=0.2)
    assert whistle_db(quiet, with_tone(quiet, 20, 1000.0, 44100), 44100) == pytest.approx(20, abs=0.2)


def test_what_the_original_has_is_no_whistle(clip: Samples) -> None:
    tone = with_tone(clip, -20, 1000.0)
    assert whistle_db(clip, clip, RATE) == whistle_db(tone, tone, RATE) == FLOOR_DB
    assert whistle_db(tone, clip, RATE) == FLOOR_DB
    assert whistle_db(tone, with_tone(clip, -20, 1031.0), RATE) == pytest.approx(-20, abs=1.5)  # it has moved
    assert whistle_db(clip, 2 * clip, RATE) == whistle_db(clip, clip[::-1].copy(), RATE) == FLOOR_DB


@pytest.mark.parametrize("samples", [24000, 72000, 240000])
def test_noise_is_no_whistle(samples: int) -> None:
    assert whistle_db(noise(samples), noise(samples, 0.3, seed=1), RATE) == FLOOR_DB


def test_a_whistle_of_a_moment_is_not_steady(clip: Samples) -> None:
    half = clip.copy()
    half[: len(clip) // 2] = with_tone(clip, -20, 3000.0)[: len(clip) // 2]
    assert whistle_db(clip, half, RATE) < -40  # it lifts the floor to that of the other half


def test_whistles_that_are_not_defined(clip: Samples) -> None:
    assert math.isnan(whistle_db(clip[:23999], clip[:23999], RATE)) and not math.isnan(
        whistle_db(clip[:24000], clip[:24000], RATE)
    )
    silence = np.zeros(48000, np.float32)
    assert math.isnan(whistle_db(silence, noise(48000), RATE))
    assert whistle_db(noise(48000), silence, RATE) == FLOOR_DB


def test_a_start_of_known_level(clip: Samples) -> None:
    """A copy that begins at once with a constant, where the original is silent."""
    silent = clip.copy()
    silent[:2400] = 0
    for level_db in (-40, -20, 0):
        copy = silent.copy()
        copy[:2400] = rms(silent) * 10 ** (level_db / 20)
        assert click_db(silent, copy, RATE, (0,)) == pytest.approx(level_db, abs=0.01)
        assert click_db(copy, copy, RATE, (0,)) == FLOOR_DB  # it belongs to the original
    assert click_db(silent, silent, RATE, (0,)) == FLOOR_DB


def test_the_largest_step_at_a_seam() -> None:
    """In a slow sine; a step elsewhere does not count."""
    original = np.sin(2 * np.pi * 100 * np.arange(24000) / RATE).astype(np.float32)
    copy = original.copy()
    copy[6000:] += 0.01
    copy[12000:] += 0.1
    expected = 20 * math.log10(0.1 * math.sqrt(2))
    assert click_db(original, copy, RATE, (6000, 12000, 18000)) == pytest.approx(expected, abs=0.05)
    assert click_db(original, copy, RATE, (6000, 18000)) == pytest.approx(expected - 20, abs=0.2)
    assert click_db(original, copy, RATE, (11990, 18000, 30000)) == FLOOR_DB
    half = original.copy()
    half[12000:] += 0.05  # what the original has of it does not count
    assert click_db(half, copy, RATE, (12000,)) == pytest.approx(20 * math.log10(0.05 / rms(half)), abs=0.05)


def test_noise_and_pulses_are_no_seams(clip: Samples) -> None:
    pulses = noise(24000, 0.01)
    pulses[::240] += 1.0
    seams = range(0, 24000, 240)  # every one at a pulse
    assert click_db(noise(24000), pulses, RATE, seams) == FLOOR_DB
    assert click_db(clip, noise(len(clip)), RATE, range(500, len(clip), 500)) == FLOOR_DB


def test_clicks_that_are_not_defined(clip: Samples) -> None:
    assert math.isnan(click_db(np.zeros(100, np.float32), noise(100), RATE, (0,)))
    assert math.isnan(click_db(clip, clip, RATE, ())) and math.isnan(click_db(clip, clip, RATE, (len(clip),)))
    assert math.isnan(click_db(clip[:0], clip[:0], RATE, (0,)))
