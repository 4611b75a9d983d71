"""The pieces of HTML: what tables hold, where axes put their numbers, and that texts are escaped."""

from __future__ import annotations

import re

import pytest

from tts_infer.report.html import Axis, bullets, colour_bar, legend, table


def cells(row: str) -> list[tuple[str, str]]:
    """Attributes and text of each cell."""
    return re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", row)


def test_texts_numbers_and_the_last_row() -> None:
    markup = table("A", ["Name", "Kind", "ms"], [["a", "b", "1"]], texts=2, foot=["Total", "2"])
    head, body, foot = re.findall(r"<tr>(.*?)</tr>", markup)
    number, row = ' class="number"', ' scope="row"'
    assert cells(head) == [(' scope="col"', "Name"), (' scope="col"', "Kind"), (f' scope="col"{number}', "ms")]
    assert cells(body) == [(row, "a"), ("", "b"), (number, "1")]
    assert cells(foot) == [(f'{row} colspan="2"', "Total"), (number, "2")]
    assert "<tfoot>" not in table("A", ["Name"], [["a"]])


def test_a_short_row_ends_in_a_remark() -> None:
    markup = table("A", ["File", "Output", "s", "dB"], [["a.wav", "is broken"], ["b.wav", "b", "1", "2"]], texts=2)
    _, short, full = re.findall(r"<tr>(.*?)</tr>", markup)
    assert cells(short)[1:] == [(' class="remark" colspan="3"', "is broken")] and len(cells(full)) == 4
    assert '<tr><td class="remark" colspan="2">all</td></tr>' in table("A", ["File", "s"], [["all"]])


def test_values_of_wide_tables_have_their_heads_with_them() -> None:
    """On a phone, they are shown beside them."""
    heads, row = ["File", "Output", "s", "dB"], ["a", "b", "1", "2"]
    wide, narrow = (
        table("A", heads, [row], texts=2, foot=["Total", "1", "2"]),
        table("A", heads[:3], [row[:3]], texts=2),
    )
    assert re.findall('data-column="(.*?)"', wide) == [*heads, "s", "dB"] and "data-column" not in narrow


@pytest.mark.parametrize(
    ("low", "high", "parts", "marks"),
    [
        (0, 10, 5, [0, 2, 4, 6, 8, 10]),
        (0, 0.6, 3, [0, 0.2, 0.4, 0.6]),  # 0.6 / 0.2 is a little less than 3
        (-30, 30, 6, [-30, -20, -10, 0, 10, 20, 30]),
        (-45.3, 34.7, 6, [-40, -20, 0, 20]),
        (3.13, 3.24, 4, [3.15, 3.2]),
    ],
)
def test_marks_are_round_and_on_the_axis(low: float, high: float, parts: int, marks: list[float]) -> None:
    assert Axis(low, high).marks(parts) == marks


def test_positions_are_shares_of_the_axis() -> None:
    axis = Axis(-10, 30)
    assert (axis.at(-10), axis.at(0), axis.at(30), axis.length(10)) == ("0.00%", "25.00%", "100.00%", "25.00%")
    assert '<span style="left:25.00%">0</span>' in axis.ticks() and "unit" not in axis.ticks()
    assert axis.ticks("dB").endswith('<span class="unit">dB</span></div>')


def test_the_colour_bar_has_its_colours_in_order() -> None:
    assert "linear-gradient(90deg,#000000,#ffffff)" in colour_bar("dB", Axis(0, 1), "000000 ffffff")


def test_texts_are_escaped() -> None:
    assert "<b>" not in legend({"<b>": "#000"}) + bullets(["<b>"])
