"""Streams equal the offline decode, however they are cut."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import tts_infer
from tests.helpers import FRAMES, SPLITS, cut, small_vocoder
from tts_infer.errors import InputError
from tts_infer.stages import relative_error


@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("padding", ["center", "same"])
@pytest.mark.parametrize("method", ["matmul", "fft"])
@pytest.mark.parametrize("frames", [FRAMES, 1, 2, 10])
def test_any_split_equals_the_whole(sizes: list[int], padding: str, method: str, frames: int) -> None:
    vocoder = small_vocoder(padding, method)
    mel = torch.randn(2, 40, frames, generator=torch.Generator().manual_seed(frames))
    whole = vocoder.decode(mel)
    joined = torch.cat(list(vocoder.stream().decode(cut(mel, sizes))), dim=1)
    assert joined.shape == whole.shape
    if whole.numel():  # the same products, but matrices of other sizes may sum in another order
        assert (joined - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_speech_through_the_embedded_vocoder(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    mel = vocoder.mel(speech)
    whole = vocoder.decode(mel)
    stream = vocoder.stream()
    pieces = [stream.push(piece) for piece in mel.split(10, dim=2)]
    # audio comes as early as it can: pushed frames, less those that wait for their context
    assert sum(p.shape[1] for p in pieces) == (mel.shape[2] - stream.delay_frames) * 256
    joined = torch.cat([*pieces, stream.flush()], dim=1)
    assert (joined - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_streams_do_not_disturb_each_other(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    mels = [vocoder.mel(speech), vocoder.mel(speech.flip(-1))]
    streams = [vocoder.stream(), vocoder.stream()]
    pieces: list[list[Tensor]] = [[], []]
    for start in range(0, mels[0].shape[2], 16):
        for i in (0, 1):
            pieces[i].append(streams[i].push(mels[i][..., start : start + 16]))
    for i in (0, 1):
        whole = vocoder.decode(mels[i])
        joined = torch.cat([*pieces[i], streams[i].flush()], dim=1)
        assert (joined - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_reset_begins_anew(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    mel = vocoder.mel(speech)[..., :50]
    stream = vocoder.stream()
    stream.push(mel[..., :33])
    stream.reset()
    first = torch.cat(list(stream.decode([mel])), dim=1)
    with pytest.raises(InputError, match="was flushed; call reset"):
        stream.push(mel)
    stream.reset()
    assert torch.equal(torch.cat([stream.push(mel), stream.flush()], dim=1), first)


@pytest.mark.parametrize("lookahead", [0, 6, 13, 26])
def test_less_lookahead_is_earlier_and_close(vocoder: tts_infer.Vocoder, speech: Tensor, lookahead: int) -> None:
    mel = vocoder.mel(speech)
    stream = vocoder.stream(lookahead)
    pieces = [stream.push(piece) for piece in mel.split(10, dim=2)]
    assert stream.delay_frames == lookahead + 2
    assert sum(p.shape[1] for p in pieces) == (mel.shape[2] - stream.delay_frames) * 256
    joined, whole = torch.cat([*pieces, stream.flush()], dim=1), vocoder.decode(mel)
    assert joined.shape == whole.shape
    error_db = tts_infer.log_mel_error_db(vocoder.mel(whole), vocoder.mel(joined))
    # measured 0.79, 0.22, 0.016 and 0.00003 dB on this clip, with a factor of two to spare
    assert error_db < {0: 1.6, 6: 0.45, 13: 0.032, 26: 1e-4}[lookahead]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "mlx"])
def test_less_lookahead_by_other_engines(vocoder: tts_infer.Vocoder, speech: Tensor, engine: str) -> None:
    pytest.importorskip({"mlx": "mlx.core"}.get(engine, engine))
    other = tts_infer.load_vocoder(device="cpu", refine=0, engine=engine)
    mel = vocoder.mel(speech)[..., :60]
    for pieces in (mel.split(10, dim=2), mel.split(1, dim=2)):
        got, expected = (torch.cat(list(one.stream(2).decode(pieces)), dim=1) for one in (other, vocoder))
        assert relative_error(got, expected) <= 1e-4  # rounding of float32, which the network magnifies


def test_what_is_kept_does_not_grow(vocoder: tts_infer.Vocoder) -> None:
    stream = vocoder.stream(refine=2)
    sizes = []
    for _ in range(20):
        stream.push(torch.zeros(1, 100, 30))
        kept = [
            value for state in stream._state.values() for value in state.values() if isinstance(value, torch.Tensor)
        ]
        sizes.append(sum(tensor.untyped_storage().nbytes() for tensor in kept))
    assert len(set(sizes[2:])) == 1 and sizes[2] > 0  # the first two fill the network and the passes


@pytest.mark.parametrize("lookahead", [-1, 28, "half", 1.5])
def test_impossible_lookahead(vocoder: tts_infer.Vocoder, lookahead: int) -> None:
    with pytest.raises(InputError, match="allowed: 'full', or 0 to 27 frames"):
        vocoder.stream(lookahead)


def test_mistakes(vocoder: tts_infer.Vocoder) -> None:
    stream = vocoder.stream()
    with pytest.raises(InputError, match="nothing was pushed"):
        stream.flush()
    with pytest.raises(InputError, match="takes 100 mel bins"):
        stream.push(torch.zeros(80, 3))
    stream.push(torch.zeros(2, 100, 3))
    with pytest.raises(InputError, match="a batch of 2, but 1 were pushed"):
        stream.push(torch.zeros(1, 100, 3))
    assert stream.flush().shape == (2, 512)


@pytest.mark.parametrize("padding", ["center", "same"])
@pytest.mark.parametrize("step", [1, 255, 256, 1000, 30_000])
def test_mels_of_pieces_join_to_the_whole(speech: torch.Tensor, step: int, padding: str) -> None:
    audio = torch.cat([speech, 0.5 * speech.flip(1)])[:, : 3003 if step == 1 else 40_000]
    vocoder = small_vocoder(padding)
    expected = vocoder.mel(audio)
    stream = vocoder.mel_stream(timed=True)
    pieces = [stream.push(piece) for piece in audio.split(step, dim=1)]
    pieces.append(stream.flush())
    joined = torch.cat(pieces, dim=-1)
    assert joined.shape == expected.shape
    # FFTs of other numbers of frames; near the floor of 1e-7 a logarithm multiplies their last digits
    assert (joined.exp() - expected.exp()).abs().max() <= 1e-5 * expected.exp().max()
    assert [row["stage"] for row in stream.stages] == ["mel"] and stream.stages[0]["ms"] > 0


def test_memory_that_was_pushed_may_be_used_again(vocoder: tts_infer.Vocoder, speech: torch.Tensor) -> None:
    """As a sound card's callback does, with one block for all."""
    audio = speech[0, : 256 * 40]
    stream, block, pieces = vocoder.mel_stream(), torch.empty(256), []
    for part in audio.split(256):
        block.copy_(part)
        pieces.append(stream.push(block))
    block.fill_(0.9)
    joined, expected = torch.cat([*pieces, stream.flush()], dim=-1), vocoder.mel(audio)
    assert (joined.exp() - expected.exp()).abs().max() <= 1e-5 * expected.exp().max()  # as of any pieces


def test_mistakes_with_streams_of_audio(vocoder: tts_infer.Vocoder) -> None:
    stream = vocoder.mel_stream()
    with pytest.raises(tts_infer.InputError, match="nothing was pushed"):
        stream.flush()
    stream.push(torch.zeros(2, 9))
    with pytest.raises(tts_infer.InputError, match="batch of 2, but 1 were pushed"):
        stream.push(torch.zeros(9))
    assert stream.stages == []
    stream.flush()
    for again in (stream.flush, lambda: stream.push(torch.zeros(2, 9))):
        with pytest.raises(tts_infer.InputError, match="was flushed; call reset"):
            again()


def test_a_timed_stream_reports_its_stages(vocoder: tts_infer.Vocoder, speech: torch.Tensor) -> None:
    mel = vocoder.mel(speech)
    stream = vocoder.stream(timed=True)
    assert stream.stages == []
    for _ in stream.decode(mel.split(50, dim=-1)):
        pass
    assert [row["stage"] for row in stream.stages] == ["backbone", "head", "istft"]
    assert all(row["ms"] > 0 for row in stream.stages) and vocoder.stream().stages == []


def test_what_one_stream_gives_the_other_takes(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    """Pieces of no frames included: the first few samples make none."""
    mels, stream = vocoder.mel_stream(), vocoder.stream()
    pieces = [stream.push(mels.push(piece)) for piece in (speech[:, :0], *speech[:, :6000].split(100, dim=1))]
    assert all(not piece.shape[1] for piece in pieces[:3])
    audio = torch.cat([*pieces, stream.push(mels.flush()), stream.flush()], dim=1)
    whole = vocoder(speech[:, :6000])
    assert audio.shape == whole.shape
    assert (audio - whole).abs().max() <= 1e-5 * whole.abs().max()  # as above
    with pytest.raises(tts_infer.InputError, match="this stream was flushed"):
        stream.push(torch.zeros(1, 100, 0))
    stream.reset()
    stream.push(torch.zeros(3, 100, 0))  # says nothing of how many there will be
    assert stream.push(torch.zeros(2, 100, 1)).shape == (2, 0)
    with pytest.raises(tts_infer.InputError, match="a batch of 2, but 3 were pushed"):
        stream.push(torch.zeros(3, 100, 0))


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))])
def test_a_copy_goes_on_from_where_it_was_made(how: Any, vocoder: tts_infer.Vocoder) -> None:
    """The embedded vocoder: what its engines pack is not copied, but packed again."""
    mel = torch.randn(1, 100, 60, generator=torch.Generator().manual_seed(0)) - 6
    stream = vocoder.stream()
    stream.push(mel[..., :35])
    other = how(stream)
    ours, theirs = (torch.cat([s.push(mel[..., 35:]), s.flush()], 1) for s in (stream, other))
    assert (
        torch.allclose(ours, theirs, atol=1e-5) and ours.shape[1] > 0
    )  # another engine may be chosen for short pieces
    audio = torch.rand(1, 9000, generator=torch.Generator().manual_seed(1)) / 9
    mels = vocoder.mel_stream()
    mels.push(audio[:, :5000])
    again = how(mels)
    left = [torch.cat([s.push(audio[:, 5000:]), s.flush()], 2) for s in (mels, again)]
    assert torch.equal(*left) and left[0].shape[2] > 0
