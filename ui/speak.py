"""The Speak tab: a text in, speech out, played while it is made."""

from __future__ import annotations

import functools
import html
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import torch

import tts_infer
from ui.decode import BEGIN, IN_SIGHT, failed, inline_error
from ui.history import spoken
from ui.listen import Piece, piece_of
from ui.names import named
from ui.results import clipping, details, notes, speed
from ui.scenes import Sound, facts_of, keep
from ui.scope import output_of, scope, value_of
from ui.session import COMPUTE, KEEP_S, Report, downloads_explained, noted, place_of, shown_errors
from ui.settings import dropdown
from ui.status import PRESSED
from ui.strip import Strip
from ui.texts import Translator, label
from ui.work import desk

FIRST = "A vocoder turns a picture of sound back into sound."  # all voices speak English
OWN = "none"  # of vocoders: the voice's own audio
LONGEST = 10_000  # characters; a text of this length is ten minutes of speech
CHARACTERS_A_SECOND = 15  # of speech at speed 1, about: it says how long the whole will be

Spoken = tuple[Piece, str | None, Report | None, str | None]


def speak(
    text: str, voice: str, speed: float = 1.0, vocoder: str = OWN, request: gr.Request | None = None
) -> Iterator[Spoken]:
    """Speak a text, piece by piece, as it is made. The voice is synthetic, and the files say so.

    Parameters:
        text: what to say, up to 10000 characters
        voice: name of a voice
        speed: 1 is the voice's own pace; 0.25 to 4
        vocoder: name of a known vocoder that decodes the voice's mel; "none": the voice's own audio

    Returns:
        a piece, as in /stream; the last one is empty, and with it come the whole as 16-bit WAV, and the report: voice,
        speed, vocoder, sample_rate, seconds, total_ms, first_audio_ms, rtfx, peak, clipped_samples, left_out (words
        that the voice cannot read), stages, notes
    """
    with shown_errors(request, inline=True), desk.job(request) as job:
        require_length(text)
        with desk.turn(job):
            speaker = kept(voice, None if vocoder == OWN else vocoder)
        stream = speaker.stream(text, speed=speed)
        rate, comments = stream.sample_rate, speaker.comments
        job.what, job.total = "speaking", len(text) / CHARACTERS_A_SECOND / speed
        audios: list[torch.Tensor] = []
        while True:
            with desk.turn(job):
                audio = next(stream, None)
            if audio is None:  # only now is it known that the piece before was the last with sound
                break
            audios.append(audio.cpu())
            job.done = stream.samples / rate
            job.total = max(job.total, job.done)
            yield piece_of(audios[-1], rate, len(audios) - 1, job.done, job.total, comments), None, None, None
        with desk.turn(job):
            scene = finished(speaker, stream, torch.cat(audios, 1), speed)
        end = piece_of(audios[0][:, :0], rate, len(audios), job.done, 0.0, comments)
        spoken.add(request, scene)
        yield end, output_of(scene), facts_of(scene)["report"], scene


def require_length(text: str) -> None:
    """Refuse a text that would take too long.

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
    with downloads_explained(vocoder or voice):
        speaker = tts_infer.load_speaker(voice, vocoder=vocoder and place_of(vocoder))
    if speaker.vocoder and vocoder:
        speaker.vocoder.name = vocoder  # without a place on the server
    return speaker


def finished(speaker: tts_infer.Speaker, stream: tts_infer.SpeechStream, audio: torch.Tensor, pace: float) -> str:
    """The whole and its report as a scene, whose file names its voice as synthetic.

    Args:
        speaker, stream: what spoke; the stream has ended.
        audio: all of it. Shape: (1, T)
        pace: the speed that was asked for.
    """
    samples, clipped = tts_infer.to_int16(audio[0])
    meter = tts_infer.SignalMeter()
    meter.add(audio[0].numpy()[:, None])
    rate, vocoder = stream.sample_rate, speaker.vocoder
    seconds = len(samples) / rate
    report: Report = {
        "voice": speaker.voice,
        "speed": pace,
        "vocoder": vocoder.name if vocoder else None,
        "sample_rate": rate,
        "seconds": seconds,
        "total_ms": stream.total_ms,
        "first_audio_ms": stream.first_audio_ms,
        "rtfx": seconds / (stream.total_ms / 1e3),
        "peak": float(audio.abs().max()),
        "clipped_samples": clipped,
        "left_out": list(stream.left_out),
        "stages": stream.stages,
        "notes": noted(tts_infer.notes_of_output(meter, len(samples), clipped)),
    }
    config = vocoder.mel_config if vocoder else tts_infer.MelConfig(sample_rate=rate)
    mel = tts_infer.LogMel(config)(audio)[0]
    sound = Sound("out", f"{named('speech', report)}.wav", audio[0], speaker.comments)
    return keep([sound], rate, [mel], config, {"report": report, "streamed": True})


def speak_tab(page: gr.Blocks, vocoders: Sequence[str]) -> None:
    """Lay the tab out and connect it."""
    voices = [voice["name"] for voice in tts_infer.list_voices() if not voice["from_recording"]]
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            text = gr.Textbox(
                FIRST, label=label("text"), lines=6, max_lines=12, max_length=LONGEST, elem_id="speak-text"
            )
            button = gr.Button(label("speak"), variant="primary", elem_id="speak")
            error = inline_error("speak-error")
        with gr.Column(scale=2, min_width=300):
            voice = dropdown("voice", voices, voices[0], "speak-", info="voice-hint")
            behind = dropdown("vocoder", [OWN, *vocoders], OWN, "speak-", info="vocoder-behind")
            pace = gr.Slider(0.25, 4.0, 1.0, step=0.05, label=label("speed"), elem_id="speak-speed")
    live = scope(label("speak-hint"), "speak-result", Piece.model_json_schema)
    output = gr.Audio(label=label("output-audio"), visible=False, elem_id="speak-output")
    report = gr.JSON(label=label("report-json"), show_label=False, elem_id="speak-report", render=False)
    made = gr.State(time_to_live=KEEP_S)
    strip = Strip(page, spoken, "speak-result", opened, (live, report, made), "speech_results")
    with gr.Accordion(label("report-json"), open=False):
        report.render()
    strip.follow(connect(button, [text, voice, pace, behind], [live, output, report, made], error), "speak")


def connect(button: gr.Button, inputs: list[Any], shown: list[Any], error: gr.HTML) -> Any:
    """Speak at a click, and show what was made, or the error beside the text until the text changes."""
    live, made = shown[0], shown[-1]
    # registered first, because the browser runs the listeners of a click in order
    button.click(js=BEGIN, outputs=live, api_name="begin_speak", api_visibility="private")
    done = button.click(
        speak,
        inputs,
        shown,
        js=PRESSED,
        api_name="speak",
        trigger_mode="multiple",  # a second press ends the first
        show_progress="hidden",  # the status line says it
        **COMPUTE,
    )
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    drawn = done.success(opened, made, live, api_name="open_speak", **private)
    drawn.success(js=IN_SIGHT % "speak-result", api_name="in_sight_speak", **private)
    done.success(lambda: "", None, error, js="() => ''", api_name="well_speak", **private)
    done.failure(failed, None, [*shown, error], api_name="clear_speak", **private)
    inputs[0].change(js="() => ''", outputs=error, api_name="forget_speak_error", api_visibility="private")
    return done


def opened(scene: str | None, request: gr.Request) -> Any:
    """What the component shows of speech. Without any, leave the page as it is."""
    if scene is None:
        return gr.skip()
    with shown_errors(request) as say:
        facts = facts_of(scene)
        report = facts["report"]
        odd = list(report["notes"])
        if report["left_out"]:
            odd.append({"code": "left-out", "text": say("left-out", words=", ".join(report["left_out"][:10]))})
        above = f"<p>{html.escape(in_words(report, say))}</p>{notes(odd, say)}"
        return value_of(scene, facts, {"out": say("output")}, above, details(report, say), say)


def in_words(report: Report, say: Translator) -> str:
    """The result in a line."""
    first = say("first-audio", ms=report["first_audio_ms"])
    return speed(report, say) + first + clipping(report, say) + say("synthetic")
