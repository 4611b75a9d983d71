"""Live audio: frames of one length that join to one decode, made as they are asked for, without holding up the loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

import tts_infer
from tts_infer import live
from tts_infer.runtime import workers

T = TypeVar("T")
MEL = torch.randn(1, 100, 150, generator=torch.Generator().manual_seed(1)) - 4
SIZE = 480  # 20 ms at 24 kHz


def run(work: Awaitable[T]) -> T:
    """Run on a loop of its own; what never ends is an error."""

    async def within() -> T:
        return await asyncio.wait_for(work, 30)

    return asyncio.run(within())


async def all_of(frames: live.LiveAudio) -> list[live.Pcm]:
    return [frame async for frame in frames]


async def arriving(mel: torch.Tensor, frames: int) -> AsyncIterator[torch.Tensor]:
    for piece in mel.split(frames, dim=2):
        await asyncio.sleep(0)
        yield piece


@pytest.fixture(scope="module")
def whole(vocoder: tts_infer.Vocoder) -> np.ndarray:
    return tts_infer.to_int16(vocoder.decode(MEL)[0])[0]


@pytest.mark.parametrize(
    "source",
    [
        lambda: MEL,
        lambda: MEL[0].numpy(),
        lambda: [MEL],
        lambda: MEL.split(1, dim=2),
        lambda: (piece for piece in MEL.split(7, dim=2)),
        lambda: arriving(MEL, 10),
        lambda: arriving(MEL, 150),
    ],
    ids=["mel", "array", "list", "frame by frame", "generator", "asynchronous", "asynchronous, at once"],
)
def test_frames_join_to_one_decode(vocoder: tts_infer.Vocoder, whole: np.ndarray, source: Any) -> None:
    frames = run(all_of(vocoder.astream(source())))
    assert {(len(frame), frame.dtype) for frame in frames} == {(SIZE, np.dtype(np.int16))}
    joined = np.concatenate(frames)
    # pieces round otherwise than the whole, by 1e-4 of the peak at most (docs/streaming.md), and to whole numbers
    assert np.abs(joined[: len(whole)].astype(int) - whole).max() <= 1e-4 * np.abs(whole).max() + 1
    assert len(joined) - len(whole) == -len(whole) % SIZE and not joined[len(whole) :].any()


@pytest.mark.parametrize(
    ("frame_ms", "samples"), [(20, 480), (10, 240), (1000 / 24000, 1), (12.5, 300), (9e5, 21600000)]
)
def test_frames_have_the_length_that_is_asked_for(vocoder: tts_infer.Vocoder, frame_ms: float, samples: int) -> None:
    frames = run(all_of(vocoder.astream(MEL[..., :20], frame_ms)))
    assert {len(frame) for frame in frames} == {samples}
    assert len(frames) == -(-19 * 256 // samples)


@pytest.mark.parametrize("frame_ms", [0, -20, 0.01, 10.01, float("nan"), float("inf")])
def test_frames_are_whole_samples(vocoder: tts_infer.Vocoder, frame_ms: float) -> None:
    with pytest.raises(tts_infer.InputError, match="give a whole number of samples") as error:
        vocoder.astream(MEL, frame_ms)
    assert error.value.code == "live-frame-ms"


@pytest.mark.parametrize(
    ("mels", "code"),
    [
        (torch.zeros(2, 100, 5), "live-batch"),
        ([], "stream-empty"),
        (MEL[..., :1], "too-short"),
        (torch.zeros(1, 80, 5), "mel-bins"),
        ([MEL, torch.full((1, 100, 3), torch.nan)], "not-finite"),
        ([MEL, None], "not-an-array"),
        ("Hello.", "not-an-array"),
        (7, "live-source"),
        (None, "live-source"),
    ],
    ids=["batch", "nothing", "one frame", "other mel", "NaN", "a piece is None", "text", "number", "None"],
)
def test_what_is_no_mel_is_refused(vocoder: tts_infer.Vocoder, mels: Any, code: str) -> None:
    with pytest.raises(tts_infer.TTSInferError) as error:
        run(all_of(vocoder.astream(mels)))
    assert error.value.code == code


def test_errors_of_the_source_arrive(vocoder: tts_infer.Vocoder) -> None:
    def broken() -> Iterator[torch.Tensor]:
        yield MEL
        raise OSError("the line is dead")

    with pytest.raises(OSError, match="the line is dead"):
        run(all_of(vocoder.astream(broken())))


def test_clipped_samples_are_counted(vocoder: tts_infer.Vocoder, speech: torch.Tensor) -> None:
    mel = vocoder.mel(speech) + 2
    frames = vocoder.astream(mel)
    run(all_of(frames))
    expected = tts_infer.to_int16(vocoder.decode(mel)[0])[1]
    assert expected > 0 and frames.clipped_samples == pytest.approx(expected, abs=2)  # rounding at full scale


def test_a_slow_reader_makes_the_source_wait(vocoder: tts_infer.Vocoder) -> None:
    taken = 0

    async def source() -> AsyncIterator[torch.Tensor]:
        nonlocal taken
        for piece in MEL.repeat(1, 1, 20).split(10, dim=2):
            taken += 1
            yield piece

    async def read() -> None:
        async with aclosing(vocoder.astream(source())) as frames:
            await frames.__anext__()
            first = taken
            await asyncio.sleep(0.1)
            assert taken == first < 20  # as many pieces as the first audio needs, of 300

    run(read())


def test_what_a_timeout_cut_off_does_not_look_whole(vocoder: tts_infer.Vocoder) -> None:
    async def source() -> AsyncIterator[torch.Tensor]:
        yield MEL
        await asyncio.Event().wait()

    async def read() -> None:
        frames = vocoder.astream(source())
        with suppress(asyncio.TimeoutError):
            while True:
                await asyncio.wait_for(frames.__anext__(), 0.5)
        with pytest.raises(tts_infer.InputError, match="cut off, because the task that waited for it was cancelled"):
            await frames.__anext__()

    run(read())


def test_the_loop_runs_while_a_source_waits(vocoder: tts_infer.Vocoder) -> None:
    """The source waits for the loop: if it ran on the loop, this would never end."""
    go = threading.Event()

    def source() -> Iterator[torch.Tensor]:
        yield MEL
        assert go.wait(20), "the loop was held up"

    async def both() -> None:
        asyncio.get_running_loop().call_later(0.05, go.set)
        await all_of(vocoder.astream(source()))

    run(both())


def test_the_loop_runs_while_a_worker_decodes(vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the decode, which is made to wait for the loop."""
    go, threads, pushed = threading.Event(), set[str](), live._pushed

    def waiting(*arguments: Any) -> live.Pcm:
        threads.add(threading.current_thread().name)
        assert go.wait(20), "the loop was held up"
        assert torch.get_num_threads() == 1
        return pushed(*arguments)

    async def both() -> None:
        asyncio.get_running_loop().call_later(0.05, go.set)
        await all_of(vocoder.astream(MEL))

    monkeypatch.setattr(live, "_pushed", waiting)
    run(both())
    assert threads and threading.main_thread().name not in threads


@pytest.mark.parametrize("way", ["break", "close", "cancel"])
def test_who_stops_frees_the_stream(vocoder: tts_infer.Vocoder, way: str) -> None:
    closed = []

    async def source() -> AsyncIterator[torch.Tensor]:
        try:
            for piece in MEL.repeat(1, 1, 50).split(10, dim=2):
                yield piece
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def use(stream: tts_infer.StreamingDecoder) -> None:
        frames = vocoder.astream(source(), stream=stream)
        async for _ in frames:
            if way != "cancel":
                break
        if way == "close":
            await frames.aclose()

    async def stop() -> None:
        stream = vocoder.stream()
        alive = weakref.ref(stream)
        task = asyncio.create_task(use(stream))
        del stream
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del task
        for _ in range(200):  # a worker may still be decoding
            gc.collect()
            if alive() is None and closed:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"still there: {alive()}, source closed: {closed}")

    run(stop())


def test_many_streams_at_once_are_right(vocoder: tts_infer.Vocoder, whole: np.ndarray) -> None:
    """More than there are workers; none computes with another's state."""

    async def together() -> list[list[live.Pcm]]:
        return await asyncio.gather(*(all_of(vocoder.astream(arriving(MEL, 5 + i))) for i in range(8)))

    for frames in run(together()):
        joined = np.concatenate(frames)[: len(whole)].astype(int)
        assert np.abs(joined - whole).max() <= 1e-4 * np.abs(whole).max() + 1  # as above


def test_a_worker_that_shares_work_does_it_itself() -> None:
    """Were it handed on, the only worker of a machine with one core would wait for itself, for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        nested = [workers.submit(lambda: sum(workers.run([lambda: 1, lambda: 2]))) for _ in range(4)]
        assert [future.result(timeout=10) for future in nested] == [3] * 4
    finally:
        torch.set_num_threads(before)
