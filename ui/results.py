"""A result as HTML: one line in words, the main figures, the mel pictures, the waterfall, the stage table."""

from __future__ import annotations

import html
import math
from pathlib import Path

import gradio as gr
from gradio.i18n import I18nData

from tts_infer import pictures
from ui.engine import Report, View, shown_errors
from ui.texts import Words, words_of

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
    """Draw a result, and let go of it; without one, leave what is there."""
    if view is None:
        return gr.skip(), None
    words = words_of(request)
    with shown_errors(words):
        report = view.report
        panels = [("Input mel", view.input_mel), ("Output mel", view.output_mel)]
        drawn = "".join(
            (
                f"<p>{html.escape(in_words(report, words))}</p>",
                tiles(report, words),
                pictures.mel_pictures(panels, view.mel_config, difference=True, words=words),
                zoom_buttons(words),
                f"<h3>{words('Where the time went')}</h3>",
                pictures.stage_waterfall(report["stages"], report["total_ms"], words=words),
                pictures.stage_table(report["stages"], report["total_ms"], words=words),
            )
        )
        return drawn, None


def zoom_buttons(words: Words) -> str:
    """What `zoom.js` listens to, for those who cannot or will not drag."""
    names = (("+", "Zoom in"), ("-", "Zoom out"), ("0", "Reset zoom"))
    buttons = "".join(f'<button type="button" data-zoom="{key}">{words(name)}</button>' for key, name in names)
    return f'<div class="tts-zoom">{buttons} {words("Drag a box to zoom; double-click to see all.")}</div>'


def in_words(report: Report, words: Words) -> str:
    """The result in one sentence."""
    longest = max(report["stages"], key=lambda stage: stage["ms"])
    sentences = (
        words("{seconds:.2f} s of audio in {time}, {rtfx:.0f} x real time;").format(time=duration(report), **report),
        words("{share:.0f} % {stage} on {device};").format(share=100 * longest["ms"] / report["total_ms"], **longest),
        clipping(report, words),
    )
    return " ".join(sentences)


def clipping(report: Report, words: Words) -> str:
    """Whether samples were clipped, as the end of a sentence."""
    count = report["clipped_samples"]
    return words("{count} samples clipped.").format(count=count) if count else words("nothing clipped.")


def tiles(report: Report, words: Words) -> str:
    """The main figures as a list of terms and values."""
    values = (
        ("Time", duration(report)),
        ("× real time", f"{report['rtfx']:.1f}"),
        ("Audio", f"{report['seconds']:.2f} s"),
        ("Log-mel error", f"{report['log_mel_error_db']:.2f} dB"),
        ("Peak (dBFS)", decibels(report["peak"])),
        ("Clipped", str(report["clipped_samples"])),
    )
    items = "".join(f"<div><dt>{words(name)}</dt><dd>{value}</dd></div>" for name, value in values)
    return f'<dl class="tts-tiles">{items}</dl>'


def duration(report: Report) -> str:
    """The wall time, in the unit that suits it."""
    ms = report["total_ms"]
    return f"{ms:.1f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def decibels(amplitude: float) -> str:
    """An amplitude in decibels relative to full scale."""
    return f"{20 * math.log10(amplitude):.1f}".replace("-", "−") if amplitude else "−∞"
