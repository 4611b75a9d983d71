"""Listening while it decodes: pieces of audio go out as they are made, and the full result comes with the last.

Gradio's own streaming output would encode the pieces as AAC, with a program (ffmpeg) that this page does not need.
These pieces are WAV files of the very samples.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import gradio as gr
import torch
from gradio.data_classes import FileData, GradioModel

import tts_infer
from ui.history import decoded
from ui.scenes import Comments
from ui.scope import kept, output_of
from ui.session import Kind, Report, given, read_input, shown_errors
from ui.settings import Settings, takes_settings
from ui.synthesis import OutputMel, finished, in_pieces
from ui.work import desk


class Piece(GradioModel):
    """A part of the output. Joined in order, the parts are the whole."""

    file: FileData
    index: int
    sample_rate: int
    end_s: float
    of_s: float
    last: bool


Streamed = tuple[Piece, str | None, Report | None, str | None]


@takes_settings
def stream(audio: str | None, settings: Settings, request: gr.Request | None = None) -> Iterator[Streamed]:
    """Copy-synthesise audio like /synthesize, but give the output piece by piece, as it is made.

    Parameters:
        audio: WAV, FLAC, OGG or MP3 file, any sample rate and channel count
        settings: see `Settings`

    Returns:
        a piece: its 16-bit WAV `file`, its `index`, the seconds `end_s` reached with it, `of_s` the seconds in
        all (an estimate before the last piece); and with the last piece the whole output as 16-bit WAV, and the report
        of /synthesize
    """
    yield from streamed("audio", audio, settings, request)


@takes_settings
def stream_mel(mel: str | None, settings: Settings, request: gr.Request | None = None) -> Iterator[Streamed]:
    """Decode a log-mel spectrogram like /decode, but give the output piece by piece, as it is made.

    Parameters:
        mel: .npy, .npz, .safetensors or .pt file of natural-log mels, (n_mels, frames) or (1, n_mels, frames)
        settings: see `Settings`

    Returns:
        a piece, and with the last one the whole output and the report, as in /stream
    """
    yield from streamed("mel", mel, settings, request)


def streamed(kind: Kind, path: str | None, settings: Settings, request: gr.Request | None) -> Iterator[Streamed]:
    """Decode one input piece by piece, for both endpoints. A cancelled event closes this after the current piece."""
    with shown_errors(request, path, inline=True), desk.job(request) as job:
        path = given(kind, path)
        with desk.turn(job):
            model = settings.load()
        value = read_input(model, kind, path, desk.turns(job))
        rate, about_s = model.sample_rate, value.seconds(model)
        job.what, job.total, done = "decoding", about_s, 0
        measured = OutputMel(model)
        for index, (audio, whole) in enumerate(in_pieces(model, value, desk.turns(job), measured)):
            done += audio.shape[1]
            job.done = done / rate
            piece = piece_of(audio, rate, index, job.done, about_s if whole is None else 0.0)
            if whole is None:
                yield piece, None, None, None
                continue
            result = finished(model, value, whole, measured.whole)
            result.report["settings"] = asdict(settings)
            scene = kept(result, Path(path).stem, streamed=True)
            decoded.add(request, scene)
            yield piece, output_of(scene), result.report, scene


def piece_of(
    audio: torch.Tensor, rate: int, index: int, end_s: float, about_s: float, comments: Comments | None = None
) -> Piece:
    """Write a piece of audio for the player.

    Args:
        audio: (1, T).
        rate: its sample rate.
        index: its place among the pieces.
        end_s: seconds so far, with this piece.
        about_s: about how long the whole is; 0 says that this piece is the last.
        comments: what its file says of itself.
    """
    path = Path(tempfile.mkdtemp(dir=gr.utils.get_upload_folder())) / f"{index + 1}.wav"
    tts_infer.write_audio(path, audio[0], rate, comments=comments or {})
    return Piece(
        file=FileData(path=str(path), orig_name=path.name),
        index=index,
        sample_rate=rate,
        end_s=end_s,
        of_s=max(about_s, end_s),
        last=not about_s,
    )
