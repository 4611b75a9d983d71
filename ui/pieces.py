"""Long inputs piece by piece, each reported like a whole one, so that listening and cancelling need not wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

import tts_infer

# Hops in the first piece, about a second: it is decoded while a click is still felt. Each next piece is twice as long,
# which keeps playback ahead on any machine that is twice as fast as real time, up to what brings no more speed.
FIRST = 100
LONGEST = 4000


def spans(hops: int) -> Iterator[tuple[int, int]]:
    """Cut a signal into pieces of growing length. A signal without a hop is still one piece, which says so."""
    start, length = 0, FIRST
    while start + length < hops:
        yield start, start + length
        start, length = start + length, min(2 * length, LONGEST)
    yield start, hops


def hops_of(model: tts_infer.Vocoder, *, audio: torch.Tensor | None = None, mel: torch.Tensor | None = None) -> int:
    """How many hops an input gives: of n hops, centred frames mark the n + 1 borders, and others the n middles.

    Raises:
        InputError: not exactly one of the two was given.
    """
    if audio is not None and mel is None:
        return audio.shape[-1] // model.hop_length
    if mel is not None and audio is None:
        return max(0, int(mel.shape[-1]) - _borders(model))
    raise tts_infer.InputError("give either audio or mel, not both and not neither")


def _borders(model: tts_infer.Vocoder) -> int:
    return 1 if model.mel_config.padding == "center" else 0


def in_pieces(
    model: tts_infer.Vocoder, *, audio: torch.Tensor | None = None, mel: torch.Tensor | None = None
) -> Iterator[tts_infer.Synthesis]:
    """Synthesize piece after piece. They join to what `Vocoder.synthesize` makes of the whole, to rounding.

    Each is synthesized together with the hops to both sides that its samples depend on. `Vocoder.stream` needs no such
    company, but its first piece would lack what it holds back, and playback would have that much less time in hand.

    Raises:
        InputError, InputTypeError: as `Vocoder.synthesize`, when it comes to the piece.
    """
    hop, borders = model.hop_length, _borders(model)
    hops = hops_of(model, audio=audio, mel=mel)
    # what a stream waits for after a frame, the frame depends on, before as after; and mels depend on their windows
    reach = model.stream().delay_frames + 2 * model.mel_config.n_fft // hop
    for start, stop in spans(hops):
        left, right = max(0, start - reach), min(hops, stop + reach)
        if audio is not None:
            end = audio.shape[-1] if right == hops else right * hop
            part = model.synthesize(audio=audio[..., left * hop : end])
        else:
            assert mel is not None
            part = model.synthesize(mel[..., left : right + borders])
        last = borders if stop == hops else 0
        yield tts_infer.Synthesis(
            audio=part.audio[:, (start - left) * hop : (stop - left) * hop],
            features=part.features[..., start - left : stop - left + last],
            sample_rate=part.sample_rate,
            stages=part.stages,
            total_ms=part.total_ms,
        )


def join(parts: Sequence[tts_infer.Synthesis]) -> tts_infer.Synthesis:
    """One result of its pieces. Times are of computing alone; what passed between the pieces is not in them."""
    stages = [record.copy() for record in parts[0].stages]
    for part in parts[1:]:
        for total, record in zip(stages, part.stages, strict=True):
            total["ms"] += record["ms"]
            total["bytes"] += record["bytes"]
    return tts_infer.Synthesis(
        audio=torch.cat([part.audio for part in parts], dim=1),
        features=torch.cat([part.features for part in parts], dim=2),
        sample_rate=parts[0].sample_rate,
        stages=stages,
        total_ms=sum(part.total_ms for part in parts),
    )
