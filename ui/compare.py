"""The Compare tab: one clip through several settings, by ear (blind, if wished), by clock and by error."""

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
from ui.engine import AUTO, COMPUTE, KEEP_S, NO_AUDIO, Refine, Report, Result, load, read_samples, run, shown_errors
from ui.results import result_view, table
from ui.texts import Words, label, words_of

TOO_MANY = "These settings make {count} combinations; choose two to {most}."
HINT = "Every combination of the chosen settings is run on the same clip."
EXPIRED = "This comparison has expired: press Compare to make it again."
SETTINGS = ("vocoder", "placement", "istft", "dtype", "refine")
REFINE = SETTINGS.index("refine")  # a number by itself would not say what it counts
MOST = 6  # players that fit on a page, and that ears can tell apart


@dataclass(frozen=True)
class Comparison:
    """What came out, in the order of the players."""

    reports: list[Report]
    hidden: bool  # until the listener asks

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
    words = words_of(request)
    with shown_errors(words, audio):
        if audio is None:
            raise tts_infer.InputError(NO_AUDIO)
        settings = list(itertools.product(*(some or () for some in (vocoders, placements, istft, dtypes, refine))))
        if not 2 <= len(settings) <= MOST:
            raise tts_infer.InputError(words(TOO_MANY).format(count=len(settings), most=MOST))
        results, first = [], None
        for vocoder, place, method, dtype, passes in progress.tqdm(settings, desc=words("Decoding")):
            model = load(vocoder, **where(place), istft=method, dtype=dtype, refine=passes)
            samples = read_samples(audio, model.sample_rate)
            run(model, audio=samples)
            results.append(run(model, audio=samples))
            first = first or model
        assert first is not None
        reports = with_errors(first, settings, results)
        outputs = list(zip((result.audio for result in results), reports, strict=True))
        if blind:  # in an order that nobody knows
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
    with shown_errors(words_of(request)):
        if comparison is None:  # it lives as long as the files of its samples
            raise tts_infer.InputError(EXPIRED)
    return comparison.reports, dataclasses.replace(comparison, hidden=False)


def nothing(request: gr.Request) -> tuple[Any, ...]:
    """What is shown when there is no comparison: players, report, comparison, choice, Reveal, figures."""
    players = [gr.Audio(value=None, visible=False)] * MOST
    closed = (gr.Radio(value=None, visible=False), gr.Button(visible=False))
    return (*players, None, None, *closed, f"<p>{words_of(request)(HINT)}</p>")


def draw_comparison(comparison: Comparison, preferred: str | None, request: gr.Request) -> tuple[Any, ...]:
    """Name the players and show the figures; in a blind test, ask for a choice instead."""
    words = words_of(request)
    with shown_errors(words):
        samples = [f"{words('Sample')} {i + 1}" for i in range(len(comparison.names))]
        labels = (
            samples if comparison.hidden else [": ".join(pair) for pair in zip(samples, comparison.names, strict=True)]
        )
        players = [gr.Audio(label=text, visible=True) for text in labels]
        unused = [gr.Audio(visible=False)] * (MOST - len(players))
        if comparison.hidden:
            ask = words("Listen, choose the sample you prefer, and reveal which is which.")
            return (
                *players,
                *unused,
                gr.Radio(samples, value=None, visible=True),
                gr.Button(visible=True),
                f"<p>{ask}</p>",
            )
        chosen = f"<p>{words('You preferred')}: {html.escape(preferred)}.</p>" if preferred else ""
        closed = (gr.Radio(value=None, visible=False), gr.Button(visible=False))
        return (*players, *unused, *closed, chosen + figures(comparison, words))


def figures(comparison: Comparison, words: Words) -> str:
    """The table of times and errors, and the waterfalls on one time axis."""
    span_ms = max(report["total_ms"] for report in comparison.reports)
    waterfalls = "".join(
        f"<h3>{html.escape(report['name'])}</h3>"
        + pictures.stage_waterfall(report["stages"], report["total_ms"], span_ms=span_ms, words=words)
        for report in comparison.reports
    )
    return comparison_table(comparison.reports, words) + waterfalls


def comparison_table(reports: Sequence[Report], words: Words) -> str:
    """One row per setting."""
    heads = ("Sample", "Settings", "ms", "× real time", "Error to input (dB)", "Error to first (dB)", "Clipped samples")
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
    name = words("Compare")
    return f'<div class="tts-wrap">{table(name, [words(head) for head in heads], rows, texts=2)}</div>'


def compare_tab(vocoders: Sequence[str]) -> None:
    """Lay the tab out and connect it."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            audio = gr.Audio(label=label("Audio"), type="filepath", buttons=["download"], elem_id="compare-audio")
            examples(audio, "compare-examples", "load_example_to_compare")
        with gr.Column(scale=3, min_width=300):
            settings = [
                choices("Vocoder", vocoders, vocoders[:1]),
                choices("Placement", usable_placements(), [AUTO]),
                choices("iSTFT method", get_args(tts_infer.MethodChoice), ["matmul", "fft"]),
                choices("Number format", usable_dtypes(), ["float32"]),
            ]
            refine = choices("Refine", get_args(Refine), [AUTO])
            blind = gr.Checkbox(label=label("Blind test: shuffle, and hide which is which"), elem_id="compare-blind")
            button = gr.Button(label("Compare"), variant="primary", elem_id="compare")
    with gr.Row():
        players = [
            gr.Audio(interactive=False, visible=False, buttons=["download"], min_width=280, elem_id=f"sample-{i + 1}")
            for i in range(MOST)
        ]
    preferred = gr.Radio(label=label("Which do you prefer?"), visible=False, elem_id="compare-preferred")
    show = gr.Button(label("Reveal"), visible=False, elem_id="compare-reveal")
    view = result_view(label(HINT), "comparison")
    with gr.Accordion(label("Report as JSON"), open=False):
        report = gr.JSON(label=label("Report as JSON"), show_label=False, elem_id="compare-report")
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
    # an old result beside a new mistake would mislead
    shown = [*outputs, preferred, show, view]
    done.failure(nothing, None, shown, api_name="clear_comparison", api_visibility="private")
    told = show.click(reveal, state, [report, state], api_name="reveal", api_visibility="private")
    told.success(**drawing, api_name="draw_revealed")


def usable_placements() -> list[str]:
    """ "auto", the devices, and those named placements that this machine can run."""
    names = []
    for name in tts_infer.named_placements():
        try:
            tts_infer.make_placement(name)
        except tts_infer.PlacementError:
            continue
        names.append(name)
    return list(dict.fromkeys([AUTO, *tts_infer.available_devices(), *names]))


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


def choices(name: str, values: Sequence[str], chosen: Sequence[str]) -> gr.Dropdown:
    """A labelled choice of one or more."""
    elem_id = f"compare-{name.lower().replace(' ', '-')}"
    return gr.Dropdown(list(values), value=list(chosen), multiselect=True, label=label(name), elem_id=elem_id)
