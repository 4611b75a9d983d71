"""The Decode tab: one clip or mel in, one waveform out, with pictures, figures and the stage report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

import tts_infer
from ui.listen import player, stream, stream_mel
from ui.results import draw, result_view
from ui.session import (
    COMPUTE,
    KEEP_S,
    Int16Audio,
    Kind,
    Report,
    View,
    given,
    read_input,
    run,
    seconds_in,
    shown_errors,
    warn_of_convention,
)
from ui.settings import Settings, settings_panel, takes_settings
from ui.texts import label, translator

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.wav"))
# Show the player and remove the last result, unless the player plays a result that is still being made.
BEGIN = """() => document.querySelector('#player [data-working]')
    ? Array(5).fill({ __type__: 'update' })
    : [{}, null, null, null, '']"""
# After a change of settings, the input of the result runs again, whether the result is shown or still being made. So
# each handler notes in the browser which file and settings it is given, and which button makes all of its result. If
# the file is no longer there, or the settings are as they were (a field was only left), nothing runs.
NOTE = """(...values) => {
    const given = values.slice(0, %d);
    window.ttsInferMade = { button: '%s', path: given[0]?.path, settings: JSON.stringify(given.slice(1)) };
    return given;
}"""
PRESS_AGAIN = """(audio, mel, ...settings) => {
    const made = window.ttsInferMade;
    const there = made?.path && [audio, mel].some((input) => input?.path === made.path);
    if (there && JSON.stringify(settings) !== made.settings) document.querySelector(made.button)?.click();
}"""
FORGET = "() => { window.ttsInferMade = null; return []; }"


@takes_settings
def synthesize(
    audio: str | None,
    settings: Settings,
    request: gr.Request | None = None,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio recognises the parameter by this default
) -> tuple[Int16Audio, Report, View]:
    """Copy-synthesise audio: make its mel spectrogram, decode it again, and report where the time went.

    Parameters:
        audio: WAV, FLAC, OGG or MP3 file, any sample rate and channel count
        settings: see `Settings`

    Returns:
        output audio as 16-bit WAV, and the report: vocoder, sample_rate, seconds, total_ms, rtfx, peak,
        clipped_samples, log_mel_error_db, refine (passes that ran), stages
    """
    return whole("audio", audio, settings, request, progress)


@takes_settings
def decode(
    mel: str | None,
    settings: Settings,
    request: gr.Request | None = None,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> tuple[Int16Audio, Report, View]:
    """Decode a log-mel spectrogram from a file, and report where the time went.

    Parameters:
        mel: .npy, .npz, .safetensors or .pt file of natural-log mels, (n_mels, frames) or (1, n_mels, frames)
        settings: see `Settings`

    Returns:
        output audio as 16-bit WAV, and the report, as in /synthesize
    """
    return whole("mel", mel, settings, request, progress)


def whole(
    kind: Kind, path: str | None, settings: Settings, request: gr.Request | None, progress: gr.Progress
) -> tuple[Int16Audio, Report, View]:
    """Decode one input as a whole, for both endpoints."""
    with shown_errors(request, path) as say:
        path = given(kind, path)
        progress(0.1, desc=say("loading"))
        model = settings.load()
        progress(0.3, desc=say("reading"))
        value = read_input(model, kind, path)
        warn_of_convention(model, kind, value)
        progress(0.5, desc=say("decoding-seconds", seconds=seconds_in(model, kind, value)))
        result = run(model, kind, value)
        return result.audio, result.view.report, result.view


def decode_tab(vocoders: Sequence[str], device: str) -> None:
    """Lay the tab out and connect it."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            audio, mel, *buttons = input_tabs()
            settings = settings_panel(vocoders, device)
        with gr.Column(scale=3, min_width=300):
            live = player("player")
            output = gr.Audio(
                label=label("output-audio"), interactive=False, buttons=["download"], elem_id="output-audio"
            )
            view = result_view(label("decode-hint"), "result")
            with gr.Accordion(label("report-json"), open=False):
                report = gr.JSON(label=label("report-json"), show_label=False, elem_id="report")
    result = gr.State(time_to_live=KEEP_S)
    shown = [live, output, report, result, view]
    streams = []
    for button, source, handler in zip(
        buttons, (audio, audio, mel, mel), (synthesize, stream, decode, stream_mel), strict=True
    ):
        name, streaming = handler.__name__, handler in (stream, stream_mel)
        again = "#synthesize" if source is audio else "#decode"
        if streaming:  # registered first, because the browser runs the listeners of a click in order
            button.click(js=BEGIN, outputs=shown, api_name=f"begin_{name}", api_visibility="private")
        done = button.click(
            handler,
            [source, *settings],
            [live, output, report, result] if streaming else [output, report, result],
            js=NOTE % (1 + len(settings), again),
            api_name=name,
            trigger_mode="once" if streaming else "always_last",  # of several changes in a row, the last one counts
            show_progress="hidden" if streaming else "full",  # the player shows it
            **COMPUTE,
        )
        done.success(draw, result, [view, result], api_name=f"draw_{name}", api_visibility="private")
        # an old result beside a new error would mislead
        done.failure(nothing, None, shown, js=FORGET, api_name=f"clear_{name}", api_visibility="private")
        if streaming:
            streams.append(done)
    live.cancel(nothing, None, shown, js=FORGET, cancels=streams, api_name="cancel", api_visibility="private")
    changes = [setting.input for setting in settings]
    gr.on(changes, None, [audio, mel, *settings], js=PRESS_AGAIN, api_name="press_again", api_visibility="private")


def nothing(request: gr.Request) -> tuple[None, None, None, None, str]:
    """What is shown when there is no result."""
    return None, None, None, None, f"<p>{translator(request)('decode-hint')}</p>"


def input_tabs() -> tuple[gr.Audio, gr.File, gr.Button, gr.Button, gr.Button, gr.Button]:
    """The inputs. Each has its own tab and buttons, so it is always clear which input a button uses."""
    with gr.Tabs():
        with gr.Tab(label("audio")):
            audio = gr.Audio(label=label("audio"), type="filepath", buttons=["download"], elem_id="input-audio")
            examples(audio, "examples", "load_example")
            with gr.Row():
                from_audio = gr.Button(label("synthesize"), variant="primary", elem_id="synthesize")
                hear_audio = gr.Button(label("listen"), elem_id="listen")
        with gr.Tab(label("mel-file")):
            mel = gr.File(
                label=label("mel-spectrogram"), file_types=list(tts_infer.FEATURE_SUFFIXES), elem_id="input-mel"
            )
            with gr.Row():
                from_mel = gr.Button(label("decode"), variant="primary", elem_id="decode")
                hear_mel = gr.Button(label("listen"), elem_id="listen-mel")
    return audio, mel, from_audio, hear_audio, from_mel, hear_mel


def examples(audio: gr.Audio, elem_id: str, api_name: str) -> None:
    """Clips that are one click away."""
    # Gradio would serve copies from its cache, which are removed with the uploads.
    gr.set_static_paths(list(EXAMPLES))
    gr.Examples(
        [[str(path)] for path in EXAMPLES],
        audio,
        example_labels=[path.stem.capitalize() for path in EXAMPLES],
        label=label("examples"),
        elem_id=elem_id,
        api_name=api_name,
    )
