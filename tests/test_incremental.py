"""What the streams of single stages promise; that whole decodes join is tested with the streaming decoder."""

from __future__ import annotations

import torch

from tts_infer.config import MelConfig
from tts_infer.dsp.refine import Refinement
from tts_infer.dsp.stft import ISTFT
from tts_infer.runtime.incremental import FrameQueue, ISTFTStream, RefinementStream


def test_rows_of_pieces_join_to_the_rows_of_the_whole() -> None:
    istft = ISTFT(64, 24, method="fft")  # a hop that does not divide n_fft
    spectrum = torch.randn(2, 2, 33, 20, generator=torch.Generator().manual_seed(0))
    stream = ISTFTStream(istft)
    real, imag = spectrum
    pieces = [
        stream.rows(real[..., start : start + 3], imag[..., start : start + 3], start == 18)
        for start in range(0, 21, 3)
    ]
    # a frame's first row is complete with it; the rows that no other frame begins come at the end
    assert [piece.shape[1] for piece in pieces] == [3, 3, 3, 3, 3, 3, 2 + istft.overlap - 1]
    assert torch.equal(torch.cat(pieces, dim=1), istft.rows(real, imag))


def test_frames_leave_a_queue_in_their_order() -> None:
    queue, frames = FrameQueue(), torch.arange(10.0).reshape(1, 10, 1)
    taken = [queue.take(frames[:, :4], 1), queue.take(frames[:, 4:], 0), queue.take(frames[:, :0], 9)]
    assert [t.shape[1] for t in taken] == [1, 0, 9]
    assert torch.equal(torch.cat(taken, dim=1), frames)


def test_each_pass_answers_as_late_as_its_reach() -> None:
    mel = MelConfig(n_fft=64, hop_length=16, n_mels=8)
    refinement = Refinement(mel, ISTFT(64, 16, method="fft"))
    stream = RefinementStream(refinement, 2)
    spectrum, log_mel = torch.randn(2, 1, 33, 20), torch.randn(1, 8, 20)
    early = stream.push((spectrum[0, ..., :12], spectrum[1, ..., :12]), log_mel)  # the mel may be ahead
    late = stream.push((spectrum[0, ..., 12:], spectrum[1, ..., 12:]), log_mel[..., :0], final=True)
    assert (early[0].shape[2], late[0].shape[2]) == (12 - stream.delay_frames, 8 + stream.delay_frames)
    assert stream.delay_frames == 2 * refinement.reach == 6
    whole = refinement((spectrum[0], spectrum[1]), log_mel, 2)
    for parts, expected in zip(zip(early, late, strict=True), whole, strict=True):
        torch.testing.assert_close(torch.cat(parts, dim=2), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
