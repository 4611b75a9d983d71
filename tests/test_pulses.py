"""Pulse trains against their definition in float64."""

from __future__ import annotations

import numpy as np
import torch

from tts_infer.dsp.pulses import PulseTrain
from tts_infer.stages import relative_error

RATE, HOP = 24000, 300


def harmonics(pitch: np.ndarray) -> np.ndarray:
    """The sum of cosines as it is written, for one pitch of every sample. Shape: (T,) -> (T,)"""
    phase = 2 * np.pi * np.cumsum(pitch.astype(np.float64)) / RATE
    number = np.floor(np.float32(11000.0) / pitch)
    return np.array([np.cos(np.arange(1, int(n) + 1) * t).sum() for n, t in zip(number, phase, strict=True)])


def test_a_constant_pitch_gives_the_sum_of_its_harmonics() -> None:
    got = PulseTrain(RATE, HOP)(torch.full((1, 40), 220.3))[0]
    expected = torch.from_numpy(harmonics(np.full(40 * HOP, 220.3, np.float32)))
    assert (
        relative_error(got, expected.float()) <= 2e-3
    )  # the limit is used to 2e-3 rad: 49 harmonics, (49 * 2e-3)^2 / 6


def test_the_phase_does_not_drift() -> None:
    train = PulseTrain(RATE, HOP)
    pitch = 150 + 100 * torch.sin(torch.arange(4000) * 0.05)[None]  # 50 s
    samples = train._interpolated(pitch)
    true = samples.double().flatten().cumsum(0) / RATE
    error = train._phase(samples).flatten().double() - true
    assert (error - error.round()).abs().max() <= 6e-8  # half a unit of float32 at the largest phase, 1/2 turn


def test_unvoiced_samples_are_silent_and_voiced_ones_are_not() -> None:
    pulses = PulseTrain(RATE, HOP)(torch.tensor([[0.0, 0.0, 0.0, 200.0, 200.0, 200.0]]))[0]
    assert pulses[: 2 * HOP].abs().max() == 0 and pulses[4 * HOP :].abs().max() > 50


def test_one_frame_has_a_train() -> None:
    assert PulseTrain(RATE, HOP)(torch.full((2, 1), 100.0)).shape == (2, HOP)
