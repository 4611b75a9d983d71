"""Listening while it decodes: the pieces are the whole, and cancelling ends the work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import app
import tts_infer
from tests.helpers import small_vocoder
from ui.session import Input, Kind, Refine, load, read_input
from ui.synthesis import FIRST, LENGTHS, OutputMel, in_pieces, next_length
from ui.work import PIECE_S

CLIP = Path(app.__file__).parent / "examples" / "english.wav"
VOCODER = tts_infer.DEFAULT_VOCODER


def tiled(path: Path, seconds: float) -> Path:
    samples, rate = soundfile.read(CLIP, dtype="int16")
    soundfile.write(path, np.resize(samples, int(seconds * rate)), rate)
    return path


def pushes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the frames of each push, with every piece that any page of this process decodes."""
    done: list[int] = []
    push = tts_infer.StreamingDecoder.push

    def counted(self: tts_infer.StreamingDecoder, mel: torch.Tensor) -> torch.Tensor:
        done.append(mel.shape[-1])
        return push(self, mel)

    monkeypatch.setattr(tts_infer.StreamingDecoder, "push", counted)
    return done


@pytest.mark.parametrize("s_per_frame", [0.0, 1e-6, 1e-4, 1e-2, 1.0])
def test_pieces_grow_as_long_as_they_are_decoded_in_time(s_per_frame: float) -> None:
    length = FIRST
    for _ in range(20):
        following = next_length(length, length, length * s_per_frame)
        assert following in LENGTHS and following <= 2 * length  # or playback could run dry
        assert following == LENGTHS[0] or following * s_per_frame <= PIECE_S * 1.001
        length = following
    assert length == {0.0: 3200, 1e-6: 3200, 1e-4: 800, 1e-2: 25, 1.0: 25}[s_per_frame]


def joined(vocoder: tts_infer.Vocoder, kind: Kind, value: torch.Tensor) -> tts_infer.Synthesis:
    """The whole that comes with the last piece, after a look at the pieces."""
    measured = OutputMel(vocoder)
    pieces = list(in_pieces(vocoder, Input(kind, value, []), measured=measured))
    assert [made is None for _, made in pieces] == [True] * (len(pieces) - 1) + [False]
    whole, mel = pieces[-1][1], measured.whole
    assert whole
    assert torch.equal(torch.cat([audio for audio, _ in pieces], 1), whole.audio)
    torch.testing.assert_close(mel, vocoder.mel(whole.audio), atol=1e-3, rtol=1e-3)  # sums in another order
    return whole


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
    mel = torch.randn(1, vocoder.n_mels, frames, generator=generator)
    audio = 0.1 * torch.randn(1, samples, generator=generator)
    for kind, value, whole in (
        ("mel", mel, vocoder.synthesize(mel)),
        ("audio", audio, vocoder.synthesize(audio=audio)),
    ):
        pieces = joined(vocoder, "mel" if kind == "mel" else "audio", value)
        assert pieces.audio.shape == whole.audio.shape
        # sums in another order, 8 passes of noise make 3e-5 of it; pieces that lack a frame of refinement are 1e-4 off
        assert (pieces.audio - whole.audio).abs().max() <= 5e-5 * whole.audio.abs().max()
        torch.testing.assert_close(pieces.features, whole.features, atol=1e-4, rtol=1e-4)
        assert [record["stage"] for record in pieces.stages] == [record["stage"] for record in whole.stages]


@pytest.mark.parametrize("passes", ["0", "auto", "8"])
@pytest.mark.parametrize("kind", ["audio", "mel"])
def test_pieces_are_the_bits_of_decode(kind: Kind, passes: Refine) -> None:
    vocoder = load(VOCODER, "cpu", refine=passes)
    value = read_input(vocoder, "audio", CLIP).value.repeat(1, 5)[:, : 12 * 24000 + 77]
    if kind == "mel":
        value = vocoder.mel(value)
    pieces = joined(vocoder, kind, value)
    decoded = vocoder.decode(pieces.features)
    if vocoder.placement["backbone"].method != "torch":
        assert torch.equal(pieces.audio, decoded)
    else:  # its products are rounded in another way for another length
        torch.testing.assert_close(pieces.audio, decoded, atol=1e-5, rtol=0)
    expected = value if kind == "mel" else vocoder.mel(value)
    torch.testing.assert_close(pieces.features, expected, atol=1e-4, rtol=1e-4)  # sums of the mel in another order
    stages_ms = sum(stage["ms"] for stage in pieces.stages)
    assert 0 < stages_ms <= pieces.total_ms
    assert [stage["stage"] for stage in pieces.stages] == [
        *(["mel"] if kind == "audio" else []),
        *("backbone", "head"),
        *(["refine"] if passes != "0" else []),
        "istft",
    ]


def test_no_frame_is_decoded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    done = pushes(monkeypatch)
    vocoder = load(VOCODER, "cpu")
    mel = vocoder.mel(read_input(vocoder, "audio", CLIP).value)
    joined(vocoder, "mel", mel)
    assert len(done) > 1
    assert sum(done) == mel.shape[-1]
    assert done[0] == FIRST + vocoder.stream().delay_frames  # so the first piece is not shorter than the others


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
    # before the end, the length is that of the input
    assert all(piece["of_s"] == pytest.approx(20.3, abs=vocoder.hop_length / vocoder.sample_rate) for piece in pieces)
    assert report["refine"] == vocoder.refine


def test_cancel_ends_the_work(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = pushes(monkeypatch)
    long = tiled(tmp_path / "long.wav", 120)
    job = client.submit(audio=handle_file(str(long)), vocoder=VOCODER, api_name="/stream")
    next(iter(job))
    job.cancel()
    client.predict(audio=handle_file(str(CLIP)), vocoder=VOCODER, api_name="/synthesize")  # its turn has come
    worked = sum(done)
    assert worked < 120 * 24000 // 256
    time.sleep(0.5)
    assert sum(done) == worked


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
