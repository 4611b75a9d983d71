"""The Compare tab: one clip with several settings, to compare by ear (blind if wished), by time and by error."""

from __future__ import annotations

import dataclasses
import html
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import gradio as gr

import tts_infer
from ui.common_scene import scene_of
from ui.comparison import figures, reports_of
from ui.contest import MOST, Choices, compared
from ui.decode import EXAMPLES, error_html, examples, inline_error
from ui.folder import shared
from ui.listening import Kind, ListeningTest, closed, listening_test, offered, prepared
from ui.results import notes, result_view
from ui.scenes import facts_of
from ui.scope import scope, value_of
from ui.session import AUTO, COMPUTE, KEEP_S, DType, Refine, Report, failure, given, shown_errors
from ui.settings import dropdown, usable_dtypes, usable_placements
from ui.status import PRESSED
from ui.texts import Translator, label
from ui.work import desk

PREFIX = "compare-"  # of element ids
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# The example is compared when the tab is opened for the first time; what runs for the page is waited for, not ended.
FIRST_OPENED = """async () => {
    if (window.ttsInferCompared) return;
    window.ttsInferCompared = 'waiting';
    const waits = () => window.ttsInferCompared === 'waiting';
    const busy = () => document.querySelector('#status [data-busy]');
    while (waits() && busy()) await new Promise((resolve) => setTimeout(resolve, 100));
    const button = document.querySelector('#compare');
    if (waits() && button.checkVisibility()) button.click();
    else if (waits()) window.ttsInferCompared = undefined;
}"""
COMPARE = PRESSED.replace("{", "{ window.ttsInferCompared = 'pressed';", 1)


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
    istft: list[tts_infer.MethodChoice],
    dtypes: list[DType],
    blind: bool = False,
    refine: Sequence[str] = (AUTO,),
    request: gr.Request | None = None,
) -> tuple[Any, ...]:
    """Copy-synthesise one clip with every combination of the given settings, two to six of them.

    The first 30 s of the clip are used. The combinations take turns: each runs once untimed, and three times timed.

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
        name, its settings, error_to_input_db (in its own mel convention), error_to_first_db (in that of the first), and
        the report of /synthesize, with the median times, and runs, least_ms and most_ms
    """
    with shown_errors(request, audio, inline=True), desk.job(request) as job:
        audio, choices = given("audio", audio), Choices(vocoders, placements, istft, dtypes, refine)
        settings = choices.combinations()
        found = compared(audio, choices.systems(job), job)
        reports, order = reports_of(settings, found), list(range(len(settings)))
        if blind:
            random.shuffle(order)
        shown = [reports[i] for i in order]
        scene = scene_of(found, order, shown, Path(audio).stem, blind)
        files = [sound["file"] for sound in facts_of(scene)["sounds"][1:]]
        comparison = Comparison(shown, scene, hidden=blind)
        return (*files, *[None] * (MOST - len(files)), None if blind else shown, comparison)


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
        facts = facts_of(comparison.scene)
        value = value_of(comparison.scene, facts, names, above, "", say, blind=comparison.hidden)
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


def compare_tab(tab: gr.Tab, vocoders: Sequence[str], example: bool) -> None:
    """Lay the tab out and connect it.

    Args:
        tab: what it is laid out in.
        vocoders: names to choose from; the first one is chosen.
        example: whether an example is there, and compared when the tab is opened.
    """
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            first = str(shared(EXAMPLES[:1])[0]) if example else None
            audio = gr.Audio(
                first, label=label("audio"), type="filepath", buttons=["download"], elem_id="compare-audio"
            )
            examples(audio, EXAMPLES, "compare-examples", "load_example_to_compare")
        with gr.Column(scale=3, min_width=300):
            inputs = [audio, *settings_of_comparison(vocoders)]
            button = gr.Button(label("compare"), variant="primary", elem_id="compare")
    result = ComparisonView.laid_out()
    connect(button, inputs, result)
    audio.change(js="() => ''", outputs=result.error, api_name="forget_compare_error", **PRIVATE)
    if example:
        tab.select(js=FIRST_OPENED, api_name="first_comparison", api_visibility="private")


def settings_of_comparison(vocoders: Sequence[str]) -> list[Any]:
    """The settings, in the order of the parameters of `compare`."""
    places = list(dict.fromkeys([AUTO, *tts_infer.available_devices(), *usable_placements()]))
    settings: list[Any] = [
        dropdown("vocoder", vocoders, vocoders[:1], PREFIX),
        dropdown("placement", places, [AUTO], PREFIX, info="placements-hint"),
        dropdown("istft-method", get_args(tts_infer.MethodChoice), [AUTO], PREFIX, info="istft-hint"),
        dropdown("number-format", usable_dtypes(), ["float32"], PREFIX, info="dtype-hint"),
    ]
    refine = dropdown("refine", get_args(Refine), ["0", "16"], PREFIX, info="refine-hint")
    blind = gr.Checkbox(label=label("blind"), elem_id="compare-blind")
    return [*settings, blind, refine]


@dataclass(frozen=True)
class ComparisonView:
    """The components that show a comparison."""

    error: gr.HTML
    preferred: gr.Radio
    reveal: gr.Button
    player: gr.HTML
    test: ListeningTest
    figures: gr.HTML
    outputs: list[gr.Audio]
    report: gr.JSON
    state: gr.State

    @classmethod
    def laid_out(cls) -> ComparisonView:
        """Lay them out, from top to bottom."""
        error = inline_error("compare-error")
        preferred = gr.Radio(label=label("prefer"), visible=False, elem_id="compare-preferred")
        show = gr.Button(label("reveal"), visible=False, elem_id="compare-reveal")
        player = scope(label("compare-hint"), "samples")
        test = listening_test()
        view = result_view("", "comparison")
        outputs = [gr.Audio(visible=False, elem_id=f"sample-{i + 1}") for i in range(MOST)]
        with gr.Accordion(label("report-json"), open=False):
            report = gr.JSON(label=label("report-json"), show_label=False, elem_id="compare-report")
        return cls(error, preferred, show, player, test, view, outputs, report, gr.State(time_to_live=KEEP_S))

    @property
    def drawn(self) -> list[Any]:
        """What `draw_comparison` fills."""
        tests = [self.test.panel, self.test.one, self.test.other, self.test.player]
        return [self.preferred, self.reveal, self.figures, self.player, *tests]


def connect(button: gr.Button, inputs: Sequence[Any], result: ComparisonView) -> None:
    """Compare at a click, reveal a blind comparison, and start listening tests."""
    drawing = {"fn": draw_comparison, "inputs": [result.state, result.preferred], "outputs": result.drawn, **PRIVATE}
    # an old result beside a new error would mislead
    shown = [result.report, result.state, *result.drawn, result.error]
    done = button.click(
        compare,
        inputs,
        [*result.outputs, result.report, result.state],
        js=COMPARE,
        api_name="compare",
        trigger_mode="multiple",
        show_progress="hidden",
        **COMPUTE,
    )
    done.success(**drawing, api_name="draw_comparison")
    done.failure(failed, None, shown, api_name="clear_comparison", **PRIVATE)
    told = result.reveal.click(reveal, result.state, [result.report, result.state], api_name="reveal", **PRIVATE)
    told.success(**drawing, api_name="draw_revealed")
    told.failure(failed, None, shown, api_name="clear_expired", **PRIVATE)
    test = result.test
    begun = test.button.click(
        start_listening,
        [result.state, test.kind, test.one, test.other, test.trials],
        test.player,
        js=PRESSED,
        api_name="start_listening",
        **PRIVATE,
    )
    begun.failure(failed_test, None, test.error, api_name="clear_listening", **PRIVATE)
    begun.success(lambda: "", None, test.error, js="() => ''", api_name="well_listening", **PRIVATE)
