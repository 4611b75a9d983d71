"""Pictures of a synthesis as self-contained HTML: mel spectrograms, the stage waterfall, the stage table.

Pictures are HTML and not bitmaps, so the text stays sharp and readable at any width, follows the light or dark colours
around it, and can be read by screen readers. Only the mel values are an image, one pixel per frame and bin. A picture
refers to no other file and no other host, so it works in a page, in a notebook and in a saved report.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch

from tts_infer.arguments import checked
from tts_infer.config import MelConfig
from tts_infer.dsp.mel import hz_to_mel
from tts_infer.errors import require_package
from tts_infer.report import html
from tts_infer.report.html import COLOURS, Axis, escape, table
from tts_infer.runtime.timing import TRANSFER, StageRecord

__all__ = ["STYLE", "mel_pictures", "stage_bars", "stage_table", "stage_waterfall", "table"]

# Colour maps, interpolated linearly between these colours. Source: matplotlib's "magma" (CC0) and ColorBrewer's "PuOr".
# Both can be read without colour vision, the first by its lightness alone.
MAGMA = (
    "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 "
    "d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"
)
DIVERGING = "2d004b 5d3790 7967a6 988dbe b6b0d4 cecde4 f6f6f7 fed7a2 fdbd6e ef9e3c db7d12 ba630a 7f3b08"

Words = Callable[[str], str]  # translates an English label into the reader's language; `str` leaves it as it is

MAX_COLUMNS = 2000  # wider than a screen; in a longer mel, each column shows its most prominent frame

_DEVICE_COLOURS = {"cpu": COLOURS[0], "cuda": COLOURS[6], "mps": COLOURS[3]}
_OTHER_COLOUR = COLOURS[2]
_STRIPES = "repeating-linear-gradient(45deg,#888 0 3px,#8883 3px 6px)"

STYLE = (
    html.STYLE
    + """
.tts-plot { display: grid; grid-template: 190px auto / auto 1fr; font-size: 11px; line-height: 1; }
.tts-plot .y { position: relative; width: 5em; overflow: hidden; }
.tts-plot .y span { position: absolute; right: 6px; transform: translateY(50%); }
.tts-plot .y .unit { right: auto; left: -4em; bottom: 50%; width: 9em; text-align: center; transform: rotate(-90deg); }
.tts-plot .x { grid-column: 2; }
.tts-plot .view { position: relative; overflow: hidden; background: #000004; cursor: crosshair; touch-action: pan-y; }
.tts-plot .view b { position: absolute; border: 1px solid #fff; background: #fff3; }
.tts-plot img { display: block; width: 100%; height: 100%; max-width: none; }
.tts-scales { align-self: center; display: grid; gap: 10px; }
.tts-waterfall { display: grid; grid-template-columns: auto 1fr; gap: 4px 10px; align-items: center; margin-top: 8px; }
.tts-waterfall .track { position: relative; height: 16px; background: #8882; }
.tts-waterfall .track i { position: absolute; top: 0; bottom: 0; min-width: 2px; }
.tts-waterfall .tts-ticks { grid-column: 2; }
"""
)


@dataclass(frozen=True)
class Scale:
    """How decibels become colours. At `quiet_db` there is nothing to see."""

    axis: Axis
    colours: str
    quiet_db: float


@checked()
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
        config: the convention of all mels.
        difference: also draw the last panel minus the first, on its own scale.
        range_db: decibels from the loudest value of all panels down to black. Digital silence is all black.
        difference_range_db: decibels from no difference to the ends of the scale.
        words: translates titles and labels.

    Shape:
        each mel: (n_mels, L), L >= 1
    Raises:
        MissingPackageError: no Pillow.
    """
    levels = [(title, mel.detach().float().cpu().numpy() * config.db_per_unit) for title, mel in panels]
    silence_db = math.log(config.log_floor) * config.db_per_unit  # black, even if everything else is as quiet
    top = max(silence_db + range_db, *(float(level.max()) for _, level in levels))
    scale = Scale(Axis(top - range_db, top), MAGMA, quiet_db=top - range_db)
    figures = [_figure(words(title), level, config, scale, words) for title, level in levels]
    bars = [html.colour_bar(words("Level (dB)"), scale.axis, scale.colours)]
    if difference:
        first, last = levels[0][1], levels[-1][1]
        frames = min(first.shape[1], last.shape[1])  # a copy is up to one frame shorter than its original
        delta = last[:, :frames] - first[:, :frames]
        scale = Scale(Axis(-difference_range_db, difference_range_db), DIVERGING, quiet_db=0.0)
        figures.append(_figure(words("Difference"), delta, config, scale, words))
        bars.append(html.colour_bar(words("Difference (dB)"), scale.axis, scale.colours))
    figures.append(f'<div class="tts-scales">{"".join(bars)}</div>')
    return html.grid(figures, least_px=220)


def stage_waterfall(
    stages: Sequence[StageRecord], total_ms: float, *, span_ms: float | None = None, words: Words = str
) -> str:
    """Draw stages as bars in order on one time axis, coloured by device, transfers striped.

    Args:
        stages: the stage report of a `Synthesis`.
        total_ms: wall time of the whole call; shares are of this time.
        span_ms: length of the time axis; None: `total_ms`. Several waterfalls with one span can be compared by eye.
        words: translates labels.
    """
    axis = Axis(0.0, span_ms or total_ms)
    rows, start = [], 0.0
    for stage in stages:
        share = _percent(stage["ms"], total_ms)
        title = escape(f"{stage['stage']}, {stage['device']}: {stage['ms']:.2f} ms, {share}")
        style = f"left:{axis.at(start)};width:{axis.length(stage['ms'])};background:{_paint(stage)}"
        rows.append(
            f"<span>{escape(stage['stage'])} <small>{share}</small></span>"
            f'<div class="track" title="{title}"><i style="{style}"></i></div>'
        )
        start += stage["ms"]
    label = escape("; ".join(f"{s['stage']} {_percent(s['ms'], total_ms)}" for s in stages))
    return (
        f'<div class="tts-waterfall" role="img" aria-label="{words("Share")}: {label}">'
        f"{''.join(rows)}{axis.ticks(words('Time (ms)'))}</div>"
        + html.legend({TRANSFER if s["stage"] == TRANSFER else s["device"]: _paint(s) for s in stages})
    )


def stage_bars(runs: Sequence[tuple[str, Sequence[StageRecord], float]], *, words: Words = str) -> str:
    """Draw several runs as bars under each other on one time axis, each made of its stages, coloured by stage.

    Args:
        runs: name, stage report and total milliseconds of each.
        words: translates labels.
    """
    names = list(dict.fromkeys(stage["stage"] for _, stages, _ in runs for stage in stages))
    paint = {name: _STRIPES if name == TRANSFER else COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    axis = Axis(0.0, max(total_ms for _, _, total_ms in runs))
    rows = []
    for title, stages, total_ms in runs:
        start, parts = 0.0, []
        for stage in stages:
            style = f"left:{axis.at(start)};width:{axis.length(stage['ms'])};background:{paint[stage['stage']]}"
            hint = escape(f"{stage['stage']}, {stage['device']}: {stage['ms']:.2f} ms")
            parts.append(f'<i title="{hint}" style="{style}"></i>')
            start += stage["ms"]
        rows.append(
            f'<span>{escape(title)} <small>{total_ms:.1f} ms</small></span><div class="track">{"".join(parts)}</div>'
        )
    label = escape("; ".join(f"{title} {total_ms:.1f} ms" for title, _, total_ms in runs))
    return (
        f'<div class="tts-waterfall" role="img" aria-label="{words("Time (ms)")}: {label}">'
        f"{''.join(rows)}{axis.ticks(words('Time (ms)'))}</div>" + html.legend(paint)
    )


def stage_table(stages: Sequence[StageRecord], total_ms: float, *, words: Words = str) -> str:
    """Write the stage report as a table: stage, device, method, ms, share, transferred bytes, and the total.

    Args:
        stages: the stage report of a `Synthesis`.
        total_ms: wall time of the whole call, shown in the last row.
        words: translates labels.
    """
    heads = [words(name) for name in ("Stage", "Device", "Method", "ms", "Share", "Bytes")]
    rows = []
    for stage in stages:
        names = (stage["stage"], stage["device"].replace("->", " → "), stage["method"])
        moved = f"{stage['bytes']:,}" if stage["bytes"] else ""
        rows.append([*map(escape, names), f"{stage['ms']:.2f}", _percent(stage["ms"], total_ms), moved])
    moved = f"{sum(stage['bytes'] for stage in stages):,}"
    foot = [words("Total (wall time)"), f"{total_ms:.2f}", "100.0 %", moved]
    return table(words("Stage"), heads, rows, texts=3, foot=foot)


def _paint(stage: StageRecord) -> str:
    """The CSS background of a stage's bar: the colour of its device, or stripes for a transfer."""
    if stage["stage"] == TRANSFER:
        return _STRIPES
    return _DEVICE_COLOURS.get(stage["device"].partition(":")[0], _OTHER_COLOUR)


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:.1f} %"


def _figure(title: str, level_db: np.ndarray, config: MelConfig, scale: Scale, words: Words) -> str:
    seconds = level_db.shape[1] * config.hop_length / config.sample_rate
    f_max = config.f_max or config.sample_rate / 2
    name, alt = escape(title), escape(f"{title}: {seconds:.2f} s, {config.f_min:.0f}–{f_max:.0f} Hz")
    heights = _frequency_heights(config, f_max)
    y = "".join(f'<span style="bottom:{at:.2%}">{hz}</span>' for hz, at in _apart(heights))
    # a page reads the data attributes to label the axes of an enlarged part
    return (
        f"<figure><figcaption>{name}</figcaption>"
        f'<div class="tts-plot" data-seconds="{seconds}" data-hz="{json.dumps(heights)}">'
        f'<div class="y" aria-hidden="true"><span class="unit">{words("Frequency (Hz)")}</span>{y}</div>'
        f'<div class="view" tabindex="0" role="group" aria-label="{name}">'
        f'<img alt="{alt}" src="{html.data_uri("image/png", _png(level_db, scale))}"></div>'
        f'<div class="x">{Axis(0.0, seconds).ticks(words("Time (s)"))}</div></div></figure>'
    )


def _frequency_heights(config: MelConfig, f_max: float) -> list[tuple[int, float]]:
    """Frequencies in Hz with their heights in the picture, 0 at the bottom and 1 at the top; the roundest first."""
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
    """The labels that do not touch an earlier one."""
    kept: list[tuple[int, float]] = []
    for hz, height in heights:
        if all(abs(height - other) > 0.08 for _, other in kept):
            kept.append((hz, height))
    return kept


def _png(level_db: np.ndarray, scale: Scale) -> bytes:
    """A PNG of (n_mels, L) decibels, with a palette of 256 colours and low frequencies at the bottom."""
    low, high = scale.axis.low, scale.axis.high
    clipped = np.clip(level_db, low, high)
    frames = clipped.shape[1]
    if frames > MAX_COLUMNS:
        starts = np.linspace(0, frames, MAX_COLUMNS, endpoint=False).astype(int)
        most, least = (extreme.reduceat(clipped, starts, axis=1) for extreme in (np.maximum, np.minimum))
        clipped = np.where(most - scale.quiet_db >= scale.quiet_db - least, most, least)
    indices = np.round((clipped[::-1] - low) / (high - low) * 255).astype(np.uint8)
    image = import_pillow().fromarray(indices)
    image.putpalette(_palette(scale.colours))
    stored = io.BytesIO()
    image.save(stored, "PNG", optimize=True)
    return stored.getvalue()


def import_pillow() -> ModuleType:
    """Import `PIL.Image`, which writes the images. It comes with the page (gradio) and with the extra "evaluate".

    Raises:
        MissingPackageError: no Pillow.
    """
    return require_package("PIL.Image", "evaluate", "pillow")


def _palette(colours: str) -> bytes:
    """256 RGB triples between the colours."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in colours.split()])
    at = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, i]) for i in range(3)]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8).tobytes()
