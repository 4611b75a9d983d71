"""Listening while it decodes: the pieces are the whole, and cancelling ends the work."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import soundfile
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import app
import tts_infer
from tests.helpers import small_vocoder
from ui.pieces import FIRST, in_pieces, join, spans

CLIP = Path(app.__file__).parent / "examples" / "english.wav"
VOCODER = tts_infer.DEFAULT_VOCODER


@pytest.fixture(scope="module")
def demo() -> Iterator[gr.Blocks]:
    demo = app.build_demo()
    demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())
    yield demo
    demo.close()


@pytest.fixture(scope="module")
def client(demo: gr.Blocks) -> Client:
    return Client(demo.local_url, verbose=False)


def tiled(path: Path, seconds: float) -> Path:
    samples, rate = soundfile.read(CLIP, dtype="int16")
    soundfile.write(path, np.resize(samples, int(seconds * rate)), rate)
    return path


def counted_pieces(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Grows by one with every piece that any page of this process makes."""
    done: list[float] = []
    synthesize = tts_infer.Vocoder.synthesize

    def counted(*args: Any, **kwargs: Any) -> tts_infer.Synthesis:
        done.append(time.monotonic())
        return synthesize(*args, **kwargs)

    monkeypatch.setattr(tts_infer.Vocoder, "synthesize", counted)
    return done


@pytest.mark.parametrize("hops", [0, 1, FIRST, FIRST + 1, 3 * FIRST, 50 * FIRST, 200 * FIRST])
def test_spans_cover_everything_once(hops: int) -> None:
    pieces = list(spans(hops))
    assert pieces[0][0] == 0
    assert pieces[-1][1] == hops
    assert all(before[1] == after[0] for before, after in itertools.pairwise(pieces))
    lengths = [stop - start for start, stop in pieces[:-1]]
    assert all(b <= 2 * a for a, b in itertools.pairwise(lengths))  # or playback could run dry


@pytest.mark.parametrize("padding", ["center", "same"])
@pytest.mark.parametrize("hops", [1, FIRST, FIRST + 1, 4 * FIRST + 3])
@pytest.mark.parametrize("extra", [0, 5])
@pytest.mark.parametrize("refine", [0, 8])
def test_pieces_join_to_the_whole(padding: str, hops: int, extra: int, refine: int) -> None:
    vocoder = small_vocoder(padding, "matmul")
    vocoder.refine = refine
    frames = hops + (padding == "center")
    samples = max(hops * vocoder.hop_length, vocoder.mel_config.n_fft) + extra
    generator = torch.Generator().manual_seed(hops)
    for given in (
        {"mel": torch.randn(1, vocoder.n_mels, frames, generator=generator)},
        {"audio": 0.1 * torch.randn(1, samples, generator=generator)},
    ):
        whole = vocoder.synthesize(given.get("mel"), audio=given.get("audio"))
        pieces = join(list(in_pieces(vocoder, **given)))
        assert pieces.audio.shape == whole.audio.shape
        # as in test_refine; pieces that lack the frames that refinement reaches are 1e-4 off
        assert (pieces.audio - whole.audio).abs().max() <= 2e-5 * whole.audio.abs().max()
        torch.testing.assert_close(pieces.features, whole.features, atol=1e-4, rtol=1e-4)
        assert [record["stage"] for record in pieces.stages] == [record["stage"] for record in whole.stages]


@pytest.mark.parametrize(("source", "refine"), [("audio", "auto"), ("mel", "auto"), ("audio", "8"), ("mel", "8")])
def test_streamed_pieces_are_the_one_shot_output(client: Client, tmp_path: Path, source: str, refine: str) -> None:
    vocoder = tts_infer.load_vocoder(refine=None if refine == "auto" else int(refine))
    given = tiled(tmp_path / "long.wav", 20.3)
    audio = torch.from_numpy(tts_infer.read_audio(given, vocoder.sample_rate).samples)[None]
    if source == "mel":
        given = tmp_path / "long.npy"
        np.save(given, vocoder.mel(audio).numpy())
    endpoint = {"audio": "/stream", "mel": "/stream_mel"}[source]
    arguments: dict[str, Any] = {source: handle_file(str(given)), "vocoder": VOCODER, "refine": refine}
    outputs = list(client.submit(**arguments, api_name=endpoint))
    pieces = [piece for piece, _, _ in outputs]
    assert [piece["index"] for piece in pieces] == list(range(len(pieces)))
    assert len(pieces) > 3
    assert [piece["last"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [(wav, report) for _, wav, report in outputs[:-1]] == [(None, None)] * (len(pieces) - 1)

    _, wav, report = outputs[-1]
    heard = np.concatenate([soundfile.read(piece["file"], dtype="int16")[0] for piece in pieces])
    np.testing.assert_array_equal(heard, soundfile.read(wav, dtype="int16")[0])
    once = tts_infer.to_int16(vocoder(audio)[0])[0]
    assert heard.shape == once.shape
    assert np.abs(heard.astype(int) - once).max() <= 1
    assert pieces[-1]["end_s"] == pieces[-1]["of_s"] == report["seconds"] == len(once) / vocoder.sample_rate
    assert report["refine"] == vocoder.refine
    assert sum(stage["ms"] for stage in report["stages"]) == pytest.approx(report["total_ms"], rel=0.1)


def test_cancel_ends_the_work(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = counted_pieces(monkeypatch)
    long = tiled(tmp_path / "long.wav", 600)
    job = client.submit(audio=handle_file(str(long)), vocoder=VOCODER, api_name="/stream")
    next(iter(job))
    job.cancel()
    client.predict(audio=handle_file(str(CLIP)), vocoder=VOCODER, api_name="/synthesize")  # its turn has come
    worked = len(done)
    pieces = len(list(spans(600 * 24000 // 256)))
    assert worked < pieces  # with the call after it
    time.sleep(1)
    assert len(done) == worked


def test_mistakes_are_explained(client: Client, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    with pytest.raises(AppError, match=r"broken\.wav"):
        client.predict(audio=handle_file(str(tmp_path / "broken.wav")), vocoder=VOCODER, api_name="/stream")
    with pytest.raises(AppError, match="no audio"):
        client.predict(audio=None, vocoder=VOCODER, api_name="/stream")
    np.save(tmp_path / "mel.npy", np.zeros((100, 1), np.float32))
    with pytest.raises(AppError, match="one mel frame"):
        client.predict(mel=handle_file(str(tmp_path / "mel.npy")), vocoder=VOCODER, api_name="/stream_mel")
    np.save(tmp_path / "two.npy", np.full((2, 100, 9), -5.0, np.float32))
    with pytest.raises(AppError, match=r"^two\.npy holds a batch of 2; expected one mel a file$"):
        client.predict(mel=handle_file(str(tmp_path / "two.npy")), vocoder=VOCODER, api_name="/stream_mel")
