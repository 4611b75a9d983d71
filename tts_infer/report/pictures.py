"""Pictures of a synthesis as self-contained HTML: mel spectrograms, the stage waterfall, the stage table.

HTML rather than bitmaps: the text stays sharp and readable at any width, follows the light or dark colours around it,
and is there for screen readers. Only the mel values themselves are an image, one pixel per frame and bin. Nothing
here refers to another file or host, so a picture works in a page, in a notebook and in a saved report.
"""

from __future__ import annotations

import base64
import html
import json
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tts_infer.config import MelConfig
from tts_infer.dsp.mel import hz_to_mel
from tts_infer.runtime.timing import TRANSFER, StageRecord

# Anchors of the colour maps, interpolated linearly. Source: matplotlib's "magma" (CC0) and ColorBrewer's "PuOr";
# both are told apart without colour vision, the first by lightness alone.
MAGMA = (
    "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 "
    "d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"
)
DIVERGING = "2d004b 5d3790 7967a6 988dbe b6b0d4 cecde4 f6f6f7 fed7a2 fdbd6e ef9e3c db7d12 ba630a 7f3b08"

Words = Callable[[str], str]  # turns an English label into the reader's language; `str` leaves it as it is

MAX_COLUMNS = 2000  # wider than any screen; of a longer mel, each column keeps the frame that stands out most

# Okabe and Ito's colours, chosen to differ under every kind of colour blindness.
_DEVICE_COLOURS = {"cpu": "#0072b2", "cuda": "#e69f00", "mps": "#cc79a7"}
_OTHER_COLOUR = "#009e73"

STYLE = """
.tts-mels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(220px, 100%), 1fr)); gap: 12px 20px; }
.tts-mels figure { min-width: 0; margin: 0; }
.tts-mels figcaption { font-weight: 600; margin-bottom: 4px; }
.tts-plot { display: grid; grid-template: 190px auto / auto 1fr; font-size: 11px; line-height: 1; }
.tts-plot .y { position: relative; width: 5em; overflow: hidden; }
.tts-plot .y span { position: absolute; right: 6px; transform: translateY(50%); }
.tts-plot .y .unit { right: auto; left: -4em; bottom: 50%; width: 9em; text-align: center; transform: rotate(-90deg); }
.tts-plot .x { grid-column: 2; }
.tts-plot .view { position: relative; overflow: hidden; background: #000004; cursor: crosshair; touch-action: pan-y; }
.tts-plot .view b { position: absolute; border: 1px solid #fff; background: #fff3; }
.tts-plot img { display: block; width: 100%; height: 100%; max-width: none; }
.tts-ticks { position: relative; height: 2.9em; font-size: 11px; line-height: 1; }
.tts-ticks span { position: absolute; top: 5px; transform: translateX(-50%); white-space: nowrap; }
.tts-ticks .unit { top: 1.8em; left: 50%; }
.tts-scales { align-self: center; display: grid; gap: 10px; }
.tts-scale .bar { height: 10px; }
.tts-waterfall { display: grid; grid-template-columns: auto 1fr; gap: 4px 10px; align-items: center; }
.tts-waterfall .track { position: relative; height: 16px; background: #8882; }
.tts-waterfall .track i { position: absolute; top: 0; bottom: 0; min-width: 2px; }
.tts-waterfall .tts-ticks { grid-column: 2; }
.tts-legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 12px; }
.tts-legend i { display: inline-block; width: 12px; height: 12px; margin-right: 5px; vertical-align: -1px; }
.tts-table { overflow-x: auto; margin-top: 12px; }
.tts-table table { width: 100%; color: inherit; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.tts-table th, .tts-table td { padding: 5px 8px; text-align: left; border-bottom: 1px solid #8884; }
.tts-table th, .tts-table td { white-space: nowrap; }
.tts-table thead th { white-space: normal; vertical-align: bottom; }
.tts-table .number { text-align: right; }
.tts-table tbody th { font-weight: 400; }
.tts-table tfoot th, .tts-table tfoot td { font-weight: 600; border-bottom: 0; }
@media (max-width: 480px) {
  .tts-table table { font-size: 11px; }
  .tts-table th, .tts-table td { padding: 4px 2px; }
}
"""


@dataclass(frozen=True)
class Scale:
    """How decibels become colours; `quiet_db` is where nothing is to be seen."""

    low_db: float
    high_db: float
    colours: str
    quiet_db: float


def mel_pictures(
    panels: Sequence[tuple[str, torch.Tensor]],
    config: MelConfig,
    *,
    difference: bool = False,
    range_db: float = 80.0,
    difference_range_db: float = 30.0,
    words: Words = str,
) -> str:
    """Draw log-mels side by side on one colour scale, with axes in seconds and Hz and a colour bar in dB.

    Args:
        panels: title and log-mel of each picture.
        config: the convention all of them are in.
        difference: also draw the last panel minus the first, on a scale of its own.
        range_db: decibels from the loudest value of all panels down to black; of digital silence all is black.
        difference_range_db: decibels from no difference to the ends of the scale.
        words: translates titles and labels.

    Shape:
        each mel: (n_mels, L), L >= 1
    """
    levels = [(title, mel.detach().float().cpu().numpy() * config.db_per_unit) for title, mel in panels]
    silence_db = math.log(config.log_floor) * config.db_per_unit  # black, however quiet the rest
    top = max(silence_db + range_db, *(float(level.max()) for _, level in levels))
    scale = Scale(top - range_db, top, MAGMA, quiet_db=top - range_db)
    figures = [_figure(words(title), level, config, scale, words) for title, level in levels]
    bars = [_colour_bar(words("Level (dB)"), scale)]
    if difference:
        first, last = levels[0][1], levels[-1][1]
        frames = min(first.shape[1], last.shape[1])  # a copy is up to one frame shorter than its original
        delta = last[:, :frames] - first[:, :frames]
        scale = Scale(-difference_range_db, difference_range_db, DIVERGING, quiet_db=0.0)
        figures.append(_figure(words("Difference"), delta, config, scale, words))
        bars.append(_colour_bar(words("Difference (dB)"), scale))
    return f'<div class="tts-mels">{"".join(figures)}<div class="tts-scales">{"".join(bars)}</div></div>'


def stage_waterfall(
    stages: Sequence[StageRecord], total_ms: float, *, span_ms: float | None = None, words: Words = str
) -> str:
    """Draw stages as bars in order on one time axis, coloured by device, transfers hatched.

    Args:
        stages: the stage report of a `Synthesis`.
        total_ms: wall time of the whole call, of which each stage has its share.
        span_ms: length of the time axis; the total when None. Give several waterfalls the same span to compare them
            by eye.
        words: translates labels.
    """
    span = span_ms or total_ms
    rows, start = [], 0.0
    for stage in stages:
        share = _percent(stage["ms"], total_ms)
        title = html.escape(f"{stage['stage']}, {stage['device']}: {stage['ms']:.2f} ms, {share}")
        style = f"left:{start / span:.3%};width:{stage['ms'] / span:.3%};{_paint(stage)}"
        rows.append(
            f"<span>{html.escape(stage['stage'])} <small>{share}</small></span>"
            f'<div class="track" title="{title}"><i style="{style}"></i></div>'
        )
        start += stage["ms"]
    entries = {TRANSFER if s["stage"] == TRANSFER else s["device"]: _paint(s) for s in stages}
    legend = "".join(f'<span><i style="{paint}"></i>{html.escape(name)}</span>' for name, paint in entries.items())
    label = html.escape("; ".join(f"{s['stage']} {_percent(s['ms'], total_ms)}" for s in stages))
    axis = f'{_ticks(_round_steps(span), span)}<span class="unit">{words("Time (ms)")}</span>'
    return (
        f'<div class="tts-waterfall" role="img" aria-label="{words("Share")}: {label}">'
        f'{"".join(rows)}<div class="tts-ticks">{axis}</div></div><div class="tts-legend">{legend}</div>'
    )


def stage_table(stages: Sequence[StageRecord], total_ms: float, *, words: Words = str) -> str:
    """Write the stage report as a table: stage, device, method, ms, share, transferred bytes, and the total.

    Args:
        stages: the stage report of a `Synthesis`.
        total_ms: wall time of the whole call, shown in the last row.
        words: translates labels.
    """
    heads = ("Stage", "Device", "Method", "ms", "Share", "Bytes")
    head = "".join(f'<th scope="col"{_number(i > 2)}>{words(name)}</th>' for i, name in enumerate(heads))
    rows = []
    for stage in stages:
        device, ms = stage["device"].replace("->", " → "), f"{stage['ms']:.2f}"
        values = (device, stage["method"], ms, _percent(stage["ms"], total_ms))
        cells = "".join(f"<td{_number(i > 1)}>{html.escape(str(value))}</td>" for i, value in enumerate(values))
        moved = f"{stage['bytes']:,}" if stage["bytes"] else ""
        name = html.escape(stage["stage"])
        rows.append(f'<tr><th scope="row">{name}</th>{cells}<td class="number">{moved}</td></tr>')
    moved = f"{sum(stage['bytes'] for stage in stages):,}"
    total = f'<th scope="row" colspan="3">{words("Total (wall time)")}</th><td class="number">{total_ms:.2f}</td>'
    return (
        f'<div class="tts-table" tabindex="0" role="region" aria-label="{words("Stage")}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        f'<tfoot><tr>{total}<td class="number">100.0 %</td><td class="number">{moved}</td></tr></tfoot></table></div>'
    )


def _paint(stage: StageRecord) -> str:
    """The style of a stage's bar: the colour of its device's type; stripes where data only moves."""
    if stage["stage"] == TRANSFER:
        return "background:repeating-linear-gradient(45deg,#888 0 3px,#8883 3px 6px)"
    return f"background:{_DEVICE_COLOURS.get(stage['device'].partition(':')[0], _OTHER_COLOUR)}"


def _figure(title: str, level_db: np.ndarray, config: MelConfig, scale: Scale, words: Words) -> str:
    seconds = level_db.shape[1] * config.hop_length / config.sample_rate
    f_max = config.f_max or config.sample_rate / 2
    alt = f"{title}: {seconds:.2f} s, {config.f_min:.0f}–{f_max:.0f} Hz"
    heights = _frequency_heights(config, f_max)
    y = "".join(f'<span style="bottom:{at:.2%}">{hz}</span>' for hz, at in _apart(heights))
    x = _ticks(_round_steps(seconds), seconds)
    # the data attributes let a page label the axes of a part of the picture
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<div class="tts-plot" data-seconds="{seconds}" data-hz="{json.dumps(heights)}">'
        f'<div class="y" aria-hidden="true"><span class="unit">{words("Frequency (Hz)")}</span>{y}</div>'
        f'<div class="view" tabindex="0" role="group" aria-label="{html.escape(title)}">'
        f'<img alt="{html.escape(alt)}" src="{_png(level_db, scale)}"></div>'
        f'<div class="x tts-ticks" aria-hidden="true"><span class="unit">{words("Time (s)")}</span>{x}</div>'
        "</div></figure>"
    )


def _colour_bar(title: str, scale: Scale) -> str:
    low, high = scale.low_db, scale.high_db
    stops = ",".join(f"#{colour}" for colour in scale.colours.split())
    step = 20 if high - low > 60 else 10
    marks = range(math.ceil(low / step) * step, math.floor(high) + 1, step)
    ticks = _ticks([mark - low for mark in marks], high - low, [str(mark) for mark in marks])
    return (
        f'<div class="tts-scale" role="img" aria-label="{title}: {low:.0f} – {high:.0f}">'
        f'<div class="bar" style="background:linear-gradient(90deg,{stops})"></div>'
        f'<div class="tts-ticks" aria-hidden="true">{ticks}<span class="unit">{title}</span></div></div>'
    )


def _frequency_heights(config: MelConfig, f_max: float) -> list[tuple[int, float]]:
    """Frequencies in Hz with their height in the picture, 0 at the bottom and 1 at the top; the roundest first."""
    low, high = hz_to_mel(config.f_min, config.mel_scale), hz_to_mel(f_max, config.mel_scale)
    octaves = [125 * 2**i for i in range(8)]
    between = [hz for step in (1000, 500, 100) for hz in range(step, int(f_max) + 1, step)]
    heights = []
    for hz in dict.fromkeys(octaves + between):
        # bin k peaks at point k + 1 of n_mels + 2 equally spaced mels; it is drawn from k / n_mels to (k + 1) / n_mels
        k = (hz_to_mel(hz, config.mel_scale) - low) / (high - low) * (config.n_mels + 1) - 1
        height = (k + 0.5) / config.n_mels
        if 0.02 <= height <= 0.99:
            heights.append((hz, round(height, 4)))
    return heights


def _apart(heights: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Those labels that do not touch one before them."""
    kept: list[tuple[int, float]] = []
    for hz, height in heights:
        if all(abs(height - other) > 0.08 for _, other in kept):
            kept.append((hz, height))
    return kept


def _round_steps(end: float) -> list[float]:
    """About five round numbers from 0 to the end."""
    raw = end / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [round(i * step, 6) for i in range(math.floor(end / step) + 1)]


def _ticks(positions: Sequence[float], end: float, labels: Sequence[str] | None = None) -> str:
    """Labels along a horizontal axis from 0 to `end`."""
    labels = labels or [f"{at:g}" for at in positions]
    return "".join(
        f'<span style="left:{at / end:.2%}">{label}</span>' for at, label in zip(positions, labels, strict=True)
    )


def _png(level_db: np.ndarray, scale: Scale) -> str:
    """An image of (n_mels, L) decibels as a data URI: a PNG of 8-bit palette indices, low frequencies at the bottom."""
    clipped = np.clip(level_db, scale.low_db, scale.high_db)
    frames = clipped.shape[1]
    if frames > MAX_COLUMNS:
        starts = np.linspace(0, frames, MAX_COLUMNS, endpoint=False).astype(int)
        most, least = (extreme.reduceat(clipped, starts, axis=1) for extreme in (np.maximum, np.minimum))
        clipped = np.where(most - scale.quiet_db >= scale.quiet_db - least, most, least)
    scaled = (clipped - scale.low_db) / (scale.high_db - scale.low_db)
    indices = np.round(scaled[::-1] * 255).astype(np.uint8)
    rows = np.pad(indices, ((0, 0), (1, 0)))  # every row starts with its filter type, 0: none
    header = struct.pack(">IIBBBBB", indices.shape[1], indices.shape[0], 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", _palette(scale.colours)),
        (b"IDAT", zlib.compress(rows.tobytes())),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _palette(colours: str) -> bytes:
    """256 RGB triples between the anchors."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in colours.split()])
    at = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, i]) for i in range(3)]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8).tobytes()


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:.1f} %"


def _number(is_number: bool) -> str:
    return ' class="number"' if is_number else ""
