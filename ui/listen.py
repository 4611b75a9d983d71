"""Listening while it decodes: pieces of audio go out as they are made, and the full result comes with the last.

Gradio's own streaming output would encode them as AAC, with a program that this page does not ask for; these pieces
are WAV files of the very samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import torch
from gradio.data_classes import FileData, GradioModel
from gradio.processing_utils import save_audio_to_cache

import tts_infer
from ui.engine import (
    AUTO,
    NO_AUDIO,
    NO_MEL,
    Int16Audio,
    Refine,
    Report,
    View,
    load,
    measured,
    placed,
    read_samples,
    shown_errors,
)
from ui.pieces import hops_of, in_pieces, join
from ui.texts import CHINESE, Words, label, words_of

PROGRESS = "Decoded {done:.1f} of {total:.1f} s"
WAITING = "Preparing the first piece"
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
    """What plays pieces as they come, and says how far decoding is."""
    component = gr.HTML(
        None,
        html_template=TEMPLATE,
        css_template=STYLE,
        js_on_load=(Path(__file__).parent / "player.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=True,
        elem_id=elem_id,
        label=label("Piece"),
        chinese={text: CHINESE[text] for text in (WAITING, "Play", "Pause", "Stop", "Cancel")},
    )
    # the API's documentation would call it a text; a class of our own would make Gradio write a .pyi file beside ours
    component.api_info = Piece.model_json_schema  # type: ignore[method-assign]
    return component


def stream(
    audio: str | None,
    vocoder: str,
    device: str = AUTO,
    istft: tts_infer.MethodChoice = AUTO,
    mel_device: str = AUTO,
    backbone_device: str = AUTO,
    head_device: str = AUTO,
    istft_device: str = AUTO,
    refine: Refine = AUTO,
    request: gr.Request | None = None,
) -> Iterator[Streamed]:
    """Copy-synthesise audio like /synthesize, but give the output piece by piece, as it is made.

    Parameters:
        audio: WAV, FLAC, OGG or MP3 file, any sample rate and channel count
        vocoder: name of a known vocoder
        device: device of every stage that is not placed by itself; "auto" takes the best
        istft: inverse STFT method
        mel_device: device of the mel stage; "auto" is `device`
        backbone_device: device of the backbone stage; "auto" is `device`
        head_device: device of the head stage; "auto" is `device`
        istft_device: device of the stages refine and iSTFT; "auto" is `device`
        refine: passes that pull the output's mel to the input's; "auto" is what suits the vocoder

    Returns:
        a piece: its 16-bit WAV `file`, its `index`, the seconds `end_s` reached with it, `of_s` them in all; and with
        the last piece the whole output as 16-bit WAV, and the report of /synthesize
    """
    words = words_of(request)
    with shown_errors(words, audio):
        if audio is None:
            raise tts_infer.InputError(NO_AUDIO)
        placement = placed(mel_device, backbone_device, head_device, istft_device)
        model = load(vocoder, device, placement, istft, refine=refine)
        yield from streamed(model, words, audio=read_samples(audio, model.sample_rate))


def stream_mel(
    mel: str | None,
    vocoder: str,
    device: str = AUTO,
    istft: tts_infer.MethodChoice = AUTO,
    mel_device: str = AUTO,
    backbone_device: str = AUTO,
    head_device: str = AUTO,
    istft_device: str = AUTO,
    refine: Refine = AUTO,
    request: gr.Request | None = None,
) -> Iterator[Streamed]:
    """Decode a log-mel spectrogram like /decode, but give the output piece by piece, as it is made.

    Parameters:
        mel: .npy, .npz, .safetensors or .pt file of natural-log mels, (n_mels, frames) or (1, n_mels, frames)
        vocoder: name of a known vocoder; the mel must be in its convention
        device: device of every stage that is not placed by itself; "auto" takes the best
        istft: inverse STFT method
        mel_device: device of the mel stage, which only measures the output here; "auto" is `device`
        backbone_device: device of the backbone stage; "auto" is `device`
        head_device: device of the head stage; "auto" is `device`
        istft_device: device of the stages refine and iSTFT; "auto" is `device`
        refine: passes that pull the output's mel to the input's; "auto" is what suits the vocoder

    Returns:
        a piece, and with the last one the whole output and the report, as in /stream
    """
    words = words_of(request)
    with shown_errors(words, mel):
        if mel is None:
            raise tts_infer.InputError(NO_MEL)
        placement = placed(mel_device, backbone_device, head_device, istft_device)
        model = load(vocoder, device, placement, istft, refine=refine)
        yield from streamed(model, words, mel=tts_infer.read_mel(mel, model.n_mels))


def streamed(
    model: tts_infer.Vocoder,
    words: Words,
    *,
    audio: torch.Tensor | None = None,
    mel: torch.Tensor | None = None,
) -> Iterator[Streamed]:
    """What the two handlers yield. Closing it, as a cancelled event does, ends the work with the piece at hand."""
    samples, done, rate = hops_of(model, audio=audio, mel=mel) * model.hop_length, 0, model.sample_rate
    parts: list[tts_infer.Synthesis] = []
    for part in in_pieces(model, audio=audio, mel=mel):
        parts.append(part)
        done += part.audio.shape[1]
        pcm, _ = tts_infer.to_int16(part.audio[0])
        path = save_audio_to_cache(pcm, rate, format="wav", cache_dir=str(gr.utils.get_upload_folder()))
        piece = Piece(
            file=FileData(path=path, orig_name=f"{len(parts)}.wav"),
            index=len(parts) - 1,
            sample_rate=rate,
            end_s=done / rate,
            of_s=samples / rate,
            last=done == samples,
            text=words(PROGRESS).format(done=done / rate, total=samples / rate),
        )
        if done < samples:
            yield piece, None, None, None
    result = measured(model, join(parts))
    yield piece, result.audio, result.view.report, result.view
