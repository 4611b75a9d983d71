"""The Decode tab: one clip or mel in, one waveform out, and everything there is to see about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import gradio as gr

import tts_infer
from ui.engine import (
    AUTO,
    COMPUTE,
    KEEP_S,
    NO_AUDIO,
    NO_MEL,
    Int16Audio,
    Refine,
    Report,
    View,
    load,
    placed,
    read_samples,
    run,
    shown_errors,
)
from ui.listen import player, stream, stream_mel
from ui.results import draw, result_view
from ui.texts import label, words_of

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.wav"))
HINT = "Drop, record or pick something, and press the button."
LISTEN = "Listen as it decodes"
REFINE_HINT = (
    "Refine: passes that pull the output's mel to the input's; each takes time, auto is what suits the vocoder."
)
# The player waits, and the last result goes; unless it plays what is still being made, which goes on.
BEGIN = """() => document.querySelector('#player [data-working]')
    ? Array(5).fill({ __type__: 'update' })
    : [{}, null, null, null, '']"""
# A change of settings runs the input of the result again, whether it is shown or still being made, if the input is
# still there. So each handler notes in the browser which file it is given, and which button makes all of its result.
NOTE = """(...values) => {
    window.ttsInferMade = { button: '%s', path: values[0]?.path };
    return values.slice(0, %d);
}"""
PRESS_AGAIN = """(...inputs) => {
    const { button, path } = window.ttsInferMade ?? {};
    const there = path && inputs.some((input) => input?.path === path);
    if (there) document.querySelector(button)?.click();
}"""
FORGET = "() => { window.ttsInferMade = null; return []; }"


def synthesize(
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
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio recognises the parameter by this default
) -> tuple[Int16Audio, Report, View]:
    """Copy-synthesise audio: make its mel spectrogram, decode it again, and report where the time went.

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
        output audio as 16-bit WAV, and the report: vocoder, sample_rate, seconds, total_ms, rtfx, peak,
        clipped_samples, log_mel_error_db, refine (passes that ran), stages
    """
    words = words_of(request)
    with shown_errors(words, audio):
        if audio is None:
            raise tts_infer.InputError(NO_AUDIO)
        progress(0.1, desc=words("Loading the vocoder"))
        placement = placed(mel_device, backbone_device, head_device, istft_device)
        model = load(vocoder, device, placement, istft, refine=refine)
        progress(0.3, desc=words("Reading the audio"))
        samples = read_samples(audio, model.sample_rate)
        progress(
            0.5, desc=words("Decoding {seconds:.1f} s of audio").format(seconds=samples.shape[1] / model.sample_rate)
        )
        result = run(model, audio=samples)
        return result.audio, result.view.report, result.view


def decode(
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
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio recognises the parameter by this default
) -> tuple[Int16Audio, Report, View]:
    """Decode a log-mel spectrogram from a file, and report where the time went.

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
        output audio as 16-bit WAV, and the report, as in /synthesize
    """
    words = words_of(request)
    with shown_errors(words, mel):
        if mel is None:
            raise tts_infer.InputError(NO_MEL)
        progress(0.1, desc=words("Loading the vocoder"))
        placement = placed(mel_device, backbone_device, head_device, istft_device)
        model = load(vocoder, device, placement, istft, refine=refine)
        progress(0.3, desc=words("Reading the mel"))
        features = tts_infer.read_mel(mel, model.n_mels)
        progress(0.5, desc=words("Decoding {frames} frames").format(frames=features.shape[-1]))
        result = run(model, mel=features)
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
                label=label("Output audio"), interactive=False, buttons=["download"], elem_id="output-audio"
            )
            view = result_view(label(HINT), "result")
            with gr.Accordion(label("Report as JSON"), open=False):
                report = gr.JSON(label=label("Report as JSON"), show_label=False, elem_id="report")
    result = gr.State(time_to_live=KEEP_S)
    shown = [live, output, report, result, view]
    streams = []
    for button, source, handler in zip(
        buttons, (audio, audio, mel, mel), (synthesize, stream, decode, stream_mel), strict=True
    ):
        name, streaming = handler.__name__, handler in (stream, stream_mel)
        again = "#synthesize" if source is audio else "#decode"
        if streaming:  # first, since the browser runs one after the other
            button.click(js=BEGIN, outputs=shown, api_name=f"begin_{name}", api_visibility="private")
        done = button.click(
            handler,
            [source, *settings],
            [live, output, report, result] if streaming else [output, report, result],
            js=NOTE % (again, 1 + len(settings)),
            api_name=name,
            trigger_mode="once" if streaming else "always_last",  # of several changes in a row, the last one counts
            show_progress="hidden" if streaming else "full",  # the player shows it
            **COMPUTE,
        )
        done.success(draw, result, [view, result], api_name=f"draw_{name}", api_visibility="private")
        # an old result beside a new mistake would mislead
        done.failure(nothing, None, shown, js=FORGET, api_name=f"clear_{name}", api_visibility="private")
        if streaming:
            streams.append(done)
    live.cancel(nothing, None, shown, js=FORGET, cancels=streams, api_name="cancel", api_visibility="private")
    changes = [setting.select for setting in settings]
    gr.on(changes, None, [audio, mel], js=PRESS_AGAIN, api_name="press_again", api_visibility="private")


def nothing(request: gr.Request) -> tuple[None, None, None, None, str]:
    """What is shown when there is no result."""
    return None, None, None, None, f"<p>{words_of(request)(HINT)}</p>"


def input_tabs() -> tuple[gr.Audio, gr.File, gr.Button, gr.Button, gr.Button, gr.Button]:
    """The inputs, each in a tab with its own buttons: there is never a question which one is meant."""
    with gr.Tabs():
        with gr.Tab(label("Audio")):
            audio = gr.Audio(label=label("Audio"), type="filepath", buttons=["download"], elem_id="input-audio")
            examples(audio, "examples", "load_example")
            with gr.Row():
                from_audio = gr.Button(label("Synthesize"), variant="primary", elem_id="synthesize")
                hear_audio = gr.Button(label(LISTEN), elem_id="listen")
        with gr.Tab(label("Mel file")):
            mel = gr.File(
                label=label("Mel spectrogram"), file_types=list(tts_infer.FEATURE_SUFFIXES), elem_id="input-mel"
            )
            with gr.Row():
                from_mel = gr.Button(label("Decode"), variant="primary", elem_id="decode")
                hear_mel = gr.Button(label(LISTEN), elem_id="listen-mel")
    return audio, mel, from_audio, hear_audio, from_mel, hear_mel


def examples(audio: gr.Audio, elem_id: str, api_name: str) -> None:
    """Clips that are one click away."""
    # Served from where they are: copies in the cache would be removed with the uploads.
    gr.set_static_paths(list(EXAMPLES))
    gr.Examples(
        [[str(path)] for path in EXAMPLES],
        audio,
        example_labels=[path.stem.capitalize() for path in EXAMPLES],
        label=label("Examples"),
        elem_id=elem_id,
        api_name=api_name,
    )


def settings_panel(vocoders: Sequence[str], device: str) -> list[gr.Dropdown]:
    """The settings, in the order of the handlers' parameters."""
    devices = list(dict.fromkeys([AUTO, *tts_infer.available_devices(), device]))
    with gr.Accordion(label("Settings"), open=False, elem_id="settings"):
        dropdowns = [
            dropdown("Vocoder", vocoders, vocoders[0]),
            dropdown("Device", devices, device),
        ]
        gr.Markdown(label(REFINE_HINT))
        with gr.Row():
            dropdowns.append(dropdown("iSTFT method", get_args(tts_infer.MethodChoice), AUTO))
            refine = dropdown("Refine", get_args(Refine), AUTO)
        gr.Markdown(label("Device of each stage; auto takes the device above."))
        with gr.Row():
            dropdowns += [dropdown(f"{stage} device", devices, AUTO) for stage in ("mel", "backbone", "head", "istft")]
    return [*dropdowns, refine]


def dropdown(name: str, choices: Sequence[str], value: str, prefix: str = "") -> gr.Dropdown:
    """A labelled choice that can be found by a stable id."""
    elem_id = prefix + name.lower().replace(" ", "-")
    return gr.Dropdown(list(choices), value=value, label=label(name), min_width=160, elem_id=elem_id)
