"""A result in words and figures: one line, the main figures, the notes, the waterfall, the table."""

from __future__ import annotations

import html
import math

import gradio as gr
from gradio.i18n import I18nData

from tts_infer import pictures
from ui.session import Report
from ui.texts import Translator

table = pictures.table
STYLE = (
    pictures.STYLE
    + """
.tts-tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(100px, 1fr)); gap: 8px; margin: 8px 0; }
.tts-tiles div { padding: 6px 10px; border: 1px solid #8884; border-radius: 6px; }
.tts-tiles dt { font-size: 12px; }
.tts-tiles dd { margin: 0; white-space: nowrap; font-size: 17px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tts-tiles dd small { font-size: 12px; font-weight: 400; }
.tts-table .remark { white-space: normal; }
.tts-wrap .tts-table :is(th, td) { white-space: normal; }
.tts-wrap .tts-table tbody :is(th, td):not(.number, .remark) { overflow-wrap: break-word; }
ul { margin: 0 0 12px; padding-left: 20px; list-style: disc; }
p { margin: 0; }
h3 { margin: 20px 0 8px; font-size: 15px; font-weight: 600; }
@media (min-width: 481px) {
  .tts-wrap .tts-table tbody :is(th, td):not(.number, .remark) { max-width: min(16em, 28vw); }
}
"""
)


def result_view(placeholder: I18nData | str, elem_id: str) -> gr.HTML:
    """The component that shows figures and tables."""
    return gr.HTML(placeholder, css_template=STYLE, apply_default_css=False, padding=True, elem_id=elem_id)


def summary(report: Report, say: Translator) -> str:
    """What matters of a result, as HTML: one line, the main figures, and what is odd."""
    return f"<p>{html.escape(in_words(report, say))}</p>{tiles(report, say)}{notes(report['notes'], say)}"


def details(report: Report, say: Translator) -> str:
    """Where the time went, as HTML; the table only for who asks."""
    return (
        f"<h3>{say('where-time-went')}</h3><p>{html.escape(stage_line(report, say))}</p>"
        + pictures.stage_waterfall(report["stages"], report["total_ms"], words=say.phrase)
        + f"<details><summary>{say('details')}</summary>"
        + pictures.stage_table(report["stages"], report["total_ms"], words=say.phrase)
        + "</details>"
    )


def notes(found: list[Report], say: Translator) -> str:
    """What is odd about a result, in words, as HTML."""
    lines = "".join(f"<p>⚠ {html.escape(say.note(note))}</p>" for note in found)
    return f'<div class="tts-notes" role="note">{lines}</div>' if lines else ""


def stage_line(report: Report, say: Translator) -> str:
    """How often it ran, and the time of each stage, in one line."""
    runs = report.get("runs", 1)
    times = " · ".join(f"{stage['stage']} {duration(stage['ms'])}" for stage in report["stages"])
    if runs == 1:
        return say("one-run") + times
    median, least, most = (duration(report[key]) for key in ("total_ms", "least_ms", "most_ms"))
    return say("runs", runs=runs, median=median, least=least, most=most) + times


def in_words(report: Report, say: Translator) -> str:
    """The result in one sentence."""
    longest = max(report["stages"], key=lambda stage: stage["ms"])
    share = 100 * longest["ms"] / report["total_ms"]
    most = say("result-share", share=share, stage=longest["stage"], device=longest["device"])
    return speed(report, say) + most + clipping(report, say)


def speed(report: Report, say: Translator) -> str:
    """How much audio was made, and how fast, as the beginning of a sentence."""
    return say("result-speed", seconds=report["seconds"], time=duration(report["total_ms"]), rtfx=report["rtfx"])


def clipping(report: Report, say: Translator) -> str:
    """Whether samples were clipped, as the end of a sentence."""
    count = report["clipped_samples"]
    return say("result-clipped", count=count) if count else say("result-unclipped")


def tiles(report: Report, say: Translator) -> str:
    """The main figures as a list of terms and values."""
    values = (
        ("time", duration(report["total_ms"])),
        ("times-real-time", f"{report['rtfx']:.1f}"),
        ("audio", f"{report['seconds']:.2f} s"),
        ("log-mel-error", f"{report['log_mel_error_db']:.2f} dB"),
        ("peak-dbfs", decibels(report["peak"])),
        ("clipped", str(report["clipped_samples"])),
    )
    items = "".join(f"<div><dt>{say(name)}</dt><dd>{value}</dd></div>" for name, value in values)
    return f'<dl class="tts-tiles">{items}</dl>'


def duration(ms: float) -> str:
    """A time in the unit that suits it."""
    return f"{ms:.1f} ms" if ms < 1000 else f"{ms / 1000:.2f} s" if ms < 10_000 else f"{ms / 1000:.1f} s"


def decibels(amplitude: float) -> str:
    """An amplitude in decibels relative to full scale."""
    return f"{20 * math.log10(amplitude):.1f}".replace("-", "−") if amplitude else "−∞"
