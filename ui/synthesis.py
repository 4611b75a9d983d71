"""From an input to a result: at once if it is short, in pieces if it is long, each piece in its turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch

import tts_infer
from ui.session import Input, Report, Result, noted
from ui.work import PIECE_S, Job, Turn, desk, no_turn

# Frames behind the first piece, about a second: it is decoded while the click is still felt. Each next piece is at most
# twice as long, so playback stays ahead on any machine that decodes at twice real time. Pieces have few lengths:
# kernels are compiled for each.
FIRST = 100
LENGTHS = (25, 50, 100, 200, 400, 800, 1600, 3200)
# Inputs of up to so many frames are decoded at once, to the bits of `Vocoder.synthesize`.
AT_ONCE = 600

Piece = tuple[torch.Tensor, tts_infer.Synthesis | None]


class OutputMel:
    """The mel of an output, made piece by piece.

    Args:
        model: the vocoder that makes the output.
    """

    def __init__(self, model: tts_infer.Vocoder) -> None:
        self._stream, self._pieces = model.mel_stream(), list[torch.Tensor]()

    def add(self, audio: torch.Tensor, last: bool) -> None:
        """Take the next piece, and say whether it is the last one. Shape: (1, T)

        Raises:
            InputError: see `output_mel`.
        """
        stream = self._stream
        pushed = output_mel(lambda: _ended(stream, stream.push(audio)) if last else stream.push(audio))
        self._pieces.append(pushed.cpu())

    @property
    def whole(self) -> torch.Tensor:
        """What was made so far. Shape: (1, n_mels, L)"""
        return torch.cat(self._pieces, 2)


def run(
    model: tts_infer.Vocoder, given: Input, turn: Turn = no_turn, advance: Callable[[float], None] | None = None
) -> Result:
    """Copy audio or decode a mel, and measure the output; the arguments and errors are those of `synthesized`."""
    return finished(model, given, *synthesized(model, given, turn, advance))


def synthesized(
    model: tts_infer.Vocoder, given: Input, turn: Turn = no_turn, advance: Callable[[float], None] | None = None
) -> tuple[tts_infer.Synthesis, torch.Tensor]:
    """Copy audio or decode a mel; returns the whole, and the mel of its audio.

    Raises:
        InputError: as `decoded`; or see `output_mel`.
        Stopped: the job was told to stop.
    """
    if given.frames(model) <= AT_ONCE:
        with turn():
            result = _at_once(model, given)
            return result, output_mel(lambda: model.mel(result.audio))
    measured = OutputMel(model)
    return decoded(model, given, turn, advance, measured), measured.whole


def decoded(
    model: tts_infer.Vocoder,
    given: Input,
    turn: Turn = no_turn,
    advance: Callable[[float], None] | None = None,
    measured: OutputMel | None = None,
) -> tts_infer.Synthesis:
    """Copy audio or decode a mel; returns the whole.

    Args:
        model: the vocoder.
        given: what is decoded.
        turn: taken for each piece.
        advance: is told the seconds of each piece.
        measured: is given each piece, if the input is so long that there are some.

    Raises:
        InputError: see `Vocoder.synthesize`; or nothing came out.
        Stopped: the job was told to stop.
    """
    if given.frames(model) <= AT_ONCE:
        with turn():
            return _at_once(model, given)
    made = None
    for piece, made in in_pieces(model, given, turn, measured):  # noqa: B007  the last one has the whole
        if advance:
            advance(piece.shape[1] / model.sample_rate)
    assert made is not None
    return made


def _at_once(model: tts_infer.Vocoder, given: Input) -> tts_infer.Synthesis:
    result = model.synthesize(audio=given.value) if given.kind == "audio" else model.synthesize(given.value)
    if result.audio.numel() == 0:
        raise too_short()
    return result


def repeated(model: tts_infer.Vocoder, given: Input, runs: int, job: Job) -> Result:
    """Run several times, and report the median time of the whole and of each stage, and the spread."""
    results = [run(model, given, desk.turns(job), job.advance) for _ in range(runs)]
    reports = [result.report for result in results]
    report, times = results[-1].report, sorted(one["total_ms"] for one in reports)
    report["total_ms"] = statistics.median(times)
    report["rtfx"] = 1e3 * report["seconds"] / report["total_ms"]
    for i, stage in enumerate(report["stages"]):
        stage["ms"] = statistics.median(one["stages"][i]["ms"] for one in reports)
    report |= {"runs": runs, "least_ms": times[0], "most_ms": times[-1]}
    return results[-1]


def in_pieces(
    model: tts_infer.Vocoder, given: Input, turn: Turn = no_turn, measured: OutputMel | None = None
) -> Iterator[Piece]:
    """Synthesize piece by piece. The last piece comes with the whole, whose audio is the pieces joined.

    The pieces join to what `Vocoder.synthesize` makes of the whole.

    Args:
        model, given, turn, measured: as for `decoded`.

    Raises:
        InputError, InputTypeError: as `Vocoder.synthesize`, when it comes to the piece.
        Stopped: when the turn is asked for.
    """
    value, is_audio = given.value, given.kind == "audio"
    mels, decoder = model.mel_stream(timed=True), model.stream(timed=True)
    hop = model.hop_length if is_audio else 1
    audios: list[torch.Tensor] = []
    features: list[torch.Tensor] = []
    start, length, total_ms, last = 0, FIRST + decoder.delay_frames, 0.0, False
    while not last:
        with turn():
            begin, stop = time.perf_counter(), start + length
            last = stop * hop >= value.shape[-1]
            mel = value[..., start * hop :] if last else value[..., start * hop : stop * hop]
            if is_audio:
                mel = _ended(mels, mels.push(mel)) if last else mels.push(mel)
            audio = decoder.push(mel)
            audio = _ended(decoder, audio) if last else audio
            took_s = time.perf_counter() - begin
            if last and not any(one.shape[1] for one in (*audios, audio)):
                raise too_short()
            if measured:
                measured.add(audio, last)
        total_ms += took_s * 1e3
        features.append(mel)
        audios.append(audio)
        start, length = stop, next_length(FIRST if len(audios) == 1 else length, length, took_s)
        if not last:
            yield audio, None
    joined, stages = torch.cat(audios, 1), mels.stages + decoder.stages
    yield audios[-1], tts_infer.Synthesis(joined, torch.cat(features, 2), model.sample_rate, stages, total_ms)


def next_length(before: int, decoded: int, took_s: float) -> int:
    """Frames of the next piece, of `LENGTHS`: at most twice the last one's, and no more than `PIECE_S` decodes.

    Args:
        before: what may be doubled.
        decoded: frames of the last piece.
        took_s: for how long it was decoded.
    """
    in_time = decoded * PIECE_S / took_s if took_s else LENGTHS[-1]
    return max([length for length in LENGTHS if length <= min(2 * before, in_time)], default=LENGTHS[0])


def _ended(stream: tts_infer.StreamingDecoder | tts_infer.StreamingMel, pushed: torch.Tensor) -> torch.Tensor:
    """The last push of a stream together with what it still held."""
    return torch.cat([pushed, stream.flush()], -1)


def finished(model: tts_infer.Vocoder, given: Input, result: tts_infer.Synthesis, mel: torch.Tensor) -> Result:
    """The result with its report.

    Args:
        model, given, result: what was decoded, and what came out.
        mel: of the output. Shape: (1, n_mels, L)
    """
    samples, clipped = tts_infer.to_int16(result.audio[0])
    input_mel, meter = result.features.cpu(), tts_infer.SignalMeter()
    meter.add(result.audio[0].cpu().numpy()[:, None])
    notes = [*given.notes, *tts_infer.notes_of_output(meter, len(samples), clipped)]
    report: Report = {
        "vocoder": model.name,
        "sample_rate": result.sample_rate,
        "seconds": result.seconds,
        "total_ms": result.total_ms,
        "rtfx": result.rtfx,
        "peak": float(result.audio.abs().max()),
        "clipped_samples": clipped,
        "log_mel_error_db": tts_infer.log_mel_error_db(input_mel, mel.cpu(), model.mel_config),
        "refine": model.refine,
        "stages": result.stages,
        "notes": noted(notes),
    }
    clip = given.value[0].cpu() if given.kind == "audio" else None
    return Result(result.audio[0].cpu(), clip, report, model.mel_config, input_mel[0], mel[0].cpu())


def output_mel(compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The mel of what the vocoder made.

    Raises:
        InputError: the mel that was decoded is so loud that its audio cannot be used.
    """
    try:
        return compute()
    except tts_infer.InputError:  # its sentence would speak of the user's audio
        raise tts_infer.InputError(
            "The mel is far louder than any audio: natural logarithms of magnitudes at full scale end below 9.",
            code="page-too-loud",
        ) from None


def too_short() -> tts_infer.InputError:
    """The error about an input that gives no samples."""
    return tts_infer.InputError(
        "The input is one mel frame long, which gives no audio; two frames are the shortest.", code="page-too-short"
    )
