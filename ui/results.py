"""A result as HTML: one line in words, the main figures, the mel pictures, the waterfall, the stage table."""

from __future__ import annotations

import html
import math
from pathlib import Path

import gradio as gr
from gradio.i18n import I18nData

from tts_infer import pictures
from ui.session import Report, View, shown_errors
from ui.texts import Translator

table = pictures.table
ZOOM = Path(__file__).parent / "zoom.js"
STYLE = (
    pictures.STYLE
    + """
.tts-tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(100px, 1fr)); gap: 8px; margin: 8px 0 16px; }
.tts-tiles div { padding: 8px 10px; border: 1px solid #8884; border-radius: 6px; }
.tts-tiles dt { font-size: 12px; opacity: .8; }
.tts-tiles dd { margin: 0; white-space: nowrap; font-size: 17px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tts-table .remark { white-space: normal; }
.tts-wrap .tts-table :is(th, td) { white-space: normal; }
.tts-wrap .tts-table tbody :is(th, td):not(.number, .remark) { max-width: min(16em, 28vw); overflow-wrap: break-word; }
ul { margin: 0 0 12px; padding-left: 20px; list-style: disc; }
p { margin: 0; }
.tts-zoom { font-size: 12px; margin-top: 10px; }
.tts-zoom button { padding: 4px 10px; margin: 0 6px 6px 0; border: 1px solid #8888; border-radius: 6px; }
h3 { margin: 20px 0 8px; font-size: 15px; font-weight: 600; }
@media (max-width: 480px) {
  .tts-table { margin-inline: -8px; } /* times of three digits and more fit */
}
"""
)


def result_view(placeholder: I18nData, elem_id: str) -> gr.HTML:
    """The component that shows what `draw` returns."""
    return gr.HTML(
        placeholder,
        css_template=STYLE,
        js_on_load=ZOOM.read_text(encoding="utf-8"),
        apply_default_css=False,
        padding=True,
        elem_id=elem_id,
    )


def draw(view: View | None, request: gr.Request) -> tuple[str | dict[str, object], None]:
    """Draw a result, and drop it. Without a result, leave the page as it is."""
    if view is None:
        return gr.skip(), None
    with shown_errors(request) as say:
        report = view.report
        panels = [(say("input-mel"), view.input_mel), (say("output-mel"), view.output_mel)]
        drawn = "".join(
            (
                f"<p>{html.escape(in_words(report, say))}</p>",
                tiles(report, say),
                pictures.mel_pictures(panels, view.mel_config, difference=True, words=say.phrase),
                zoom_buttons(say),
                f"<h3>{say('where-time-went')}</h3>",
                pictures.stage_waterfall(report["stages"], report["total_ms"], words=say.phrase),
                pictures.stage_table(report["stages"], report["total_ms"], words=say.phrase),
            )
        )
        return drawn, None


def zoom_buttons(say: Translator) -> str:
    """The buttons of `zoom.js`, for those who cannot or do not want to drag."""
    names = (("+", "zoom-in"), ("-", "zoom-out"), ("0", "zoom-reset"))
    buttons = "".join(f'<button type="button" data-zoom="{key}">{say(name)}</button>' for key, name in names)
    return f'<div class="tts-zoom">{buttons} {say("zoom-hint")}</div>'


def in_words(report: Report, say: Translator) -> str:
    """The result in one sentence."""
    longest = max(report["stages"], key=lambda stage: stage["ms"])
    share = 100 * longest["ms"] / report["total_ms"]
    most = say("result-share", share=share, stage=longest["stage"], device=longest["device"])
    return f"{speed(report, say)} {most} {clipping(report, say)}"


def speed(report: Report, say: Translator) -> str:
    """How much audio was made, and how fast, as the beginning of a sentence."""
    return say("result-speed", seconds=report["seconds"], time=duration(report), rtfx=report["rtfx"])


def clipping(report: Report, say: Translator) -> str:
    """Whether samples were clipped, as the end of a sentence."""
    count = report["clipped_samples"]
    return say("result-clipped", count=count) if count else say("result-unclipped")


def tiles(report: Report, say: Translator) -> str:
    """The main figures as a list of terms and values."""
    values = (
        ("time", duration(report)),
        ("times-real-time", f"{report['rtfx']:.1f}"),
        ("audio", f"{report['seconds']:.2f} s"),
        ("log-mel-error", f"{report['log_mel_error_db']:.2f} dB"),
        ("peak-dbfs", decibels(report["peak"])),
        ("clipped", str(report["clipped_samples"])),
    )
    items = "".join(f"<div><dt>{say(name)}</dt><dd>{value}</dd></div>" for name, value in values)
    return f'<dl class="tts-tiles">{items}</dl>'


def duration(report: Report) -> str:
    """The wall time, in the unit that suits it."""
    ms = report["total_ms"]
    return f"{ms:.1f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def decibels(amplitude: float) -> str:
    """An amplitude in decibels relative to full scale."""
    return f"{20 * math.log10(amplitude):.1f}".replace("-", "−") if amplitude else "−∞"
