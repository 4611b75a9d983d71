"""Listening while it decodes: pieces of audio go out as they are made, and the full result comes with the last.

Gradio's own streaming output would encode the pieces as AAC, with a program (ffmpeg) that this page does not need.
These pieces are WAV files of the very samples.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import gradio as gr
import torch
from gradio.data_classes import FileData, GradioModel
from gradio.processing_utils import save_audio_to_cache

import tts_infer
from ui.session import (
    Int16Audio,
    Kind,
    Report,
    View,
    given,
    measured,
    read_input,
    seconds_in,
    shown_errors,
    warn_of_convention,
)
from ui.settings import Settings, takes_settings
from ui.texts import Language, Translator, label, table

# Frames behind the first piece, about a second: it is decoded while the click is still felt. Each next piece is twice
# as long, so playback stays ahead on any machine that decodes at twice real time. Beyond the limit, longer pieces bring
# no more speed.
FIRST = 100
LONGEST = 4000
PLAYER_KEYS = ("waiting", "play", "pause", "stop", "cancel")
TEMPLATE = """<div data-player class="tts-player" hidden>
  <button type="button" data-toggle></button> <button type="button" data-cancel></button>
  <span data-clock></span> <div aria-hidden="true"><i data-bar></i></div> <span data-text role="status"></span>
</div>"""
STYLE = """
.tts-player { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 12px; padding: 10px 0; }
.tts-player[hidden] { display: none; }
button { padding: 6px 14px; border: 1px solid #8888; border-radius: 6px; }
button:disabled { opacity: .5; }
div div { flex: 1 1 100px; height: 8px; border-radius: 4px; background: #8884; overflow: hidden; }
i { display: block; height: 100%; background: #2b7bba; }
span { font-variant-numeric: tabular-nums; }
"""


class Piece(GradioModel):
    """A part of the output. Joined in order, the parts are the whole."""

    file: FileData
    index: int
    sample_rate: int
    end_s: float
    of_s: float
    last: bool
    text: str


Streamed = tuple[Piece, Int16Audio | None, Report | None, View | None]


def player(elem_id: str) -> gr.HTML:
    """The component that plays pieces as they come, and says how much is decoded."""
    component = gr.HTML(
        None,
        html_template=TEMPLATE,
        css_template=STYLE,
        js_on_load=(Path(__file__).parent / "player.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=True,
        elem_id=elem_id,
        label=label("piece"),
        texts={name: {key: table(name)["texts"][key] for key in PLAYER_KEYS} for name in get_args(Language)},
    )
    # the API's documentation would call it a text; a class of our own would make Gradio write a .pyi file beside ours
    component.api_info = Piece.model_json_schema  # type: ignore[method-assign]
    return component


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
    with shown_errors(request, path) as say:
        path = given(kind, path)
        model = settings.load()
        value = read_input(model, kind, path)
        warn_of_convention(model, kind, value)
        about_s, done = seconds_in(model, kind, value), 0
        for index, (audio, whole) in enumerate(in_pieces(model, kind, value)):
            done += audio.shape[1]
            piece = piece_of(audio, model.sample_rate, index, done, about_s if whole is None else 0.0, say)
            if whole is None:
                yield piece, None, None, None
                continue
            result = measured(model, whole)
            yield piece, result.audio, result.view.report, result.view


def piece_of(audio: torch.Tensor, rate: int, index: int, done: int, about_s: float, say: Translator) -> Piece:
    """Write a piece of audio for the player.

    Args:
        audio: (1, T).
        rate: its sample rate.
        index: its place among the pieces.
        done: samples so far, with this piece.
        about_s: about how long the whole is; 0 says that this piece is the last.
        say: for the text about it.
    """
    pcm, _ = tts_infer.to_int16(audio[0])
    path = save_audio_to_cache(pcm, rate, format="wav", cache_dir=str(gr.utils.get_upload_folder()))
    end_s = done / rate
    of_s = max(about_s, end_s)
    return Piece(
        file=FileData(path=path, orig_name=f"{index + 1}.wav"),
        index=index,
        sample_rate=rate,
        end_s=end_s,
        of_s=of_s,
        last=not about_s,
        text=say("decoded", done=end_s, total=of_s),
    )


def in_pieces(
    model: tts_infer.Vocoder, kind: Kind, value: torch.Tensor
) -> Iterator[tuple[torch.Tensor, tts_infer.Synthesis | None]]:
    """Synthesize piece by piece. The last piece comes with the whole, whose audio is the pieces joined.

    The pieces join to what `Vocoder.synthesize` makes of the whole.

    Raises:
        InputError, InputTypeError: as `Vocoder.synthesize`, when it comes to the piece.
    """
    mels, decoder = model.mel_stream(timed=True), model.stream(timed=True)
    hop = model.hop_length if kind == "audio" else 1
    audios: list[torch.Tensor] = []
    features: list[torch.Tensor] = []
    total_ms = 0.0
    for start, stop in spans(-(-value.shape[-1] // hop), FIRST + decoder.delay_frames):
        last, begin = stop * hop >= value.shape[-1], time.perf_counter()
        mel = value[..., start * hop : stop * hop]
        if kind == "audio":
            mel = _ended(mels, mels.push(mel)) if last else mels.push(mel)
        audio = decoder.push(mel)
        if last:
            audio = _ended(decoder, audio)
        total_ms += (time.perf_counter() - begin) * 1e3
        features.append(mel)
        audios.append(audio)
        if not last:
            yield audio, None
    stages = mels.stages + decoder.stages
    joined = tts_infer.Synthesis(torch.cat(audios, 1), torch.cat(features, 2), model.sample_rate, stages, total_ms)
    yield audios[-1], joined


def _ended(stream: tts_infer.StreamingDecoder | tts_infer.StreamingMel, pushed: torch.Tensor) -> torch.Tensor:
    """The last push of a stream together with what it still held."""
    return torch.cat([pushed, stream.flush()], -1)


def spans(frames: int, first: int) -> Iterator[tuple[int, int]]:
    """Cut a signal into spans of growing length. A signal without a frame still has one span.

    Args:
        frames: of the signal.
        first: frames of the first span: those of a first piece, and those by which audio is later than the mel.
    """
    start, stop, length = 0, first, FIRST
    while stop < frames:
        yield start, stop
        length = min(2 * length, LONGEST)
        start, stop = stop, stop + length
    yield start, frames
