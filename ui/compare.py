"""The Compare tab: one clip with several settings, to compare by ear (blind if wished), by time and by error."""

from __future__ import annotations

import dataclasses
import html
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr
import torch

import tts_infer
from tts_infer import pictures
from ui.decode import examples
from ui.results import result_view, table
from ui.session import AUTO, COMPUTE, KEEP_S, Refine, Report, Result, given, load, read_input, run, shown_errors
from ui.settings import dropdown, usable_placements
from ui.texts import Translator, label, translator

SETTINGS = ("vocoder", "placement", "istft", "dtype", "refine")
REFINE = SETTINGS.index("refine")  # named with its value, since a number alone would not say what it counts
PREFIX = "compare-"  # of element ids
MOST = 6  # players that fit on a page, and that a listener can tell apart


@dataclass(frozen=True)
class Comparison:
    """What came out, in the order of the players."""

    reports: list[Report]
    hidden: bool  # which sample is which, until the listener asks

    @property
    def names(self) -> list[str]:
        return [report["name"] for report in self.reports]


def compare(
    audio: str | None,
    vocoders: list[str],
    placements: list[str],
    istft: list[str],
    dtypes: list[str],
    blind: bool = False,
    refine: Sequence[str] = (AUTO,),
    request: gr.Request | None = None,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio recognises the parameter by this default
) -> tuple[Any, ...]:
    """Copy-synthesise one clip with every combination of the given settings, two to six of them.

    Each runs twice, and the second run is measured. Errors are in the mel convention of the first.

    Parameters:
        audio: WAV, FLAC, OGG or MP3 file, any sample rate and channel count
        vocoders: names of known vocoders
        placements: "auto", devices, or named placements
        istft: inverse STFT methods
        dtypes: number formats of the matrix products
        blind: shuffle the outputs and leave the report empty
        refine: numbers of passes that pull the output's mel to the input's; "auto" is what suits the vocoder

    Returns:
        six outputs as 16-bit WAV, the last ones empty if there are fewer, and the report: for each combination its
        name, its settings, error_to_input_db, error_to_first_db, and the report of /synthesize
    """
    with shown_errors(request, audio) as say:
        audio = given("audio", audio)
        settings = list(itertools.product(*(some or () for some in (vocoders, placements, istft, dtypes, refine))))
        if not 2 <= len(settings) <= MOST:
            raise tts_infer.InputError(
                "These settings make {count} combinations; choose two to {most}.",
                code="page-combinations",
                count=len(settings),
                most=MOST,
            )
        results, first = [], None
        for vocoder, place, method, dtype, passes in progress.tqdm(settings, desc=say("decoding")):
            model = load(vocoder, **where(place), istft=method, dtype=dtype, refine=passes)
            samples = read_input(model, "audio", audio)
            run(model, "audio", samples)
            results.append(run(model, "audio", samples))
            first = first or model
        assert first is not None
        reports = with_errors(first, settings, results)
        outputs = list(zip((result.audio for result in results), reports, strict=True))
        if blind:  # shuffled, so that nobody knows the order
            random.shuffle(outputs)
        audios = [audio for audio, _ in outputs]
        comparison = Comparison([report for _, report in outputs], hidden=blind)
        return (*audios, *[None] * (MOST - len(audios)), None if blind else comparison.reports, comparison)


def where(placement: str) -> dict[str, str]:
    """A choice of the Placement field as arguments of `load`."""
    named = placement in tts_infer.named_placements()
    return {"placement": placement} if named else {"device": placement}


def with_errors(
    first: tts_infer.Vocoder, settings: Sequence[tuple[str, ...]], results: Sequence[Result]
) -> list[Report]:
    """The reports, each with its settings, and its log-mel errors in the first vocoder's convention.

    A result is named after those settings that are not the same for all.
    """
    differing = [i for i, values in enumerate(zip(*settings, strict=True)) if len(set(values)) > 1]
    reference = results[0].view.input_mel
    mels = [mel_as(first, result) for result in results]
    return [
        {
            "name": " · ".join(f"refine {setting[i]}" if i == REFINE else setting[i] for i in differing),
            **dict(zip(SETTINGS, setting, strict=True)),
            "error_to_input_db": tts_infer.log_mel_error_db(reference, mel, first.mel_config),
            "error_to_first_db": tts_infer.log_mel_error_db(mels[0], mel, first.mel_config),
            **result.view.report,  # of refine, the number of passes that ran
        }
        for setting, result, mel in zip(settings, results, mels, strict=True)
    ]


def mel_as(model: tts_infer.Vocoder, result: Result) -> torch.Tensor:
    """The mel of a result's output in the convention of another vocoder. Shape: (n_mels, L)"""
    if result.view.mel_config == model.mel_config:
        return result.view.output_mel
    clip = tts_infer.AudioClip(result.waveform.numpy(), result.view.mel_config.sample_rate)
    return model.mel(tts_infer.resample(clip, model.sample_rate).samples)[0].cpu()


def reveal(comparison: Comparison | None, request: gr.Request | None = None) -> tuple[list[Report], Comparison]:
    """Say which sample was which."""
    with shown_errors(request):
        if comparison is None:  # it was removed together with the files of its samples
            raise tts_infer.InputError(
                "This comparison has expired: press Compare to make it again.", code="page-expired"
            )
    return comparison.reports, dataclasses.replace(comparison, hidden=False)


def nothing(request: gr.Request) -> tuple[Any, ...]:
    """What is shown when there is no comparison: players, report, comparison, choice, Reveal, figures."""
    players = [gr.Audio(value=None, visible=False)] * MOST
    closed = (gr.Radio(value=None, visible=False), gr.Button(visible=False))
    return (*players, None, None, *closed, f"<p>{translator(request)('compare-hint')}</p>")


def draw_comparison(comparison: Comparison, preferred: str | None, request: gr.Request) -> tuple[Any, ...]:
    """Name the players and show the figures. In a blind test, ask for a choice instead."""
    with shown_errors(request) as say:
        samples = [f"{say('sample')} {i + 1}" for i in range(len(comparison.names))]
        labels = (
            samples if comparison.hidden else [": ".join(pair) for pair in zip(samples, comparison.names, strict=True)]
        )
        players = [gr.Audio(label=text, visible=True) for text in labels]
        unused = [gr.Audio(visible=False)] * (MOST - len(players))
        if comparison.hidden:
            ask = say("blind-hint")
            return (
                *players,
                *unused,
                gr.Radio(samples, value=None, visible=True),
                gr.Button(visible=True),
                f"<p>{ask}</p>",
            )
        chosen = f"<p>{say('preferred')}: {html.escape(preferred)}.</p>" if preferred else ""
        closed = (gr.Radio(value=None, visible=False), gr.Button(visible=False))
        return (*players, *unused, *closed, chosen + figures(comparison, say))


def figures(comparison: Comparison, say: Translator) -> str:
    """The table of times and errors, and the waterfalls on one time axis."""
    span_ms = max(report["total_ms"] for report in comparison.reports)
    waterfalls = "".join(
        f"<h3>{html.escape(report['name'])}</h3>"
        + pictures.stage_waterfall(report["stages"], report["total_ms"], span_ms=span_ms, words=say.phrase)
        for report in comparison.reports
    )
    return comparison_table(comparison.reports, say) + waterfalls


def comparison_table(reports: Sequence[Report], say: Translator) -> str:
    """One row per setting."""
    heads = ("sample", "settings", "ms", "times-real-time", "error-to-input-db", "error-to-first-db", "clipped-samples")
    rows = [
        [
            str(i + 1),
            html.escape(report["name"]),
            f"{report['total_ms']:.2f}",
            f"{report['rtfx']:.1f}",
            f"{report['error_to_input_db']:.2f}",
            f"{report['error_to_first_db']:.4f}",
            str(report["clipped_samples"]),
        ]
        for i, report in enumerate(reports)
    ]
    return f'<div class="tts-wrap">{table(say("compare"), [say(head) for head in heads], rows, texts=2)}</div>'


def compare_tab(vocoders: Sequence[str]) -> None:
    """Lay the tab out and connect it."""
    places = list(dict.fromkeys([AUTO, *tts_infer.available_devices(), *usable_placements()]))
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            audio = gr.Audio(label=label("audio"), type="filepath", buttons=["download"], elem_id="compare-audio")
            examples(audio, "compare-examples", "load_example_to_compare")
        with gr.Column(scale=3, min_width=300):
            settings = [
                dropdown("vocoder", vocoders, vocoders[:1], PREFIX),
                dropdown("placement", places, [AUTO], PREFIX),
                dropdown("istft-method", get_args(tts_infer.MethodChoice), ["matmul", "fft"], PREFIX),
                dropdown("number-format", usable_dtypes(), ["float32"], PREFIX),
            ]
            refine = dropdown("refine", get_args(Refine), [AUTO], PREFIX)
            blind = gr.Checkbox(label=label("blind"), elem_id="compare-blind")
            button = gr.Button(label("compare"), variant="primary", elem_id="compare")
    with gr.Row():
        players = [
            gr.Audio(interactive=False, visible=False, buttons=["download"], min_width=280, elem_id=f"sample-{i + 1}")
            for i in range(MOST)
        ]
    preferred = gr.Radio(label=label("prefer"), visible=False, elem_id="compare-preferred")
    show = gr.Button(label("reveal"), visible=False, elem_id="compare-reveal")
    view = result_view(label("compare-hint"), "comparison")
    with gr.Accordion(label("report-json"), open=False):
        report = gr.JSON(label=label("report-json"), show_label=False, elem_id="compare-report")
    state = gr.State(time_to_live=KEEP_S)
    drawing: dict[str, Any] = {
        "fn": draw_comparison,
        "inputs": [state, preferred],
        "outputs": [*players, preferred, show, view],
        "api_visibility": "private",
    }
    inputs, outputs = [audio, *settings, blind, refine], [*players, report, state]
    done = button.click(compare, inputs, outputs, api_name="compare", **COMPUTE)
    done.success(**drawing, api_name="draw_comparison")
    # an old result beside a new error would mislead
    shown = [*outputs, preferred, show, view]
    done.failure(nothing, None, shown, api_name="clear_comparison", api_visibility="private")
    told = show.click(reveal, state, [report, state], api_name="reveal", api_visibility="private")
    told.success(**drawing, api_name="draw_revealed")


def usable_dtypes() -> list[str]:
    """The number formats that some device here is good at."""
    devices = tts_infer.available_devices()
    return [dtype for dtype in get_args(tts_infer.DTypeName) if any(is_good_at(device, dtype) for device in devices)]


def is_good_at(device: str, dtype: tts_infer.DTypeName) -> bool:
    """Whether a device takes a number format."""
    try:
        tts_infer.make_placement(device=device, dtype=dtype, check=False)
    except tts_infer.PlacementError:
        return False
    return True
