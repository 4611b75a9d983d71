"""The Decode tab: one clip or mel in, one waveform out, to be heard and seen beside its input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

import tts_infer
from ui.folder import shared
from ui.history import decoded
from ui.listen import Piece, stream, stream_mel
from ui.remember import remember_settings
from ui.scope import hint, kept, opened, output_of, scope
from ui.session import COMPUTE, KEEP_S, Kind, Report, failure, given, read_input, shown_errors
from ui.settings import Settings, settings_panel, takes_settings
from ui.strip import Strip
from ui.synthesis import repeated, run
from ui.texts import label
from ui.work import desk

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.wav"))
MELS = sorted(FOLDER.glob("*.npy"))
RUNS = 5  # of Measure
# After a change of settings, the input of the result runs again, whether the result is shown or still being made. So
# each handler notes in the browser which file and settings it is given, and which button makes all of its result. If
# the file is no longer there, or the settings are as they were (a field was only left), nothing runs.
NOTE = """async (...values) => {
    await window.ttsInferStop?.();
    const given = values.slice(0, %d);
    window.ttsInferMade = { button: '%s', path: given[0]?.path, settings: JSON.stringify(given.slice(1)) };
    return given;
}"""
# A new run replaces what is listened to.
BEGIN = "() => ({ waiting: true })"
PRESS_AGAIN = """(audio, mel, ...settings) => {
    const made = window.ttsInferMade;
    const there = made?.path && [audio, mel].some((input) => input?.path === made.path);
    if (there && JSON.stringify(settings) !== made.settings) document.querySelector(made.button)?.click();
}"""
Whole = tuple[str, Report, str]
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


@takes_settings
def synthesize(audio: str | None, settings: Settings, request: gr.Request | None = None) -> Whole:
    """Copy-synthesise audio: make its mel spectrogram, decode it again, and report where the time went.

    Parameters:
        audio: WAV, FLAC, OGG or MP3 file, any sample rate and channel count
        settings: see `Settings`

    Returns:
        output audio as 16-bit WAV, and the report: vocoder, sample_rate, seconds, total_ms, rtfx, peak,
        clipped_samples, log_mel_error_db, refine (passes that ran), settings, stages, notes (code and text of what is
        odd)
    """
    return whole("audio", audio, settings, request)


@takes_settings
def decode(mel: str | None, settings: Settings, request: gr.Request | None = None) -> Whole:
    """Decode a log-mel spectrogram from a file, and report where the time went.

    Parameters:
        mel: .npy, .npz, .safetensors or .pt file of natural-log mels, (n_mels, frames) or (1, n_mels, frames)
        settings: see `Settings`

    Returns:
        output audio as 16-bit WAV, and the report, as in /synthesize
    """
    return whole("mel", mel, settings, request)


@takes_settings
def measure(audio: str | None, settings: Settings, request: gr.Request | None = None) -> Whole:
    """Copy-synthesise audio five times, and report the median time of the whole and of each stage, and the spread.

    Parameters:
        audio: WAV, FLAC, OGG or MP3 file, any sample rate and channel count
        settings: see `Settings`

    Returns:
        output audio as 16-bit WAV, and the report of /synthesize, with runs, least_ms and most_ms
    """
    return whole("audio", audio, settings, request, RUNS)


@takes_settings
def measure_mel(mel: str | None, settings: Settings, request: gr.Request | None = None) -> Whole:
    """Decode a log-mel spectrogram five times, and report the median times and the spread.

    Parameters:
        mel: .npy, .npz, .safetensors or .pt file of natural-log mels, (n_mels, frames) or (1, n_mels, frames)
        settings: see `Settings`

    Returns:
        output audio as 16-bit WAV, and the report of /measure
    """
    return whole("mel", mel, settings, request, RUNS)


def whole(kind: Kind, path: str | None, settings: Settings, request: gr.Request | None, runs: int = 1) -> Whole:
    """Decode one input as a whole, for all of these endpoints."""
    with shown_errors(request, path, inline=True), desk.job(request) as job:
        path = given(kind, path)
        with desk.turn(job):
            model = settings.load()
        value = read_input(model, kind, path, desk.turns(job))
        once = runs == 1
        job.what, job.total = "decoding" if once else "measuring", runs * value.seconds(model)
        result = run(model, value, desk.turns(job), job.advance) if once else repeated(model, value, runs, job)
        result.report["settings"] = asdict(settings)
        scene = kept(result, Path(path).stem)
        decoded.add(request, scene)
        return output_of(scene), result.report, scene


# On a phone, a result that was asked for is far below the button. It has its height a moment after it has come.
IN_SIGHT = """() => {
    const asked = !window.ttsInferUnasked;
    window.ttsInferUnasked = false;
    if (innerWidth > 640 || !asked) return;
    setTimeout(() => document.querySelector('#%s').scrollIntoView({ behavior: 'smooth' }), 150);
}"""
# The Speak tab is beside this one.
TO_SPEAK = "() => document.querySelector('#tab-speak-button').click()"
# The same as a visitor's first click; nothing is played before there was one.
FIRST_CLICK = "() => { window.ttsInferUnasked = true; document.querySelector('#synthesize').click(); }"


def decode_tab(page: gr.Blocks, vocoders: Sequence[str], device: str, example: bool) -> list[gr.Dropdown]:
    """Lay the tab out and connect it; returns its settings.

    Args:
        page: of the tab.
        vocoders: names to choose from; the first one is chosen.
        device: the device chosen at first.
        example: whether an example is decoded when the page is opened.
    """
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            audio, mel, *buttons = input_tabs(shared(EXAMPLES[:1])[0] if example else None)
            error = inline_error("decode-error")
        with gr.Column(scale=2, min_width=300):
            settings = settings_panel(vocoders, device)
    back = remember_settings(page, settings)
    live = scope(hint(), "result", Piece.model_json_schema)
    output = gr.Audio(label=label("output-audio"), visible=False, elem_id="output-audio")
    report = gr.JSON(label=label("report-json"), show_label=False, elem_id="report", render=False)
    made = gr.State(time_to_live=KEEP_S)
    strip = Strip(page, decoded, "result", opened, (live, report, made), "results")
    with gr.Accordion(label("report-json"), open=False):
        report.render()
    shown = [live, output, report, made]
    handlers: tuple[Callable[..., Any], ...] = (synthesize, stream, measure, decode, stream_mel, measure_mel)
    for i, (button, handler) in enumerate(zip(buttons, handlers, strict=True)):
        done = connect(button, handler, audio if i < 3 else mel, settings, shown)
        done.success(lambda: "", None, error, js="() => ''", api_name=f"well_{handler.__name__}", **PRIVATE)
        # an old result beside a new error would mislead
        done.failure(failed, None, [*shown, error], api_name=f"clear_{handler.__name__}", **PRIVATE)
        strip.follow(done, handler.__name__)
    if example:
        back.then(js=FIRST_CLICK, api_name="first", api_visibility="private")
    changes = [setting.change for setting in settings]
    gr.on(changes, None, [audio, mel, *settings], js=PRESS_AGAIN, api_name="press_again", api_visibility="private")
    gr.on([audio.change, mel.change], js="() => ''", outputs=error, api_name="forget_error", api_visibility="private")
    return settings


def connect(
    button: gr.Button,
    handler: Callable[..., Any],
    source: gr.Audio | gr.File,
    settings: list[gr.Dropdown],
    shown: list[Any],
) -> Any:
    """Run a handler at a click, and show what was made; returns the event."""
    name, streaming, live, made = handler.__name__, handler in (stream, stream_mel), shown[0], shown[-1]
    again = "#synthesize" if isinstance(source, gr.Audio) else "#decode"
    if streaming:  # registered first, because the browser runs the listeners of a click in order
        button.click(js=BEGIN, outputs=live, api_name=f"begin_{name}", api_visibility="private")
    done = button.click(
        handler,
        [source, *settings],
        shown if streaming else shown[1:],
        js=NOTE % (1 + len(settings), again),
        api_name=name,
        trigger_mode="multiple",  # a second press ends the first
        show_progress="hidden",  # the status line says it
        **COMPUTE,
    )
    drawn = done.success(opened, made, live, api_name=f"open_{name}", **PRIVATE)
    drawn.success(js=IN_SIGHT % "result", api_name=f"in_sight_{name}", **PRIVATE)
    return done


def failed(request: gr.Request) -> tuple[Any, ...]:
    """What is shown after an error: no result, and the error. What was only stopped leaves the page as it is."""
    message = failure(request)
    return (gr.skip(),) * 5 if message is None else (None, None, None, None, error_html(message))


def inline_error(elem_id: str) -> gr.HTML:
    """The place of an error, beside the input. It stays until the input changes."""
    return gr.HTML(
        "", html_template='<div role="alert">${value ?? ""}</div>', elem_id=elem_id, elem_classes="tts-error"
    )


def error_html(message: str) -> str:
    """An error as the value of `inline_error`."""
    return f"⚠ {tts_infer.pictures.html.escape(message)}"


def input_tabs(
    first: Path | None,
) -> tuple[gr.Audio, gr.File, gr.Button, gr.Button, gr.Button, gr.Button, gr.Button, gr.Button]:
    """The inputs. Each has its own tab and buttons, so it is always clear which input a button uses.

    Args:
        first: the audio that is there already.
    """
    with gr.Tabs():
        with gr.Tab(label("audio")):
            value = str(first) if first else None
            audio = gr.Audio(value, label=label("audio"), type="filepath", buttons=["download"], elem_id="input-audio")
            examples(audio, EXAMPLES, "examples", "load_example")
            of_audio = run_buttons("synthesize", "listen", "measure", "to-speak")
        with gr.Tab(label("mel-file")):
            mel = gr.File(
                label=label("mel-spectrogram"), file_types=list(tts_infer.FEATURE_SUFFIXES), elem_id="input-mel"
            )
            examples(mel, MELS, "mel-examples", "load_mel_example")
            of_mel = run_buttons("decode", "listen-mel", "measure-mel", "mel-to-speak")
    return audio, mel, *of_audio, *of_mel


def run_buttons(whole: str, pieces: str, several: str, speak: str) -> tuple[gr.Button, gr.Button, gr.Button]:
    """The buttons of an input, and the way to the Speak tab; the arguments are their element ids."""
    with gr.Row():
        first = gr.Button(label("decode"), variant="primary", min_width=120, elem_id=whole)
        gr.Button(label("speak-instead"), min_width=120, elem_id=speak).click(js=TO_SPEAK, api_visibility="private")
    with gr.Row():
        listen = gr.Button(label("listen"), size="md", min_width=120, elem_id=pieces)
        return first, listen, gr.Button(label("measure"), size="md", min_width=120, elem_id=several)


def examples(given: gr.Audio | gr.File, files: Sequence[Path], elem_id: str, api_name: str) -> None:
    """Files that are one click away."""
    # Gradio would serve copies from its cache, which are removed with the uploads.
    clips = shared(files)
    gr.set_static_paths(list(clips))
    gr.Examples(
        [[str(path)] for path in clips],
        given,
        example_labels=[path.stem.replace("-", " ").capitalize() for path in files],
        label=label("examples"),
        elem_id=elem_id,
        api_name=api_name,
    )
