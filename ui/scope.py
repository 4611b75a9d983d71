"""The component that lets a result be heard and seen: one player, and waveforms and mels on one time axis."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

import tts_infer
from tts_infer import pictures
from ui.names import named
from ui.results import STYLE, details, summary
from ui.scenes import Sound, facts_of, keep, pitch, served, window
from ui.session import Result, shown_errors
from ui.texts import Translator, label, languages, table, translator

STATIC = Path(__file__).parent / "static"
SCRIPTS = (  # run as one
    *("players.js", "sound.js", "wave.js", "mels.js", "markup.js", "panels.js", "hands.js", "scope.js"),
)
DIFFERENCE_DB = 30.0
# for dark pages: no difference is dark, and the ends are pale
DIFFERENCE_DARK = "c9bdf5 9d8fe0 6c5fb4 40386f 222026 5f3a10 9c5d12 db8a1f fec26b"
KEYS = (
    *("play", "pause", "loop", "zoom", "zoom-in", "zoom-out", "zoom-reset", "scope-hint", "autoplay", "download"),
    *("in", "out", "diff", "waveform", "input-mel", "output-mel", "difference", "difference-of", "mean-of", "time-s"),
)


def static(*names: str) -> str:
    """The text of files of `ui/static`, one after the other."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)


def script_texts(keys: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Texts for a script, by language."""
    return {name: {key: table(name)["texts"][key] for key in keys} for name in languages()}


def scope(empty: I18nData, elem_id: str, piece_schema: Callable[[], dict[str, Any]] | None = None) -> gr.HTML:
    """The component. Its value is None, {"waiting": True}, a piece of sound, or what `opened` gives.

    Args:
        empty: what is said while there is no result.
        elem_id: of the component.
        piece_schema: what programs are told of a value; None: that it is a text.
    """
    component = gr.HTML(
        None,
        label=empty,
        html_template='<div data-scope></div><p data-empty>${label ?? ""}</p>',
        css_template=STYLE + static("scope.css"),
        js_on_load=static(*SCRIPTS),
        server_functions=[show_window, show_pitch],
        apply_default_css=False,
        padding=True,
        elem_id=elem_id,
        colours={
            "level": pictures.MAGMA,
            "difference": pictures.DIVERGING,
            "difference_dark": DIFFERENCE_DARK,
        },
        texts=script_texts(KEYS),
    )
    if piece_schema:
        # the documentation would call it a text; a class of our own would make Gradio write a .pyi file beside ours
        component.api_info = piece_schema  # type: ignore[method-assign]
    return component


def answered(compute: Callable[[], dict[str, Any]], request: gr.Request | None) -> dict[str, Any]:
    """What is computed for a script, or the error in the page's language."""
    try:
        return compute()
    except tts_infer.TTSInferError as error:
        return {"error": translator(request).error(error)}


def show_window(data: list[Any], request: gr.Request) -> dict[str, Any]:
    """The mels of a window; see `ui.scenes.window`."""
    scene, which, start_s, stop_s, columns = data
    return answered(lambda: window(scene, which, start_s, stop_s, columns), request)


def show_pitch(data: list[Any], request: gr.Request) -> dict[str, Any]:
    """The fundamental frequency in a window; see `ui.scenes.pitch`."""
    scene, sound, start_s, stop_s = data
    return answered(lambda: pitch(scene, sound, start_s, stop_s), request)


def kept(result: Result, stem: str, *, streamed: bool = False) -> str:
    """Write a result as a scene, and return its name.

    Args:
        result: of one synthesis; its report has the settings.
        stem: of the input's file name.
        streamed: the page has the output already, in pieces.
    """
    output = Sound("out", f"{named(stem, result.report)}.wav", result.waveform)
    original = [Sound("original", f"{stem}-original.wav", result.clip)] if result.clip is not None else []
    mels = [result.input_mel, result.output_mel]
    facts = {"report": result.report, "streamed": streamed}
    return keep([*original, output], result.report["sample_rate"], mels, result.mel_config, facts)


def output_of(scene: str) -> str:
    """The file of a scene's last sound."""
    path: str = facts_of(scene)["sounds"][-1]["file"]
    return path


def opened(scene: str | None, request: gr.Request) -> Any:
    """What the component shows of the result of one synthesis. Without one, leave the page as it is."""
    if scene is None:
        return gr.skip()
    with shown_errors(request) as say:
        facts = facts_of(scene)
        report = facts["report"]
        names = {"original": say("original"), "out": say("output")}
        return value_of(scene, facts, names, summary(report, say), details(report, say), say)


def value_of(
    scene: str,
    facts: dict[str, Any],
    names: dict[str, str],
    above: str,
    below: str,
    say: Translator,
    *,
    blind: bool = False,
) -> dict[str, Any]:
    """The value of the component.

    Args:
        scene, facts: its name, and what is known of it.
        names: of its sounds, by what `keep` was given.
        above, below: HTML over and under the pictures.
        say: for the scales.
        blind: no picture tells one output from another.
    """
    has_original = facts["sounds"][0]["name"] == "original"
    sounds = [
        {
            "id": str(i if has_original else i + 1),
            "name": names[sound["name"]],
            "file": served(sound["file"]),
        }
        for i, sound in enumerate(facts["sounds"])
    ]
    shown = ("rate", "seconds", "hz", "top_db", "range_db", "compared", "streamed")
    return {
        "scene": scene,
        "blind": blind,
        "sounds": sounds,
        "difference_db": DIFFERENCE_DB,
        "summary": above,
        "details": below,
        "scales": scales(facts, say),
        **{key: facts[key] for key in shown},
    }


def scales(facts: dict[str, Any], say: Translator) -> str:
    """The colour bars as HTML."""
    top, wide = facts["top_db"], facts["range_db"]
    parts = (
        (say("level-db"), top - wide, top, pictures.MAGMA, ""),
        (say("difference-db"), -DIFFERENCE_DB, DIFFERENCE_DB, pictures.DIVERGING, "tts-light"),
        (say("difference-db"), -DIFFERENCE_DB, DIFFERENCE_DB, DIFFERENCE_DARK, "tts-dark"),
    )
    return "".join(
        f'<div class="tts-scale {kind}" role="img" aria-label="{html.escape(title)}: {low:.0f} – {high:.0f}">'
        f'<div class="bar-of" style="background:linear-gradient(90deg,{_stops(colours)})"></div>'
        f"<small><span>{math.ceil(low)}</span><span>{html.escape(title)}</span><span>{math.floor(high)}</span></small>"
        "</div>"
        for title, low, high, colours, kind in (parts if facts["compared"] else parts[:1])
    )


def _stops(colours: str) -> str:
    return ",".join(f"#{colour}" for colour in colours.split())


def hint() -> I18nData:
    """What is said where a result will be."""
    return label("decode-hint")
