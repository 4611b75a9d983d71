"""The Compare tab: one clip with several settings, to compare by ear (blind if wished), by time and by error."""

from __future__ import annotations

import dataclasses
import html
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import gradio as gr

import tts_infer
from ui.common_scene import scene_of
from ui.comparison import figures, with_errors
from ui.decode import EXAMPLES, error_html, examples, inline_error
from ui.listening import Kind, closed, listening_test, offered, prepared
from ui.results import notes, result_view
from ui.scenes import facts_of
from ui.scope import scope, value_of
from ui.session import (
    AUTO,
    COMPUTE,
    KEEP_S,
    Input,
    Refine,
    Report,
    Result,
    failure,
    given,
    load,
    read_input,
    shown_errors,
)
from ui.settings import dropdown, usable_dtypes, usable_placements
from ui.status import PRESSED
from ui.synthesis import run
from ui.texts import Translator, label
from ui.work import desk

PREFIX = "compare-"  # of element ids
MOST = 6  # players that fit on a page, and that a listener can tell apart


@dataclass(frozen=True)
class Comparison:
    """What came out, in the order of the players."""

    reports: list[Report]
    scene: str
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
) -> tuple[Any, ...]:
    """Copy-synthesise one clip with every combination of the given settings, two to six of them.

    The beginning is decoded twice, and only the second run is measured. Errors are in the mel convention of the first.

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
    with shown_errors(request, audio, inline=True), desk.job(request) as job:
        audio = given("audio", audio)
        settings: list[Any] = list(
            itertools.product(*(some or () for some in (vocoders, placements, istft, dtypes, refine)))
        )
        if not 2 <= len(settings) <= MOST:
            raise tts_infer.InputError(
                "These settings make {count} combinations; choose two to {most}.",
                code="page-combinations",
                count=len(settings),
                most=MOST,
            )
        results: list[Result] = []
        models: list[tts_infer.Vocoder] = []
        for vocoder, place, method, dtype, passes in settings:
            with desk.turn(job):
                model = load(vocoder, **where(place), istft=method, dtype=dtype, refine=passes)
            clip = read_input(model, "audio", audio, desk.turns(job))
            job.what, job.total = "comparing", len(settings) * clip.seconds(model)
            run(model, beginning(clip, model), desk.turns(job))
            results.append(run(model, clip, desk.turns(job), job.advance))
            job.done = len(results) * clip.seconds(model)
            models.append(model)
        first = models[0]
        reports = with_errors(first, settings, results)
        outputs = list(zip(results, reports, strict=True))
        if blind:  # shuffled, so that nobody knows the order
            random.shuffle(outputs)
        scene = scene_of(first, [result for result, _ in outputs], reports, Path(audio).stem, blind)
        files = [sound["file"] for sound in facts_of(scene)["sounds"][1:]]
        comparison = Comparison([report for _, report in outputs], scene, hidden=blind)
        return (*files, *[None] * (MOST - len(files)), None if blind else comparison.reports, comparison)


def beginning(clip: Input, model: tts_infer.Vocoder) -> Input:
    """The first second of a clip, enough for everything to be set up."""
    return dataclasses.replace(clip, value=clip.value[:, : max(model.sample_rate, model.mel_config.n_fft)])


def where(placement: str) -> dict[str, str]:
    """A choice of the Placement field as arguments of `load`."""
    named = placement in tts_infer.named_placements()
    return {"placement": placement} if named else {"device": placement}


def reveal(comparison: Comparison | None, request: gr.Request | None = None) -> tuple[list[Report], Comparison]:
    """Say which sample was which."""
    with shown_errors(request, inline=True):
        comparison = there(comparison)
    return comparison.reports, dataclasses.replace(comparison, hidden=False)


def start_listening(
    comparison: Comparison | None, kind: Kind, one: int | None, other: int | None, trials: float, request: gr.Request
) -> dict[str, Any]:
    """Begin a listening test with the sounds of a comparison; see `ui.listening.prepared`."""
    with shown_errors(request, inline=True) as say, desk.job(request) as job:
        comparison = there(comparison)
        with desk.turn(job):
            return prepared(comparison.scene, names_of(comparison, say), kind, one, other, trials)


def there(comparison: Comparison | None) -> Comparison:
    """The comparison that is shown.

    Raises:
        InputError: it was removed together with the files of its samples.
    """
    if comparison is None:
        raise tts_infer.InputError("This comparison has expired: press Compare to make it again.", code="page-expired")
    return comparison


def names_of(comparison: Comparison, say: Translator) -> list[str]:
    """What the sounds are called, the original first."""
    samples = [f"{say('sample')} {i + 1}" for i in range(len(comparison.names))]
    return [say("original"), *(samples if comparison.hidden else comparison.names)]


def failed(request: gr.Request) -> tuple[Any, ...]:
    """What is shown after an error: nothing of the comparison and of its listening test, and the error."""
    message = failure(request)
    if message is None:
        return (gr.skip(),) * 11
    choice = (gr.Radio(value=None, visible=False), gr.Button(visible=False))
    return (None, None, *choice, "", None, *closed(), error_html(message))


def draw_comparison(comparison: Comparison, preferred: str | None, request: gr.Request) -> tuple[Any, ...]:
    """Name the sounds and show the figures. In a blind test, ask for a choice instead.

    Returns:
        choice, Reveal, figures, player, and what a listening test needs, see `ui.listening.offered`
    """
    if comparison is None:
        return (gr.skip(),) * 8
    with shown_errors(request) as say:
        shown = names_of(comparison, say)
        names = {"original": shown[0]} | {str(i): name for i, name in enumerate(shown) if i}
        odd = [note for report in comparison.reports[:1] for note in report["notes"]]
        above = f"<p>{html.escape(say('blind-hint'))}</p>" if comparison.hidden else notes(odd, say)
        value = value_of(comparison.scene, facts_of(comparison.scene), names, above, "", say)
        if comparison.hidden:
            choice = (gr.Radio(shown[1:], value=None, visible=True), gr.Button(visible=True))
            return (*choice, "", value, *offered(shown))
        chosen = f"<p>{say('preferred')}: {html.escape(preferred)}.</p>" if preferred else ""
        choice = (gr.Radio(value=None, visible=False), gr.Button(visible=False))
        return (*choice, chosen + figures(comparison.reports, say), value, *offered(shown))


def failed_test(request: gr.Request) -> Any:
    """The error of a listening test that could not begin. The comparison stays."""
    message = failure(request)
    return gr.skip() if message is None else error_html(message)


def compare_tab(vocoders: Sequence[str]) -> None:
    """Lay the tab out and connect it."""
    places = list(dict.fromkeys([AUTO, *tts_infer.available_devices(), *usable_placements()]))
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            audio = gr.Audio(label=label("audio"), type="filepath", buttons=["download"], elem_id="compare-audio")
            examples(audio, EXAMPLES, "compare-examples", "load_example_to_compare")
        with gr.Column(scale=3, min_width=300):
            settings = [
                dropdown("vocoder", vocoders, vocoders[:1], PREFIX),
                dropdown("placement", places, [AUTO], PREFIX),
                dropdown("istft-method", get_args(tts_infer.MethodChoice), [AUTO], PREFIX),
                dropdown("number-format", usable_dtypes(), ["float32"], PREFIX),
            ]
            refine = dropdown("refine", get_args(Refine), ["0", "8"], PREFIX)
            blind = gr.Checkbox(label=label("blind"), elem_id="compare-blind")
            button = gr.Button(label("compare"), variant="primary", elem_id="compare")
    error = inline_error("compare-error")
    preferred = gr.Radio(label=label("prefer"), visible=False, elem_id="compare-preferred")
    show = gr.Button(label("reveal"), visible=False, elem_id="compare-reveal")
    player = scope(label("compare-hint"), "samples")
    test = listening_test()
    view = result_view("", "comparison")
    outputs = [gr.Audio(visible=False, elem_id=f"sample-{i + 1}") for i in range(MOST)]
    with gr.Accordion(label("report-json"), open=False):
        report = gr.JSON(label=label("report-json"), show_label=False, elem_id="compare-report")
    state = gr.State(time_to_live=KEEP_S)
    tests = [test.panel, test.one, test.other, test.player]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    drawing: dict[str, Any] = {
        "fn": draw_comparison,
        "inputs": [state, preferred],
        "outputs": [preferred, show, view, player, *tests],
        **private,
    }
    done = button.click(
        compare,
        [audio, *settings, blind, refine],
        [*outputs, report, state],
        js=PRESSED,
        api_name="compare",
        trigger_mode="multiple",
        show_progress="hidden",
        **COMPUTE,
    )
    done.success(**drawing, api_name="draw_comparison")
    # an old result beside a new error would mislead
    shown = [report, state, preferred, show, view, player, *tests, error]
    done.failure(failed, None, shown, api_name="clear_comparison", **private)
    audio.change(js="() => ''", outputs=error, api_name="forget_compare_error", **private)
    told = show.click(reveal, state, [report, state], api_name="reveal", **private)
    told.success(**drawing, api_name="draw_revealed")
    told.failure(failed, None, shown, api_name="clear_expired", **private)
    begun = test.button.click(
        start_listening,
        [state, test.kind, test.one, test.other, test.trials],
        test.player,
        js=PRESSED,
        api_name="start_listening",
        **private,
    )
    begun.failure(failed_test, None, test.error, api_name="clear_listening", **private)
    begun.success(lambda: "", None, test.error, js="() => ''", api_name="well_listening", **private)
