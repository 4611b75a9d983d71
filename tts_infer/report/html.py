"""The pieces of HTML that pictures, pages and reports are made of: tables, axes, legends, colour bars, embedded data.

A piece is a string. It refers to no other file and no other host. Arguments called HTML are already escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["COLOURS", "STYLE", "Axis", "bullets", "colour_bar", "data_uri", "escape", "grid", "legend", "table"]

# The colours of Okabe and Ito, which differ under every kind of colour blindness. The yellow is darker than theirs.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b38600", "#56b4e9", "#e69f00")

STYLE = """
.tts-grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(var(--least), 100%), 1fr)); }
.tts-grid { gap: 12px 20px; }
.tts-grid > * { min-width: 0; margin: 0; }
.tts-grid figcaption { font-weight: 600; margin-bottom: 4px; }
.tts-ticks { position: relative; height: 2.9em; font-size: 11px; line-height: 1; }
.tts-ticks span { position: absolute; top: 5px; transform: translateX(-50%); white-space: nowrap; }
.tts-ticks .unit { top: 1.8em; left: 50%; }
.tts-scale .bar { height: 10px; }
.tts-legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 12px; }
.tts-legend i { display: inline-block; width: 12px; height: 12px; margin-right: 5px; vertical-align: -1px; }
.tts-table { overflow-x: auto; margin-top: 12px; }
.tts-table table { width: 100%; color: inherit; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.tts-table :is(th, td) { padding: 5px 8px; text-align: left; border-bottom: 1px solid #8884; white-space: nowrap; }
.tts-table thead th { white-space: normal; vertical-align: bottom; }
.tts-table .number { text-align: right; }
.tts-table tbody th { font-weight: 400; }
.tts-table tfoot :is(th, td) { font-weight: 600; border-bottom: 0; }
@media (max-width: 480px) {
  .tts-many table, .tts-many tbody, .tts-many tfoot { display: block; }
  .tts-many thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .tts-many tr { display: flex; flex-wrap: wrap; gap: 0 14px; padding: 6px 0; border-bottom: 1px solid #8884; }
  .tts-many tr { font-size: 13px; line-height: 1.5; }
  .tts-table.tts-many :is(table, tr) { margin: 0; padding-inline: 0; }
  .tts-table.tts-many table { padding: 0; }
  .tts-table.tts-many tr > :is(th, td) { max-width: 100%; padding: 0; border: 0; white-space: normal; }
  .tts-many tr > :is(th, td) { text-align: left; overflow-wrap: anywhere; }
  .tts-many tr > [data-column]::before { content: attr(data-column) " "; font-weight: 400; opacity: .8; }
  .tts-many tr > :is(th, .remark) { flex: 1 0 100%; }
  .tts-many tr > th { font-weight: 600; }
  .tts-many td:empty { display: none; }
}
"""
# A table of so many columns is a list of rows on a phone, where each value has its head beside it.
_MANY = 4


def table(
    name: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1, foot: Sequence[str] = ()
) -> str:
    """Make a table whose first columns hold text and whose other columns hold numbers.

    Args:
        name: what the table shows, for screen readers; HTML.
        heads: HTML.
        rows: HTML. If a row has fewer cells than there are heads, its last cell is a remark that fills the row.
        texts: how many columns hold text.
        foot: HTML of the last row, whose first cell fills the columns of text.
    """
    head = "".join(f'<th scope="col"{_kind(i, texts)}>{text}</th>' for i, text in enumerate(heads))
    labels = heads if len(heads) >= _MANY else [""] * len(heads)
    body = "".join(f"<tr>{_cells(row, labels, texts)}</tr>" for row in rows)
    numbers = "".join(f"<td{_kind(i, texts, labels[i])}>{text}</td>" for i, text in enumerate(foot[1:], start=texts))
    last = f'<tfoot><tr><th scope="row" colspan="{texts}">{foot[0]}</th>{numbers}</tr></tfoot>' if foot else ""
    many = " tts-many" if any(labels) else ""
    return (
        f'<div class="tts-table{many}" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>{last}</table></div>"
    )


def _cells(row: Sequence[str], labels: Sequence[str], texts: int) -> str:
    if len(row) < len(labels):
        *first, remark = row
        rest = f'<td class="remark" colspan="{len(labels) - len(first)}">{remark}</td>'
        return (_cells(first, labels[: len(first)], texts) if first else "") + rest
    cells = (f"<td{_kind(i, texts, labels[i])}>{text}</td>" for i, text in enumerate(row) if i)
    return f'<th scope="row"{_kind(0, texts, labels[0])}>{row[0]}</th>{"".join(cells)}'


def _kind(column: int, texts: int, label: str = "") -> str:
    """The attributes of a cell: whether it holds a number, and its head, if that is shown beside it."""
    kind = "" if column < texts else ' class="number"'
    return f'{kind} data-column="{label}"' if label else kind


@dataclass(frozen=True)
class Axis:
    """A horizontal axis. Positions and lengths are CSS percentages of its width."""

    low: float
    high: float

    def at(self, value: float) -> str:
        """Where a value lies."""
        return self.length(value - self.low)

    def length(self, amount: float) -> str:
        return f"{amount / (self.high - self.low):.2%}"

    def marks(self, parts: int = 5) -> list[float]:
        """The round numbers on the axis at a distance of 1, 2 or 5 times a power of ten: about so many parts."""
        raw = (self.high - self.low) / parts
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
        first, last = math.ceil(self.low / step), math.floor(self.high / step + 1e-9)
        return [round(i * step, 9) for i in range(first, last + 1)]

    def ticks(self, unit: str = "", parts: int = 5) -> str:
        """The numbers below the axis, and the unit below them; HTML."""
        labels = "".join(f'<span style="left:{self.at(mark)}">{mark:g}</span>' for mark in self.marks(parts))
        name = f'<span class="unit">{unit}</span>' if unit else ""
        return f'<div class="tts-ticks" aria-hidden="true">{labels}{name}</div>'


def colour_bar(title: str, axis: Axis, colours: str) -> str:
    """Show which colour stands for which value.

    Args:
        title: HTML.
        axis: the values at the ends.
        colours: hexadecimal colours with spaces between them, at equal distances from low to high.
    """
    stops = ",".join(f"#{colour}" for colour in colours.split())
    return (
        f'<div class="tts-scale" role="img" aria-label="{title}: {axis.low:.0f} – {axis.high:.0f}">'
        f'<div class="bar" style="background:linear-gradient(90deg,{stops})"></div>{axis.ticks(title, parts=6)}</div>'
    )


def legend(entries: Mapping[str, str]) -> str:
    """Show what colours mean. Entries are names, as text, and CSS backgrounds."""
    items = (f'<span><i style="background:{paint}"></i>{escape(name)}</span>' for name, paint in entries.items())
    return f'<div class="tts-legend">{"".join(items)}</div>'


def grid(cells: Sequence[str], least_px: int) -> str:
    """Cells (HTML) side by side, as many as fit with so many pixels each."""
    return f'<div class="tts-grid" style="--least:{least_px}px">{"".join(cells)}</div>'


def bullets(items: Sequence[str]) -> str:
    """A list of texts."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def data_uri(kind: str, data: bytes) -> str:
    """The address of data that are part of the page. `kind` is the media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
