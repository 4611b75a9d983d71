"""Workers share parts of decodes: the same samples, the caller's settings as they were, and forked children compute."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

import tts_infer
from tests.conftest import ROOT
from tts_infer.runtime import workers
from tts_infer.runtime.workers import Part, parts
from tts_infer.stages import relative_error


@pytest.fixture
def _busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads on a machine that counts as busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(workers._others, "are_busy", lambda: True)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers._others, "are_busy", lambda: False)


@pytest.mark.parametrize(
    ("batch", "frames", "context", "count"),
    [
        (1, 1, 53, 2),
        (1, 94, 53, 2),
        (1, 938, 53, 2),
        (1, 100_000, 53, 3),
        (3, 5000, 29, 2),
        (7, 100, 53, 2),
        (1, 0, 5, 2),
    ],
)
def test_parts_hold_everything_once(batch: int, frames: int, context: int, count: int) -> None:
    held = torch.zeros(batch, frames)
    for part in parts(batch, frames, context, count):
        held[part.items, part.start : part.stop] += 1
        assert part.stop - part.start <= workers.PART_FRAMES
    assert torch.equal(held, torch.ones(batch, frames))


def test_what_is_short_is_not_cut() -> None:
    assert parts(1, 94, 53, 2) == [Part(slice(0, 1), 0, 94)]
    assert len(parts(1, 938, 53, 2)) == 2
    assert len(parts(4, 94, 53, 2)) == 2  # along the items


@pytest.mark.parametrize(
    ("frames", "workers", "others", "count"),
    [
        (94, 2, 0.0, 2),  # 47 + 29 frames each
        (94, 2, 1.0, 1),  # 94 frames on one core, or 152 on 4 / 3
        (938, 2, 2.0, 2),
        (94, 8, 6.0, 2),  # more parts are more work, and a full machine gives no more cores for them
        (94, 8, 0.0, 8),
    ],
)
def test_a_cut_counts_the_cores_that_others_use(frames: int, workers: int, others: float, count: int) -> None:
    assert len(parts(1, frames, 29, workers, others)) == count


@pytest.mark.usefixtures("_busy")
@pytest.mark.parametrize("refine", [0, 4])
@pytest.mark.parametrize("frames", [1, 2, 30, 150, 700])
def test_shared_decodes_equal_the_others(
    frames: int, refine: int, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    mel = torch.randn(2, 100, frames, generator=torch.Generator().manual_seed(frames)) - 4
    items = [mel[0], mel[1, :, : max(1, frames // 2)], mel[0, :, : max(1, frames // 3)]]
    shared, ragged = vocoder.decode(mel[:1], refine=refine), vocoder.decode(items, refine=refine)
    batch = vocoder.decode(mel, refine=refine)
    monkeypatch.setattr(workers._others, "are_busy", lambda: False)
    pairs = [(shared, vocoder.decode(mel[:1], refine=refine)), (batch, vocoder.decode(mel, refine=refine))]
    pairs += list(zip(ragged, vocoder.decode(items, refine=refine), strict=True))
    for got, want in pairs:
        assert got.shape == want.shape
        # the network's rows have the same bits in any company; refinement's products may be summed in another order
        assert got.numel() == 0 or relative_error(got, want) <= (1e-5 if refine else 0.0)


@pytest.mark.usefixtures("_busy")
def test_the_report_of_shared_work_sums_to_the_wall_time(vocoder: tts_infer.Vocoder) -> None:
    result = vocoder.synthesize(torch.zeros(1, 100, 1500) - 5, refine=2)
    assert [row["stage"] for row in result.stages] == ["backbone", "head", "refine", "istft"]
    assert sum(row["ms"] for row in result.stages) <= result.total_ms


@pytest.mark.usefixtures("_busy")
def test_settings_of_the_caller_stay_and_workers_have_one_thread(vocoder: tts_infer.Vocoder) -> None:
    vocoder.decode(torch.zeros(1, 100, 700) - 5)
    assert torch.get_num_threads() == 2
    assert set(workers.run([torch.get_num_threads] * 4)) == {1}
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert seen == [2]  # the default of new threads


@pytest.mark.usefixtures("_busy")
def test_streams_are_exact_on_workers(vocoder: tts_infer.Vocoder) -> None:
    mel = torch.randn(1, 100, 80, generator=torch.Generator().manual_seed(3)) - 4
    pieces = torch.cat(list(vocoder.stream().decode(mel.split(9, dim=2))), dim=1)
    assert relative_error(pieces, vocoder.decode(mel)) <= 1e-5  # see `test_streaming`


@pytest.mark.usefixtures("_busy")
def test_the_first_error_of_a_worker_is_raised() -> None:
    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        workers.run([lambda: 1, fail])


def long_calls(vocoder: tts_infer.Vocoder, mel: torch.Tensor, audio: torch.Tensor) -> list[torch.Tensor]:
    """What computes, on inputs that torch's own threads would share."""
    stream = vocoder.stream()
    return [
        vocoder.decode(mel),
        vocoder.decode([mel[0], mel[0, :, :50]])[1],
        vocoder.mel(audio),
        vocoder(audio),
        vocoder.synthesize(mel).audio,
        stream.push(mel),
        stream.flush(),
    ]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.parametrize("threads", [None, 2])
@pytest.mark.usefixtures("_idle")
def test_a_forked_child_computes(threads: int | None, vocoder: tts_infer.Vocoder) -> None:
    """A vocoder that was loaded and used in the parent, as with `gunicorn --preload`."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    mel = torch.randn(1, 100, 1500, generator=torch.Generator().manual_seed(4)) - 4
    audio = torch.randn(1, 80_000, generator=torch.Generator().manual_seed(5)) / 10
    want = [made.numpy() for made in long_calls(vocoder, mel, audio)]
    context = multiprocessing.get_context("fork")
    ours_end, its_end = context.Pipe()

    def compute() -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        its_end.send([made.numpy() for made in long_calls(vocoder, mel, audio)])

    child = context.Process(target=compute)
    child.start()
    try:
        assert ours_end.poll(60), "the child waits without end"
        got = ours_end.recv()
    finally:
        child.kill()
        child.join()
        torch.set_num_threads(before)
    for one, expected in zip(got, want, strict=True):  # a mel's products may be summed in another order
        assert relative_error(torch.from_numpy(one), torch.from_numpy(expected)) <= 1e-5


@pytest.mark.usefixtures("_idle")
def test_on_an_idle_machine_torch_computes(vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "run", lambda tasks: pytest.fail("workers were asked"))
    assert vocoder.decode(torch.zeros(1, 100, 700) - 5).shape == (1, 699 * 256)


def test_other_processes_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores that work, of which this process is one, are a busy machine; this process alone is none."""
    seen = {"time": 0.0, "all": 0.0, "own": 0.0}
    monkeypatch.setattr("tts_infer.runtime.workers.time.perf_counter", lambda: seen["time"])
    monkeypatch.setattr("tts_infer.runtime.workers.time.process_time", lambda: seen["own"])
    monkeypatch.setattr(workers, "_cpu_seconds", lambda: seen["all"])
    others = workers._Others()
    assert others.are_busy()  # not known yet
    seen.update(time=1.0, all=2.0, own=1.9)
    assert not others.are_busy()
    seen.update(time=2.0, all=4.0, own=2.9)
    assert others.are_busy()
    seen.update(time=2.01, all=4.0, own=2.91)
    assert others.are_busy()  # too soon for another look


INTERRUPTED = """
import threading
import torch
from tts_infer.runtime import workers

start = threading.Thread.start

def interrupted(thread):
    start(thread)
    if threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt

threading.Thread.start = interrupted
torch.set_num_threads(2)
try:
    workers.run([lambda: 1, lambda: 2])
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupted_start_does_not_keep_the_process_alive() -> None:
    """Ctrl-C while the first decode starts the workers: an executor forgets a thread whose start was interrupted."""
    command = [sys.executable, "-c", INTERRUPTED]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n", "")


def test_what_is_not_known_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the second look at the system, and where it does not tell, workers compute; but times are taken."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(workers, "_others", workers._Others())
    monkeypatch.setattr(workers, "_cpu_seconds", lambda: None)
    assert workers.should_share() and not workers.is_disturbed()
    seconds = iter([0.0, 1000.0])  # of all processes: they use many cores
    monkeypatch.setattr(workers, "_others", workers._Others())
    monkeypatch.setattr(workers, "_cpu_seconds", lambda: next(seconds))
    assert workers.is_disturbed()
