"""The listening tests under a comparison, ABX and MUSHRA: what they play, and what their answers say."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import gradio as gr
import torch

import tts_infer
from tts_infer import evaluation
from ui.decode import inline_error
from ui.results import STYLE, table
from ui.scenes import Sound, facts_of, served, write_sounds
from ui.scope import answered, script_texts, static
from ui.texts import Translator, label, translator

Kind = Literal["abx", "mushra"]
TRIALS = range(1, 101)
MOST_ROWS = 2000
KEYS = (
    *("play", "pause", "listening-trial", "listening-abx", "listening-mushra", "listening-is-a", "listening-is-b"),
    *("listening-next", "listening-stop", "listening-csv", "listening-reference", "sample"),
)


@dataclass(frozen=True)
class ListeningTest:
    """The components of the tests."""

    panel: gr.Accordion
    kind: gr.Radio
    one: gr.Dropdown
    other: gr.Dropdown
    trials: gr.Slider
    button: gr.Button
    error: gr.HTML
    player: gr.HTML


def listening_test() -> ListeningTest:
    """Lay the tests out. They are shown when there is something to compare."""
    with gr.Accordion(label("listening-test"), open=False, visible=False, elem_id="listening-panel") as panel:
        gr.Markdown(label("listening-hint"))
        with gr.Row():
            kinds = [("ABX", "abx"), ("MUSHRA", "mushra")]
            kind = gr.Radio(kinds, value="abx", label=label("listening-kind"), elem_id="listening-kind")
            trials = gr.Slider(
                TRIALS[0], TRIALS[-1], 10, step=1, label=label("listening-trials"), elem_id="listening-trials"
            )
        with gr.Row():
            one = gr.Dropdown([], label=label("listening-a"), min_width=160, elem_id="listening-a")
            other = gr.Dropdown([], label=label("listening-b"), min_width=160, elem_id="listening-b")
        button = gr.Button(label("listening-start"), variant="primary", elem_id="listening-start")
        error = inline_error("listening-error")
        player = gr.HTML(
            None,
            html_template="<div data-listening></div>",
            css_template=STYLE + static("listening.css"),
            js_on_load=static("sound.js", "listening.js"),
            server_functions=[score],
            apply_default_css=False,
            elem_id="listening",
            texts=script_texts(KEYS),
        )
    return ListeningTest(panel, kind, one, other, trials, button, error, player)


def offered(names: Sequence[str]) -> tuple[Any, ...]:
    """What a test can be made of: the panel, the two dropdowns, and no running test.

    Args:
        names: of the original and of every sample, as they are shown.
    """
    known = [(name, i) for i, name in enumerate(names)]
    one, other = (gr.Dropdown(known, value=value) for value in (1, len(names) - 1))
    return gr.Accordion(visible=True), one, other, None


def closed() -> tuple[Any, ...]:
    """The same without a comparison."""
    return gr.Accordion(visible=False), gr.skip(), gr.skip(), None


def prepared(
    scene: str, names: Sequence[str], kind: Kind, one: int | None, other: int | None, trials: float
) -> dict[str, Any]:
    """Write the sounds of a test, of one level and one length, and say what is to be played.

    Args:
        scene: the comparison.
        names: of its sounds, the original first.
        kind: of the test.
        one, other: the sounds of an ABX test; MUSHRA has all of them.
        trials: how many.

    Raises:
        InputError: a choice is wrong, or the scene has expired.
    """
    facts, chosen = facts_of(scene), [one, other] if kind == "abx" else list(range(len(names)))
    if kind not in get_args(Kind) or trials not in TRIALS or len({*chosen} & {*range(len(names))}) < 2:
        raise tts_infer.InputError(
            "A listening test needs two different sounds, and {least} to {most} trials.",
            code="page-listening",
            least=TRIALS[0],
            most=TRIALS[-1],
        )
    titles = [names[i] for i in chosen if i is not None]
    clips = [tts_infer.read_audio(facts["sounds"][i]["file"]).samples for i in chosen if i is not None]
    if kind == "mushra":
        titles[:1] = [evaluation.REFERENCE, evaluation.ANCHOR]
        clips.insert(1, evaluation.low_passed(clips[0], facts["rate"]))
    matched = [torch.from_numpy(samples) for samples in evaluation.level_matched(clips)]
    files = write_sounds([Sound(str(i), f"{i}.wav", samples) for i, samples in enumerate(matched)], facts["rate"])
    return {
        "kind": kind,
        "clip": Path(facts["sounds"][0]["file"]).stem.removesuffix("-original"),
        "trials": int(trials),
        "rate": facts["rate"],
        "sounds": [{"name": title, "file": served(str(file))} for title, file in zip(titles, files, strict=True)],
    }


def score(data: list[Any], request: gr.Request) -> dict[str, Any]:
    """What the answers of a test say, for its script: HTML, and the rows as CSV."""
    kind, rows = data
    return answered(lambda: scored(kind, rows, translator(request)), request)


def scored(kind: Kind, given: Sequence[Any], say: Translator) -> dict[str, str]:
    """The result of a test as HTML, and its rows as CSV.

    Raises:
        InputError: the answers are none, too many, or out of bounds.
    """
    if len(given) > MOST_ROWS:
        raise tts_infer.InputError(
            "A listening test has {count} answers; allowed: {most}.",
            code="page-listening-rows",
            count=len(given),
            most=MOST_ROWS,
        )
    if kind == "abx":
        trials = [evaluation.listening_row(row, evaluation.AbxTrial) for row in given]
        return {"html": abx_html(evaluation.abx_result(trials), say), "csv": evaluation.listening_csv(trials)}
    scores = [evaluation.listening_row(row, evaluation.MushraScore) for row in given]
    return {"html": mushra_html(evaluation.mushra_result(scores), say), "csv": evaluation.listening_csv(scores)}


def abx_html(result: evaluation.AbxResult, say: Translator) -> str:
    """How many answers were right, and what guessing would give."""
    told = say("listening-told" if result.p_value < 0.05 else "listening-not-told")
    counted = say("listening-right", correct=result.correct, trials=result.trials, p=f"{result.p_value:.3g}")
    return f"<p><b>{counted}</b></p><p>{told}</p>"


def mushra_html(result: evaluation.MushraResult, say: Translator) -> str:
    """The mean score of each system, best first, with its interval as numbers and as a picture."""
    names = {evaluation.REFERENCE: say("listening-reference"), evaluation.ANCHOR: say("listening-anchor")}
    heads = [say("settings"), say("listening-score"), say("listening-interval"), say("listening-count"), "0 – 100"]
    rows = [
        [
            html.escape(names.get(system, system)),
            f"{found.mean:.1f}",
            "–" if found.low is None or found.high is None else f"{found.low:.1f} – {found.high:.1f}",
            str(found.count),
            bar(found),
        ]
        for system, found in sorted(result.scores.items(), key=lambda item: -item[1].mean)
    ]
    doubt = "" if result.reliable else f'<p class="doubt">⚠ {say("listening-unreliable")}</p>'
    scores = table(say("listening-test"), heads, rows, texts=1)
    return f'{doubt}<div class="tts-wrap">{scores}</div><p>{say("listening-one-clip")}</p>'


def bar(found: evaluation.Interval) -> str:
    """A mean and its interval on a line from 0 to 100."""
    low, high = (found.mean if end is None else min(100.0, max(0.0, end)) for end in (found.low, found.high))
    return (
        f'<span class="score" aria-hidden="true"><i style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
        f'<b style="left:{found.mean:.1f}%"></b></span>'
    )
