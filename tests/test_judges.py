"""Judges of wrong mels: the statistics by band that they weigh, their files, and when they say nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tts_infer
from benchmarks.conventions import VOCODERS
from tts_infer.config import MelConfig
from tts_infer.dsp.conventions import CONVENTIONS
from tts_infer.dsp.fingerprints import rivals
from tts_infer.dsp.judges import FILTERBANK, FOLDER, curves, judges_of
from tts_infer.dsp.listener import Listener
from tts_infer.dsp.mel_statistics import RIPPLED, Statistics
from tts_infer.dsp.mismatch import ConventionCheck

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NARROW, WIDE = CONVENTIONS["hifigan-22k"], CONVENTIONS["bigvgan-22k-80"]


def statistics(mel: torch.Tensor) -> Statistics:
    values = mel[0].numpy()
    return Statistics(values, float(values.min()), float(values.max()))


def noise(config: MelConfig) -> Statistics:
    wave = torch.randn(1, 6 * config.sample_rate, generator=torch.Generator().manual_seed(3)) * 0.1
    return statistics(tts_infer.LogMel(config)(wave))


def spoken(config: MelConfig, name: str = "english.wav") -> torch.Tensor:
    clip = tts_infer.read_audio(EXAMPLES / name, config.sample_rate)
    return tts_infer.LogMel(config)(torch.from_numpy(clip.samples)[None])


def test_wider_filters_fluctuate_less() -> None:
    narrow, wide = noise(NARROW), noise(WIDE)
    # the last ten filters to 11 kHz are half as wide again as those to 8 kHz; the means of 96 places vary by 3 %
    assert wide.bend[-10:].mean() < 0.94 * narrow.bend[-10:].mean()


def test_typical_sizes_are_those_of_the_values() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (80, 400)).astype(np.float32)
    given = Statistics(values, float(values.min()), float(values.max()))
    # of a normal distribution, the median size is 0.674 deviations; a second difference has sqrt(1 + 4 + 1) of them
    assert given.heard
    assert given.bend.mean() == pytest.approx(0.674 * math.sqrt(6), rel=0.05)
    assert given.roughness.mean() == pytest.approx(0.674 * math.sqrt(6), rel=0.05)
    assert given.change.mean() == pytest.approx(0.674 * math.sqrt(2), rel=0.05)
    assert given.likeness.mean() == pytest.approx(0, abs=0.05)
    assert given.deviation == pytest.approx(values.std(), rel=0.02)


def test_sizes_follow_the_unit() -> None:
    mel = spoken(NARROW)
    once, half = statistics(mel), statistics(mel / 2)
    assert half.sizes == pytest.approx([size / 2 for size in once.sizes], rel=1e-4)
    assert np.allclose(half.likeness, once.likeness, atol=1e-3)
    assert (half.fluctuation, half.curvature) == pytest.approx((once.fluctuation / 2, once.curvature), rel=1e-4)


def test_bands_at_the_log_floor_have_no_sizes() -> None:
    mel = spoken(NARROW).clone()
    mel[:, 70:] = math.log(NARROW.log_floor)
    given = statistics(mel)
    assert given.bend[70:].tolist() == [0] * 10 and (given.bend[:60] > 0).all()
    assert all(math.isfinite(value) for value in curves(given, NARROW, np.zeros(4, np.float32)))


@pytest.mark.parametrize("name", VOCODERS)
def test_files_fit_their_convention(name: str) -> None:
    config = CONVENTIONS[name]
    judges = judges_of(config)
    assert judges is not None
    expected = ["power", "log10", *(f"{FILTERBANK}{i}" for i in range(len(rivals(config))))]
    assert [judge.kind for judge in judges.all] == expected
    listener, ripples = judges.listener, statistics(spoken(config)).ripples
    assert listener.hidden.shape == (len(listener.offsets), len(ripples))
    assert listener.kinds.shape == (len(expected), len(listener.offsets)) and listener.biases.shape == (len(expected),)
    given = statistics(spoken(config))
    values = curves(given, config, listener(given.ripples))
    for judge in judges.all:
        for array in (judge.mean, judge.precision, judge.weights):
            assert array.shape == values.shape and np.isfinite(array).all()
        assert math.isfinite(judge.bias) and judge.limit > 0 and judge.least < judge.most
        assert judge.score(values) < 0  # the clip is right


def test_ripples_are_second_differences_over_the_low_bands_of_three_neighbouring_frames() -> None:
    bands = torch.arange(80.0)[:, None]
    frames = torch.arange(60.0)
    mel = -4 + torch.where(frames % 2 == 0, 0.3 * (bands % 2), 0.2 * (bands % 2)) + 0.01 * bands - 2.5 * (bands == 30)
    ripples = statistics(mel[None]).ripples
    assert ripples.shape == (3 * (RIPPLED - 2), 58)  # the last two frames have no neighbours
    first, second, third = np.split(ripples[:, ::2], 3)  # the tilt has no second difference
    assert np.allclose(first[0], -0.6, atol=1e-5) and np.allclose(first[1], 0.6, atol=1e-5)
    assert np.allclose(second[0], -0.4, atol=1e-5) and np.allclose(third, first, atol=1e-5)
    assert ripples.max() == 3  # what is steeper counts as that: 5.6


def test_a_listener_averages_what_frames_say() -> None:
    hidden, offsets = np.eye(2, dtype=np.float32), np.array([0, -1], np.float32)
    kinds, biases = np.array([[1, 0], [10, 2]], np.float32), np.array([0.5, 0], np.float32)
    frames = np.array([[0, 1, -3], [0, 4, 0]], np.float32)  # hidden: (0, 0), (1, 3), (0, 0)
    assert Listener(hidden, offsets, kinds, biases)(frames) == pytest.approx([(0.5 + 1.5 + 0.5) / 3, 4 / 3])


@pytest.mark.parametrize("name", VOCODERS)
def test_a_listener_hears_each_kind(name: str) -> None:
    config = CONVENTIONS[name]
    judges = judges_of(config)
    assert judges is not None
    right = judges.listener(statistics(spoken(config)).ripples)
    made = {
        "power": spoken(replace(config, power=2)),
        "log10": spoken(config) / math.log(10),
        **{f"{FILTERBANK}{i}": spoken(rival) for i, rival in enumerate(rivals(config))},
    }
    for i, judge in enumerate(judges.all):
        assert judges.listener(statistics(made[judge.kind]).ripples)[i] > right[i] + 0.5, judge.kind


def test_judges_ask_the_listener() -> None:
    judges, wrong = judges_of(WIDE), statistics(spoken(NARROW))
    assert judges is not None and judges(wrong) == (FILTERBANK, replace(NARROW, power_eps=WIDE.power_eps))
    deaf = replace(judges.listener, kinds=0 * judges.listener.kinds, biases=judges.listener.biases * 0 - 4)
    assert replace(judges, listener=deaf)(wrong) is None


def test_the_files_are_small() -> None:
    sizes = {path.stem: path.stat().st_size for path in FOLDER.glob("*")}
    assert sizes.keys() == set(VOCODERS)
    assert sum(sizes.values()) < 128_000


def test_judges_belong_to_a_filterbank_whatever_the_floor() -> None:
    names = ("vocos-24k", "f5-24k"), ("hifigan-22k", "vocos-22k")
    for one, other in names:
        first, second = judges_of(CONVENTIONS[one]), judges_of(CONVENTIONS[other])
        assert first is not None and second is not None
        assert np.array_equal(first.all[0].weights, second.all[0].weights)
    assert judges_of(MelConfig(n_mels=77)) is None
    assert judges_of(replace(NARROW, f_max=7600.0)) is None


def test_what_is_typical_of_no_kind_is_not_judged() -> None:
    judges = judges_of(NARROW)
    assert judges is not None
    for judge in judges.all:
        far = np.asarray(np.sign(judge.weights) / judge.precision, np.float32)
        assert judge.score(judge.mean + far) > 0
        assert (
            judge.score(judge.mean + far * np.float32(3)) == -math.inf
        )  # it speaks more, but no mel is known that lies there


def test_filterbanks_without_judges_are_judged_by_fewer_statistics() -> None:
    config = MelConfig(n_mels=90)
    assert judges_of(config) is None
    mel = spoken(config, "german.wav")
    assert ConventionCheck(config)(mel) is None
    found = ConventionCheck(config)(mel / math.log(10))
    assert found is not None and found.fields["kind"] == "log10"


def test_too_little_evidence_is_no_alarm() -> None:
    check, wrong = ConventionCheck(NARROW), spoken(WIDE)
    assert check(wrong) is not None
    for frames in (1, 2, 3, 10, 20, 31):
        assert check(wrong[..., 40 : 40 + frames]) is None, frames
    pause = torch.full_like(wrong[..., :60], math.log(NARROW.log_floor))
    assert check(torch.cat([pause, wrong[..., 60:75], pause], 2)) is None  # fifteen frames sound


ONE_THREAD = """
import time, torch, tts_infer
from tts_infer.dsp.conventions import CONVENTIONS
from tts_infer.dsp.mismatch import ConventionCheck
clip = torch.from_numpy(tts_infer.read_audio("examples/english.wav", 24000).samples)[None]
for name in ("vocos-24k", "bigvgan-24k-100"):
    config = CONVENTIONS[name]
    mel = tts_infer.LogMel(config)(torch.cat([clip] * 4, 1))
    check = ConventionCheck(config)
    for frames in (94, 143, 300):  # of more, torch looks for the extremes with its own threads
        check(mel[..., :frames])
        time.sleep(0.05)  # torch's threads, which made the mel, spin for a while
        all_, own = time.process_time(), time.thread_time()
        for _ in range(300):
            check(mel[..., :frames])
        print(time.process_time() - all_ - (time.thread_time() - own), time.thread_time() - own)
"""


def test_a_check_starts_no_threads() -> None:
    """Threads of numpy's BLAS would keep cores from those of torch, which decode next."""
    told = subprocess.run([sys.executable, "-c", ONE_THREAD], cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [tuple(map(float, line.split())) for line in told.stdout.splitlines()]
    assert len(rows) == 6
    assert all(others < 0.2 * own for others, own in rows), rows  # BLAS spins on every core: as much as we compute
