"""The values of an evaluation as HTML: the table of means, a picture of each measure, the table of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tts_infer.evaluation.intervals import Interval
from tts_infer.evaluation.measures import Measure
from tts_infer.evaluation.results import Evaluation
from tts_infer.report.html import COLOURS, Axis, bullets, escape, grid, legend, table

_MAX_DOTS = 200  # of more files, as many are drawn, evenly spread over all files in order of their values

FIGURE_STYLE = """
.best { font-weight: 700; }
figcaption small { font-weight: 400; }
.row { position: relative; overflow: hidden; height: 20px; margin: 3px 8px 0; background: #8881; }
.row i, .row u, .row b { position: absolute; top: 50%; transform: translate(-50%, -50%); }
.row i { width: 5px; height: 5px; border-radius: 50%; opacity: .45; }
.row u { height: 6px; transform: translateY(-50%); opacity: .4; min-width: 1px; }
.row b { width: 12px; height: 12px; border-radius: 50%; border: 2px solid light-dark(#fff, #16181c); }
.row ~ .tts-ticks { height: 1.6em; margin: 0 8px; }
.tts-legend { font-size: inherit; }
.tts-legend i { border-radius: 50%; }
@media (max-width: 600px) { th small { display: block; } }
"""


def summary_table(evaluation: Evaluation) -> str:
    """The mean of each measure for each system, and the difference of each other system to the first one."""
    first, *others = evaluation.systems
    heads = ["Measure", *evaluation.systems, *(f"{system} − {first}" for system in others)]
    rows = []
    for one in evaluation.shown:
        best = _best(evaluation, one)
        cells = [_title(evaluation, one)]
        for system in evaluation.systems:
            text = one.interval_text(evaluation.means[system][one.key])
            cells.append(f'<span class="best">{text}</span>' if system == best else text)
        cells += [one.interval_text(evaluation.differences[system][one.key], difference=True) for system in others]
        rows.append(cells)
    speeds = ("-" if (rtfx := evaluation.rtfx(system)) is None else f"{rtfx:.3g}" for system in evaluation.systems)
    rows.append(["Decoding (× real time)", *speeds, *("" for _ in others)])
    return (
        f"{table('Means', list(map(escape, heads)), rows)}<p>Mean and 95 % confidence interval (Student's t, within "
        "the range of the measure) over the files. Differences are paired, file by file. Bold: the best mean.</p>"
        + bullets([f"{one.title}: {one.meaning}" for one in evaluation.shown])
    )


def _title(evaluation: Evaluation, one: Measure) -> str:
    """The measure with its unit, which values are better, and the package."""
    notes = [one.advice, evaluation.measured_by.get(one.key, "")]
    return f"{one.name} <small>{escape('; '.join(filter(None, notes)))}</small>"


def _best(evaluation: Evaluation, one: Measure) -> str | None:
    """The system with the best mean, if there is more than one system."""
    means = {name: interval.mean for name in evaluation.systems if (interval := evaluation.means[name][one.key])}
    if len(means) < 2:
        return None
    if one.best in "01":
        return min(means, key=lambda name: abs(means[name] - float(one.best)))
    return (max if one.best == "high" else min)(means, key=lambda name: means[name])


def dot_pictures(evaluation: Evaluation) -> str:
    """A picture of each measure with a dot for each file, and what the colours mean."""
    colours = {system: _colour(i) for i, system in enumerate(evaluation.systems)}
    pictures = [picture for one in evaluation.shown if (picture := _dot_picture(evaluation, one))]
    note = "<p>Small dots: files. Large dot and bar: mean and its interval.</p>"
    return legend(colours) + note + grid(pictures, least_px=320)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _dot_picture(evaluation: Evaluation, one: Measure) -> str:
    """One measure: a row for each system, on one axis."""
    values = {system: _values(evaluation, system, one.key) for system in evaluation.systems}
    means = {system: evaluation.means[system][one.key] for system in evaluation.systems}
    all_values = [value for several in values.values() for value in several]
    if not all_values:
        return ""
    axis = _axis_around(all_values, [mean for mean in means.values() if mean is not None])
    rows = []
    for i, system in enumerate(evaluation.systems):
        text = escape(f"{system}: {one.interval_text(means[system])}")
        marks = _marks(axis, values[system], means[system], f"background:{_colour(i)}")
        rows.append(f'<div class="row" role="img" title="{text}" aria-label="{text}">{marks}</div>')
    return f"<figure><figcaption>{_title(evaluation, one)}</figcaption>{''.join(rows)}{axis.ticks(parts=4)}</figure>"


def _marks(axis: Axis, values: Sequence[float], mean: Interval | None, paint: str) -> str:
    """The bar of the interval, a dot for each value, and the large dot of the mean."""
    if mean is None:
        return ""
    bar = ""
    if mean.low is not None and mean.high is not None:
        bar = f'<u style="left:{axis.at(mean.low)};width:{axis.length(mean.high - mean.low)};{paint}"></u>'
    dots = "".join(f'<i style="left:{axis.at(value)};{paint}"></i>' for value in values)
    return f'{bar}{dots}<b style="left:{axis.at(mean.mean)};{paint}"></b>'


def _values(evaluation: Evaluation, system: str, key: str) -> list[float]:
    values = sorted(value for row in evaluation.of(system) if (value := row.measures[key]) is not None)
    if len(values) <= _MAX_DOTS:
        return values
    return [values[round(i * (len(values) - 1) / (_MAX_DOTS - 1))] for i in range(_MAX_DOTS)]


def _axis_around(values: Sequence[float], means: Sequence[Interval]) -> Axis:
    """An axis that shows all values with a margin, and the intervals unless they are far wider than the values."""
    low, high = min(values), max(values)
    half = (high - low) / 2
    ends = [end for mean in means for end in (mean.low, mean.high) if end is not None]
    low, high = max(min([low, *ends]), low - half), min(max([high, *ends]), high + half)
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 0.05
    return Axis(low - margin, high + margin)


def file_table(evaluation: Evaluation) -> str:
    """Every measure of every copy, file by file."""
    order = {file: i for i, file in enumerate(dict.fromkeys(row.file for row in evaluation.rows))}
    rows = []
    for row in sorted(evaluation.rows, key=lambda row: order[row.file]):
        name = f'<span title="{escape(row.file)}">{escape(Path(row.file).name)}</span>'
        values = (one.text(row.measures[one.key]) for one in evaluation.shown)
        rows.append([name, escape(row.system), f"{row.seconds:.1f}", *values])
    return table("Every file", ["File", "System", "s", *(one.name for one in evaluation.shown)], rows, texts=2)
