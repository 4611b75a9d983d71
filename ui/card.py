"""The card of a vocoder: what `tts_infer.describe_vocoder` knows of it, for visitors."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

import tts_infer
from ui.session import Report, place_of
from ui.texts import Translator

STYLE = """
.card { padding: 10px 12px; border: 1px solid #8886; border-radius: 8px; }
.card p { margin: 0 0 6px; }
.card dl { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 0; }
.card dl div { display: flex; gap: 6px; }
.card dt { opacity: .8; }
.card dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.card .state { padding: 1px 8px; border: 1px solid currentColor; border-radius: 9px; font-size: 12px; }
"""
_known: dict[str, Report] = {}  # of vocoders whose files are here; the others may be downloaded meanwhile


def facts(vocoder: str) -> Report:
    """What is known of a vocoder that the page offers; see `tts_infer.describe_vocoder`.

    Raises:
        VocoderNotFoundError, ConfigError, CheckpointError: see `describe_vocoder`.
    """
    if vocoder not in _known:
        described = tts_infer.describe_vocoder(place_of(vocoder))
        if described["parameters"] is None:
            return described
        _known[vocoder] = described
    return _known[vocoder]


def card(elem_id: str) -> gr.HTML:
    """The component. `draw_card` gives its value."""
    return gr.HTML("", css_template=STYLE, apply_default_css=False, elem_id=elem_id)


def draw_card(vocoder: str, found: Report, say: Translator) -> str:
    """The card as HTML, without places on the server.

    Args:
        vocoder: the name that the page offers.
        found: its facts.
        say: into the visitor's language.
    """
    ready = found["status"] != "not cached"
    size = found["size_mb"]
    state = say("ready") if ready else say("needs-mb", mb=size) if size else say("needs-download")
    rows: list[tuple[str, Any]] = [
        (say("sample-rate"), f"{found['sample_rate'] / 1000:g} kHz"),
        (say("bands"), found["n_mels"]),
    ]
    if found["parameters"] is not None:
        rows.append((say("parameters"), f"{found['parameters'] / 1e6:.1f} M"))
        rows.append((say("latency"), say("latency-ms", ms=found["delay_ms"], passes=found["refine"])))
    if found["license"]:
        rows.append((say("licence"), say.about(found["license"])))
    listed = "".join(f"<div><dt>{name}</dt><dd>{html.escape(str(value))}</dd></div>" for name, value in rows)
    about = f"<p>{html.escape(say.about(found['description']))}</p>" if found["description"] else ""
    head = f'<p><b>{html.escape(vocoder)}</b> <span class="state">{html.escape(state)}</span></p>'
    return f'<section class="card" aria-label="{html.escape(vocoder)}">{head}{about}<dl>{listed}</dl></section>'
