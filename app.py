"""Web page of tts-infer, and entry point of its Hugging Face Space: mel spectrogram or audio in, waveform out.

Nothing here computes: every number on the page comes from `tts_infer`. The two buttons are the two endpoints
`/synthesize` and `/decode`; each returns the audio and a JSON report, and drawing follows as an event of its own, so
that API clients do not receive pictures they did not ask for.
"""

from __future__ import annotations

import argparse
import functools
import html
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import gradio as gr
import numpy as np
import torch

import tts_infer
from tts_infer import pictures

AUTO: Final = "auto"
EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.wav"))
MAX_UPLOAD = "200mb"
# Uploads and results are removed an hour after they were made, and when the server stops.
CLEAN_EVERY_S = KEEP_S = 3600
# One group for everything that computes: calls wait for each other instead of fighting for the same device.
COMPUTE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "compute"}

STYLE = (
    pictures.STYLE
    + """
.tts-tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); gap: 8px; margin: 8px 0 16px; }
.tts-tiles div { padding: 8px 10px; border: 1px solid #8884; border-radius: 6px; }
.tts-tiles dt { font-size: 12px; opacity: .8; }
.tts-tiles dd { margin: 0; font-size: 18px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tts-words { margin: 0; }
h3 { margin: 20px 0 8px; font-size: 15px; }
"""
)

NOTHING_YET = '<p class="tts-words">Drop, record or pick something, and press the button.</p>'

Report = dict[str, Any]
Int16Audio = tuple[int, np.ndarray]


@dataclass(frozen=True)
class Drawing:
    """What the pictures need and the report does not hold."""

    report: Report
    mel_config: tts_infer.MelConfig
    input_mel: torch.Tensor
    output_mel: torch.Tensor


def synthesize(
    audio: str | None,
    vocoder: str,
    device: str = AUTO,
    istft: tts_infer.MethodChoice = AUTO,
    mel_device: str = AUTO,
    backbone_device: str = AUTO,
    head_device: str = AUTO,
    istft_device: str = AUTO,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio recognises the parameter by this default
) -> tuple[Int16Audio, Report, Drawing]:
    """Copy-synthesise audio: make its mel spectrogram, decode it again, and report where the time went.

    Parameters:
        audio: WAV, FLAC, OGG or MP3 file, any sample rate and channel count
        vocoder: name of a known vocoder
        device: device of every stage that is not placed by itself; "auto" takes the best
        istft: inverse STFT method
        mel_device: device of the mel stage; "auto" is `device`
        backbone_device: device of the backbone stage; "auto" is `device`
        head_device: device of the head stage; "auto" is `device`
        istft_device: device of the iSTFT stage; "auto" is `device`

    Returns:
        output audio as 16-bit WAV, and the report: vocoder, sample_rate, seconds, total_ms, xrt, clipped_samples,
        log_mel_error_db, stages
    """
    with shown_errors(audio):
        if audio is None:
            raise tts_infer.InputError("There is no audio yet: drop or record a clip, or pick an example.")
        progress(0.1, desc="Loading the vocoder")
        model = load(vocoder, device, istft, (mel_device, backbone_device, head_device, istft_device))
        progress(0.3, desc="Reading the audio")
        samples = torch.from_numpy(tts_infer.read_audio(audio, sample_rate=model.sample_rate).samples)
        progress(0.5, desc="Decoding")
        return finish(model, model.synthesize(audio=samples[None]))


def decode(
    mel: str | None,
    vocoder: str,
    device: str = AUTO,
    istft: tts_infer.MethodChoice = AUTO,
    mel_device: str = AUTO,
    backbone_device: str = AUTO,
    head_device: str = AUTO,
    istft_device: str = AUTO,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio recognises the parameter by this default
) -> tuple[Int16Audio, Report, Drawing]:
    """Decode a log-mel spectrogram from a file, and report where the time went.

    Parameters:
        mel: .npy, .npz, .safetensors or .pt file of natural-log mels, (n_mels, frames) or (1, n_mels, frames)
        vocoder: name of a known vocoder; the mel must be in its convention
        device: device of every stage that is not placed by itself; "auto" takes the best
        istft: inverse STFT method
        mel_device: not used, a mel is given
        backbone_device: device of the backbone stage; "auto" is `device`
        head_device: device of the head stage; "auto" is `device`
        istft_device: device of the iSTFT stage; "auto" is `device`

    Returns:
        output audio as 16-bit WAV, and the report, as in /synthesize
    """
    with shown_errors(mel):
        if mel is None:
            raise tts_infer.InputError("There is no mel spectrogram yet: drop a .npy, .npz, .safetensors or .pt file.")
        progress(0.1, desc="Loading the vocoder")
        model = load(vocoder, device, istft, (mel_device, backbone_device, head_device, istft_device))
        progress(0.3, desc="Reading the mel")
        features = tts_infer.read_features(mel)
        progress(0.5, desc="Decoding")
        return finish(model, model.synthesize(features))


@functools.lru_cache(maxsize=4)
def load(name: str, device: str, istft: tts_infer.MethodChoice, stage_devices: tuple[str, ...]) -> tts_infer.Vocoder:
    """A vocoder ready to run; the last few are kept."""
    placement: dict[str, str] = {
        stage: where for stage, where in zip(tts_infer.STAGES, stage_devices, strict=True) if where != AUTO
    }
    return tts_infer.load_vocoder(name, device=device, placement=placement or None, istft=istft)


@contextmanager
def shown_errors(upload: str | None) -> Iterator[None]:
    """Show the package's errors, which are sentences for people, as messages on the page.

    Args:
        upload: path of the user's file; the message gives its name, not the server's folder.
    """
    try:
        yield
    except tts_infer.TTSInferError as error:
        message = str(error).replace(upload, Path(upload).name) if upload else str(error)
        raise gr.Error(html.escape(message), duration=None, print_exception=False) from error


def finish(model: tts_infer.Vocoder, result: tts_infer.Synthesis) -> tuple[Int16Audio, Report, Drawing]:
    """The 16-bit audio, its report, and what is left to draw."""
    if result.audio.numel() == 0:
        raise tts_infer.InputError(
            "The input is one mel frame long, which gives no audio; two frames are the shortest."
        )
    samples, clipped = tts_infer.to_int16(result.audio[0])
    input_mel, output_mel = result.features.cpu(), model.mel(result.audio).cpu()
    report = {
        "vocoder": model.name,
        "sample_rate": result.sample_rate,
        "seconds": result.seconds,
        "total_ms": result.total_ms,
        "xrt": result.xrt,
        "clipped_samples": clipped,
        "log_mel_error_db": tts_infer.log_mel_error_db(input_mel, output_mel, model.mel_config),
        "stages": result.stages,
    }
    return (result.sample_rate, samples), report, Drawing(report, model.mel_config, input_mel, output_mel)


def draw(drawing: Drawing) -> str:
    """Draw a result: one line in words, the figures, the mel pictures, the waterfall, the table."""
    report, stages = drawing.report, drawing.report["stages"]
    panels = [("Input mel", drawing.input_mel[0]), ("Output mel", drawing.output_mel[0])]
    return "".join(
        (
            f'<p class="tts-words">{html.escape(in_words(report))}</p>',
            tiles(report),
            pictures.mel_figures(panels, drawing.mel_config),
            f"<h3>Where the time went</h3>{pictures.stage_waterfall(stages)}",
            pictures.stage_table(stages, report["total_ms"]),
        )
    )


def in_words(report: Report) -> str:
    """The result in one sentence."""
    longest = max(report["stages"], key=lambda stage: stage["ms"])
    share = 100 * longest["ms"] / report["total_ms"]
    clipped = report["clipped_samples"]
    return (
        f"{report['seconds']:.2f} s of audio in {report['total_ms']:.1f} ms, {report['xrt']:.0f} x real time; "
        f"{share:.0f} % {longest['stage']} on {longest['device']}; "
        + (f"{clipped} samples clipped." if clipped else "nothing clipped.")
    )


def tiles(report: Report) -> str:
    """The main figures as a list of terms and values."""
    values = (
        ("Time", f"{report['total_ms']:.1f} ms"),
        ("× real time", f"{report['xrt']:.1f}"),
        ("Audio", f"{report['seconds']:.2f} s"),
        ("Log-mel error", f"{report['log_mel_error_db']:.2f} dB"),
        ("Clipped samples", str(report["clipped_samples"])),
    )
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in values)
    return f'<dl class="tts-tiles">{items}</dl>'


def build_demo(vocoder: str | None = None, device: str = AUTO) -> gr.Blocks:
    """The page, ready to launch or to mount inside another Gradio app.

    Args:
        vocoder: the vocoder selected at first; the embedded one when None.
        device: the device selected at first.
    """
    with gr.Blocks(title="tts-infer", analytics_enabled=False, delete_cache=(CLEAN_EVERY_S, KEEP_S)) as demo:
        gr.Markdown("# tts-infer\nA mel spectrogram or audio in, a waveform out, and where the time goes in between.")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                audio, mel, buttons = input_tabs()
                settings = settings_panel(vocoder, device)
            with gr.Column(scale=3, min_width=320):
                output = gr.Audio(label="Output audio", interactive=False, buttons=["download"], elem_id="output-audio")
                picture = gr.HTML(
                    NOTHING_YET, css_template=STYLE, apply_default_css=False, padding=True, elem_id="result"
                )
                with gr.Accordion("Report as JSON", open=False):
                    report = gr.JSON(show_label=False, elem_id="report")
        drawing = gr.State(time_to_live=KEEP_S)
        for button, source, handler in zip(buttons, (audio, mel), (synthesize, decode), strict=True):
            run = button.click(
                handler, [source, *settings], [output, report, drawing], api_name=handler.__name__, **COMPUTE
            )
            run.success(draw, drawing, picture, api_name=f"draw_{handler.__name__}", api_visibility="private")
    return demo


def input_tabs() -> tuple[gr.Audio, gr.File, tuple[gr.Button, gr.Button]]:
    """The inputs, each in a tab with its own button: there is never a question which one is meant."""
    with gr.Tabs():
        with gr.Tab("Audio", id="audio"):
            audio = gr.Audio(label="Audio", type="filepath", buttons=["download"], elem_id="input-audio")
            gr.Examples(
                [[str(path)] for path in EXAMPLES],
                audio,
                example_labels=[path.stem.capitalize() for path in EXAMPLES],
                label="Examples",
                elem_id="examples",
            )
            from_audio = gr.Button("Synthesize", variant="primary", elem_id="synthesize")
        with gr.Tab("Mel file", id="mel"):
            mel = gr.File(
                label="Mel spectrogram",
                type="filepath",
                file_types=list(tts_infer.FEATURE_SUFFIXES),
                elem_id="input-mel",
            )
            from_mel = gr.Button("Decode", variant="primary", elem_id="decode")
    return audio, mel, (from_audio, from_mel)


def settings_panel(vocoder: str | None, device: str) -> list[gr.Dropdown]:
    """The settings, in the order of the handlers' parameters."""
    names = list(tts_infer.known_vocoders())
    devices = [AUTO, *tts_infer.available_devices()]
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        dropdowns = [
            dropdown("Vocoder", names, vocoder or names[0]),
            dropdown("Device", devices, device),
            dropdown("iSTFT method", get_args(tts_infer.MethodChoice), AUTO),
        ]
        gr.Markdown("Device of each stage; auto takes the device above.")
        with gr.Row():
            dropdowns += [dropdown(f"{stage} device", devices, AUTO, min_width=120) for stage in tts_infer.STAGES]
    return dropdowns


def dropdown(label: str, choices: Sequence[str], value: str, min_width: int = 160) -> gr.Dropdown:
    """A labelled choice that can be found by a stable id."""
    elem_id = label.lower().replace(" ", "-")
    return gr.Dropdown(list(choices), value=value, label=label, min_width=min_width, elem_id=elem_id)


def launch_options() -> dict[str, Any]:
    """What Gradio takes at launch rather than at build: system fonts, no recording of runs, the upload limit."""
    theme = gr.themes.Default(
        primary_hue="blue", font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace")
    )
    return {
        "theme": theme,
        "run_history": False,
        "footer_links": ["api", "settings"],
        "max_file_size": MAX_UPLOAD,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page until interrupted."""
    parser = argparse.ArgumentParser(description="Web page of tts-infer.")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME, or this machine only)")
    parser.add_argument("--port", type=int, help="port (default: GRADIO_SERVER_PORT, or the first free one from 7860)")
    parser.add_argument("--share", action="store_true", help="also open a public link through gradio.live")
    parser.add_argument("--open", action="store_true", help="open the page in the web browser")
    args = parser.parse_args(arguments)
    build_demo().launch(
        server_name=args.host,
        server_port=args.port,
        share=args.share,
        inbrowser=args.open,
        **launch_options(),
    )


if __name__ == "__main__":
    main()
