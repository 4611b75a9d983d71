"""The Speak tab: a text in, speech out, played while it is made."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import gradio as gr
import torch

import tts_infer
from tts_infer import pictures
from ui.decode import BEGIN
from ui.listen import Piece, piece_of, player
from ui.results import STYLE, clipping, speed
from ui.session import COMPUTE, KEEP_S, Report, shown_errors
from ui.settings import dropdown
from ui.texts import Translator, label, translator

OWN = "none"  # of vocoders: the voice's own audio
LONGEST = 10_000  # characters; a text of this length is ten minutes of speech
CHARACTERS_A_SECOND = 15  # of speech at speed 1, about: it says how long the whole will be

Spoken = tuple[Piece, str | None, Report | None, Report | None]


def speak(
    text: str, voice: str, speed: float = 1.0, vocoder: str = OWN, request: gr.Request | None = None
) -> Iterator[Spoken]:
    """Speak a text, piece by piece, as it is made. The voice is synthetic, and the file says so.

    Parameters:
        text: what to say, up to 10000 characters
        voice: name of a voice
        speed: 1 is the voice's own pace; 0.25 to 4
        vocoder: name of a known vocoder that decodes the voice's mel; "none": the voice's own audio

    Returns:
        a piece, as in /stream; and with the last piece the whole as 16-bit WAV, and the report: voice, vocoder,
        sample_rate, seconds, total_ms, first_audio_ms, rtfx, clipped_samples, left_out (words that the voice cannot
        read), stages
    """
    with shown_errors(request) as say:
        require_length(text)
        speaker = kept(voice, None if vocoder == OWN else vocoder)
        stream = speaker.stream(text, speed=speed)
        about_s = len(text) / CHARACTERS_A_SECOND / speed
        audios: list[torch.Tensor] = []
        for audio, after in pairwise(chain(stream, [None])):
            assert audio is not None
            audios.append(audio)
            remaining = max(about_s, stream.samples / stream.sample_rate) if after is not None else 0.0
            done = sum(one.shape[1] for one in audios)
            piece = piece_of(audio.cpu(), stream.sample_rate, len(audios) - 1, done, remaining, say)
            if after is not None:
                yield piece, None, None, None
        path, report = finished(speaker, stream, audios)
        if stream.left_out:
            gr.Warning(say("left-out", words=", ".join(stream.left_out[:10])))
        yield piece, path, report, report


def require_length(text: str) -> None:
    """Refuse a text that would keep all other visitors waiting.

    Raises:
        InputError: it has too many characters.
    """
    if len(text) > LONGEST:
        raise tts_infer.InputError(
            "the text has {count} characters; at most {most} are spoken here", code="page-text-long", count=len(text),
            most=LONGEST,
        )  # fmt: skip


@functools.lru_cache(maxsize=4)
def kept(voice: str, vocoder: str | None) -> tts_infer.Speaker:
    """A voice, ready to speak."""
    return tts_infer.load_speaker(voice, vocoder=vocoder)


def finished(
    speaker: tts_infer.Speaker, stream: tts_infer.SpeechStream, audios: Sequence[torch.Tensor]
) -> tuple[str, Report]:
    """The whole as a file that names its voice as synthetic, and the report."""
    path = Path(tempfile.mkdtemp(dir=gr.utils.get_upload_folder())) / "speech.wav"
    clipped = tts_infer.write_audio(path, torch.cat(list(audios), 1)[0], stream.sample_rate, comments=speaker.comments)
    seconds = stream.samples / stream.sample_rate
    return str(path), {
        "voice": speaker.voice,
        "vocoder": speaker.vocoder.name if speaker.vocoder else None,
        "sample_rate": stream.sample_rate,
        "seconds": seconds,
        "total_ms": stream.total_ms,
        "first_audio_ms": stream.first_audio_ms,
        "rtfx": seconds / (stream.total_ms / 1e3),
        "clipped_samples": clipped,
        "left_out": list(stream.left_out),
        "stages": stream.stages,
    }


def speak_tab(vocoders: Sequence[str]) -> None:
    """Lay the tab out and connect it."""
    voices = [voice["name"] for voice in tts_infer.list_voices()]
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            text = gr.Textbox(label=label("text"), lines=4, max_lines=12, max_length=LONGEST, elem_id="speak-text")
            with gr.Row():
                voice = dropdown("voice", voices, voices[0], "speak-", info="voice-hint")
                behind = dropdown("vocoder", [OWN, *vocoders], OWN, "speak-", info="vocoder-behind")
            pace = gr.Slider(0.25, 4.0, 1.0, step=0.05, label=label("speed"), elem_id="speak-speed")
            button = gr.Button(label("speak"), variant="primary", elem_id="speak")
        with gr.Column(scale=3, min_width=300):
            live = player("speak-player")
            output = gr.Audio(
                label=label("output-audio"), interactive=False, buttons=["download"], elem_id="speak-output"
            )
            view = gr.HTML(
                label("speak-hint"), css_template=STYLE, apply_default_css=False, padding=True,
                elem_id="speak-result",
            )  # fmt: skip
            with gr.Accordion(label("report-json"), open=False):
                report = gr.JSON(label=label("report-json"), show_label=False, elem_id="speak-report")
    connect(button, [text, voice, pace, behind], [live, output, report], view)


def connect(button: gr.Button, inputs: list[Any], outputs: list[Any], view: gr.HTML) -> None:
    """Speak at a click, draw what was made, and clear it after a failure."""
    result = gr.State(time_to_live=KEEP_S)
    shown = [*outputs, result, view]
    begin = BEGIN.replace("#player", "#speak-player")
    button.click(js=begin, outputs=shown, api_name="begin_speak", api_visibility="private")
    done = button.click(
        speak, inputs, [*outputs, result], api_name="speak", trigger_mode="once", show_progress="hidden", **COMPUTE
    )
    done.success(draw, result, [view, result], api_name="draw_speak", api_visibility="private")
    done.failure(nothing, None, shown, api_name="clear_speak", api_visibility="private")
    live = outputs[0]
    live.cancel(nothing, None, shown, cancels=[done], api_name="cancel_speak", api_visibility="private")


def nothing(request: gr.Request) -> tuple[None, None, None, None, str]:
    """What is shown when there is no result."""
    return None, None, None, None, f"<p>{translator(request)('speak-hint')}</p>"


def draw(report: Report | None, request: gr.Request) -> tuple[str | dict[str, object], None]:
    """Draw the stages of a result, and drop it. Without a result, leave the page as it is."""
    if report is None:
        return gr.skip(), None
    with shown_errors(request) as say:
        stages, total_ms = report["stages"], report["total_ms"]
        waterfall = pictures.stage_waterfall(stages, total_ms, words=say.phrase)
        table = pictures.stage_table(stages, total_ms, words=say.phrase)
        return f"<p>{in_words(report, say)}</p><h3>{say('where-time-went')}</h3>{waterfall}{table}", None


def in_words(report: Report, say: Translator) -> str:
    """The result in a line."""
    first = say("first-audio", ms=report["first_audio_ms"])
    return f"{speed(report, say)} {first} {clipping(report, say)} {say('synthetic')}"
