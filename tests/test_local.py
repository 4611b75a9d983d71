"""The executor of one process: every bucket once, and an end when the disk refuses."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import tts_infer
from tts_infer.batch import buckets, local
from tts_infer.batch.buckets import Content
from tts_infer.batch.manifest import Item
from tts_infer.config import SpectralMethod


def some(folder: Path, count: int) -> list[list[Item]]:
    random = np.random.default_rng(0)
    for i in range(count):
        np.save(folder / f"{i}.npy", random.normal(-5, 2, (100, 20 + i)).astype(np.float32))
    return [[Item(folder / f"{i}.npy", Path(f"{i}.wav"), folder / "out")] for i in range(count)]


def test_every_bucket_comes_back_once_written(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    (tmp_path / "out").mkdir()
    seen = []
    for (outcome,) in local.run(vocoder, some(tmp_path, 9), "pcm16"):
        assert (tmp_path / "out" / outcome.name).is_file() and not outcome.error and not outcome.unwritten
        seen.append(outcome.name)
    assert sorted(seen) == [f"{i}.wav" for i in range(9)]


def test_a_refusal_ends_it(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    done = list(local.run(vocoder, some(tmp_path, 9), "pcm16"))
    outcomes = [outcome for bucket in done for outcome in bucket]
    # no thread begins another bucket once one was refused
    assert 1 <= len(outcomes) <= max(2, torch.get_num_threads()) and all(outcome.unwritten for outcome in outcomes)


def test_whoever_stops_listening_ends_it(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    (tmp_path / "out").mkdir()
    listening = local.run(vocoder, some(tmp_path, 40), "pcm16")
    assert isinstance(listening, Generator)
    next(listening)
    listening.close()
    assert 1 <= len(list((tmp_path / "out").glob("*.wav"))) < 40


def test_threads_are_left_as_they_were(
    tmp_path: Path, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket has one thread; the caller, and threads that begin meanwhile, have what they had."""
    (tmp_path / "out").mkdir()
    at_work: list[int] = []

    def decode(mels: Sequence[Content], vocoder: tts_infer.Vocoder) -> list[Content]:
        at_work.append(torch.get_num_threads())
        return buckets.decode(mels, vocoder)

    monkeypatch.setattr(local, "decode", decode)
    elsewhere, before = [], torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for _ in local.run(vocoder, some(tmp_path, 9), "pcm16"):
            with ThreadPoolExecutor(1) as other:
                elsewhere += [torch.get_num_threads(), other.submit(torch.get_num_threads).result()]
    finally:
        torch.set_num_threads(before)
    assert at_work == [1] * 9 and elsewhere == [3] * 18


def test_batches_side_by_side_leave_threads_as_they_were(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    before = torch.get_num_threads()
    (tmp_path / "out").mkdir()
    tasks = some(tmp_path, 2)
    for _ in range(5):  # threads that are new each time, as a web server's
        with ThreadPoolExecutor(4) as servers:
            runs = [servers.submit(lambda: list(local.run(vocoder, tasks, "pcm16"))) for _ in range(4)]
            assert all(len(run.result()) == 2 for run in runs)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(torch.get_num_threads).result() == torch.get_num_threads() == before


@pytest.mark.parametrize("method", ["matmul", "fft"])
def test_bytes_do_not_depend_on_threads(tmp_path: Path, method: SpectralMethod) -> None:
    (tmp_path / "out").mkdir()
    vocoder = tts_infer.load_vocoder(device="cpu", mel=method, istft=method)
    tasks, before, made = some(tmp_path, 3), torch.get_num_threads(), []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        try:
            list(local.run(vocoder, tasks, "float32"))
        finally:
            torch.set_num_threads(before)
        made.append([path.read_bytes() for path in sorted((tmp_path / "out").iterdir())])
    assert made[0] == made[1]
