"""The engine of one process: every bucket once, and an end when the disk refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tts_infer
from tts_infer import local_engine
from tts_infer.buckets import Task


def some(folder: Path, count: int) -> list[list[Task]]:
    random = np.random.default_rng(0)
    for i in range(count):
        np.save(folder / f"{i}.npy", random.normal(-5, 2, (100, 20 + i)).astype(np.float32))
    return [[Task(f"{i}.wav", folder / f"{i}.npy", folder / "out" / f"{i}.wav")] for i in range(count)]


def test_every_bucket_comes_back_once_written(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    (tmp_path / "out").mkdir()
    seen = []
    for (outcome,) in local_engine.run(vocoder, some(tmp_path, 9), "pcm16"):
        assert (tmp_path / "out" / outcome.name).is_file() and not outcome.error and not outcome.unwritten
        seen.append(outcome.name)
    assert seen == [f"{i}.wav" for i in range(9)]


def test_a_refusal_ends_it(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    buckets = some(tmp_path, 9)
    outcomes = [outcome for done in local_engine.run(vocoder, buckets, "pcm16") for outcome in done]
    # the refused one, and those that were decoded before that was known
    assert 1 <= len(outcomes) <= 2 + local_engine._AHEAD and all(outcome.unwritten for outcome in outcomes)
