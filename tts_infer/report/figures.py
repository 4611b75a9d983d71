"""The figures of an evaluation as HTML: the table of means, a picture of every file's figures, the table of files."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

from tts_infer.evaluation.evaluate import Evaluation, Row
from tts_infer.evaluation.intervals import Interval
from tts_infer.evaluation.measures import MEASURES, Measure

_MAX_DOTS = 200  # of more files, as many that are evenly spread over their order by value

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b38600", "#56b4e9")  # Okabe and Ito; the yellow is darkened
_ADVICE = {"high": "higher is better", "low": "lower is better", "0": "0 is best", "1": "1 is best"}

FIGURE_STYLE = """
.best { font-weight: 700; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; }
.key i { display: inline-block; width: 11px; height: 11px; margin-right: 6px; border-radius: 50%; }
.dots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); gap: 18px 28px; }
.dots figure { margin: 0; min-width: 0; }
.dots figcaption { font-weight: 600; }
.dots figcaption small { font-weight: 400; }
.row { position: relative; overflow: hidden; height: 20px; margin: 3px 8px 0; background: #8881; }
.row i, .row u, .row b { position: absolute; top: 50%; transform: translate(-50%, -50%); }
.row i { width: 5px; height: 5px; border-radius: 50%; opacity: .45; }
.row u { height: 6px; transform: translateY(-50%); opacity: .4; min-width: 1px; }
.row b { width: 12px; height: 12px; border-radius: 50%; border: 2px solid light-dark(#fff, #16181c); }
@media (max-width: 600px) { th small { display: block; } }
.dots .tts-ticks { height: 1.6em; margin: 0 8px; }
"""


def summary_table(evaluation: Evaluation) -> str:
    first, *others = evaluation.candidates
    heads = ["Measure", *evaluation.candidates, *(f"{label} − {first}" for label in others)]
    rows = []
    for one in MEASURES:
        name = f"{one.title}{f' ({one.unit})' if one.unit else ''} <small>{_ADVICE[one.best]}</small>"
        best = _best(evaluation, one)
        cells = [name]
        for label in evaluation.candidates:
            text = in_digits(evaluation.means[label][one.key], one)
            cells.append(f'<span class="best">{text}</span>' if label == best else text)
        cells += [in_digits(evaluation.differences[label][one.key], one, signed=True) for label in others]
        rows.append(cells)
    speeds = [evaluation.rtfx(label) for label in evaluation.candidates]
    rows.append(
        ["Decoding (× real time)", *("-" if rtfx is None else f"{rtfx:.3g}" for rtfx in speeds), *("" for _ in others)]
    )
    meanings = "".join(f"<li>{one.title}: {html.escape(one.meaning)}</li>" for one in MEASURES)
    return (
        f"{_table('Means', heads, rows)}<p>Mean and 95 % confidence interval (Student's t) over the files; differences "
        f"are paired, file by file. Bold: the best mean.</p><ul>{meanings}</ul>"
    )


def _best(evaluation: Evaluation, one: Measure) -> str | None:
    """The candidate with the best mean, if there is more than one candidate."""
    means = {label: interval.mean for label in evaluation.candidates if (interval := evaluation.means[label][one.key])}
    if len(means) < 2:
        return None
    sign, goal = (-1.0, 0.0) if one.best == "high" else (1.0, 0.0)
    if one.best in "01":
        return min(means, key=lambda label: abs(means[label] - float(one.best)))
    return min(means, key=lambda label: sign * (means[label] - goal))


def in_digits(interval: Interval | None, one: Measure, *, signed: bool = False) -> str:
    """A mean and the half width of its interval, as text; "-" where there is none."""
    if interval is None:
        return "-"
    mean = f"{interval.mean:{'+' if signed or one.best == '0' else ''}.{one.digits}f}"
    half = interval.half_width
    return (mean if half is None else f"{mean} ± {half:.{one.digits}f}").replace("-", "−")


def colour_key(labels: Sequence[str]) -> str:
    entries = (
        f'<span><i style="background:{_colour(i)}"></i>{html.escape(name)}</span>' for i, name in enumerate(labels)
    )
    return (
        f'<div class="key">{"".join(entries)}</div><p>Small dots: files. Large dot and bar: mean and its interval.</p>'
    )


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def dot_pictures(evaluation: Evaluation) -> str:
    return f'<div class="dots">{"".join(_dot_picture(evaluation, one) for one in MEASURES)}</div>'


def _dot_picture(evaluation: Evaluation, one: Measure) -> str:
    """One measure: a row for each candidate, on one axis."""
    values = {label: _known(evaluation, label, one.key) for label in evaluation.candidates}
    means = {label: evaluation.means[label][one.key] for label in evaluation.candidates}
    everything = [value for several in values.values() for value in several]
    if not everything:
        return ""
    axis = _Axis.around(everything, [mean for mean in means.values() if mean is not None])
    rows = []
    for i, label in enumerate(evaluation.candidates):
        interval, paint = means[label], f"background:{_colour(i)}"
        marks = []
        if interval is not None:
            low, high = interval.low, interval.high
            if low is not None and high is not None:
                marks.append(f'<u style="left:{axis.at(low)};width:{axis.share(high - low)};{paint}"></u>')
            marks += [f'<i style="left:{axis.at(value)};{paint}"></i>' for value in values[label]]
            marks.append(f'<b style="left:{axis.at(interval.mean)};{paint}"></b>')
        text = html.escape(f"{label}: {in_digits(interval, one)}")
        rows.append(f'<div class="row" role="img" title="{text}" aria-label="{text}">{"".join(marks)}</div>')
    caption = f"{one.title}{f' ({one.unit})' if one.unit else ''} <small>{_ADVICE[one.best]}</small>"
    return (
        f'<figure><figcaption>{caption}</figcaption>{"".join(rows)}<div class="tts-ticks">{axis.ticks()}</div></figure>'
    )


def _known(evaluation: Evaluation, label: str, key: str) -> list[float]:
    values = sorted(value for row in evaluation.of(label) if (value := row.measures[key]) is not None)
    if len(values) <= _MAX_DOTS:
        return values
    return [values[round(i * (len(values) - 1) / (_MAX_DOTS - 1))] for i in range(_MAX_DOTS)]


class _Axis:
    """A horizontal axis whose ends are a little beyond the data."""

    def __init__(self, low: float, high: float) -> None:
        margin = 0.04 * (high - low) or 0.05 * abs(high) or 0.05
        self._low, self._span = low - margin, high - low + 2 * margin

    @staticmethod
    def around(values: Sequence[float], intervals: Sequence[Interval]) -> _Axis:
        """Wide enough for all values, and for intervals unless they are far wider, as those of two files are."""
        low, high = min(values), max(values)
        lows = [interval.low for interval in intervals if interval.low is not None]
        highs = [interval.high for interval in intervals if interval.high is not None]
        reach = high - low
        return _Axis(max(min([low, *lows]), low - reach / 2), min(max([high, *highs]), high + reach / 2))

    def at(self, value: float) -> str:
        return self.share(value - self._low)

    def share(self, length: float) -> str:
        return f"{100 * length / self._span:.2f}%"

    def ticks(self) -> str:
        raw = self._span / 4
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
        first = math.ceil(self._low / step)
        marks = [step * i for i in range(first, math.floor((self._low + self._span) / step) + 1)]
        return "".join(f'<span style="left:{self.at(mark)}">{round(mark, 9) + 0.0:g}</span>' for mark in marks)


def file_table(evaluation: Evaluation) -> str:
    heads = ["File", "By", "s", *(f"{one.title}{f' ({one.unit})' if one.unit else ''}" for one in MEASURES)]
    by_file: dict[str, list[Row]] = {}
    for row in evaluation.rows:
        by_file.setdefault(row.file, []).append(row)
    rows = []
    for row in (row for rows_of_file in by_file.values() for row in rows_of_file):
        values = ("-" if (v := row.measures[one.key]) is None else f"{v:.{one.digits}f}" for one in MEASURES)
        name = f'<span title="{html.escape(row.file)}">{html.escape(Path(row.file).name)}</span>'
        rows.append(
            [
                name,
                html.escape(row.candidate),
                f"{row.seconds:.1f}",
                *(v.replace("-", "−") if len(v) > 1 else v for v in values),
            ]
        )
    return _table("Figures of every file", heads, rows, texts=2)


def _table(name: str, heads: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first columns are text; cells are HTML, heads are not."""

    def kind(column: int) -> str:
        return "" if column < texts else ' class="number"'

    head = "".join(f'<th scope="col"{kind(i)}>{html.escape(text)}</th>' for i, text in enumerate(heads))
    body = ""
    for row in rows:
        cells = "".join(f"<td{kind(i)}>{text}</td>" for i, text in enumerate(row) if i)
        body += f'<tr><th scope="row">{row[0]}</th>{cells}</tr>'
    return (
        f'<div class="tts-table" tabindex="0" role="region" aria-label="{html.escape(name)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
