"""Figures as HTML: the numbers that they hold, and where the dots are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tts_infer.evaluation import Evaluation
from tts_infer.evaluation.intervals import Interval, mean_interval
from tts_infer.evaluation.measures import MEASURES
from tts_infer.report.figures import dot_pictures, file_table, summary_table

MadeUp = Callable[..., Evaluation]
PESQ, LEVEL = MEASURES[0], MEASURES[-1]


def test_text_of_a_mean() -> None:
    assert PESQ.interval_text(Interval(3.1234, 3.0, 3.2468, 4)) == "3.12 ± 0.12"
    assert PESQ.interval_text(Interval(3.1234, None, None, 1)) == "3.12"
    assert LEVEL.interval_text(Interval(-0.25, -0.5, 0.0, 4)) == "−0.25 ± 0.25"
    assert LEVEL.interval_text(Interval(0.25, 0.0, 0.5, 4)) == "+0.25 ± 0.25"
    assert PESQ.interval_text(Interval(0.5, 0.0, 1.0, 4), difference=True) == "+0.50 ± 0.50"
    assert PESQ.interval_text(Interval(4.5, 4.2, 4.65, 4)) == "4.50 (4.20 to 4.65)"  # cut by the range
    assert LEVEL.interval_text(Interval(0.25, -0.5, 0.5, 4)) == "+0.25 (−0.50 to +0.50)"
    assert PESQ.interval_text(None) == "-"


def test_the_table_of_means(made_up: MadeUp) -> None:
    table = summary_table(made_up(**{"a&b": [3.0, 4.0], "other": [2.0, 2.0]}))
    row = re.search(r"PESQ \(MOS\).*?</tr>", table)
    assert row is not None
    assert re.findall(r'<td class="number"[^>]*>(.*?)</td>', row[0]) == [
        '<span class="best">3.50 ± 6.35</span>',
        "2.00 ± 0.00",
        "−0.50 ± 0.20",
    ]
    assert "a&amp;b" in table and "other − a&amp;b" in table and "a&b<" not in table
    assert re.search('<td class="number"[^>]*>10</td>', table)  # x real time
    assert "higher is better" in row[0] and "Seam click" not in table  # what has no value has no row


def test_the_table_names_packages(made_up: MadeUp) -> None:
    found = replace(made_up(one=[3.0, 4.0]), measured_by={"pesq_wb": "pesq 0.0.4"})
    assert "<small>higher is better; pesq 0.0.4</small>" in summary_table(found)


@pytest.mark.parametrize(
    ("key", "better", "worse"),
    [
        ("pesq_wb", (3.5, 3.7), (3.4, 3.7)),
        ("mcd_db", (0.5, 0.7), (0.5, 0.8)),
        ("level_db", (0.1, -0.2), (0.4, 0.3)),
        ("level_db", (-0.1, -0.1), (-0.3, -0.3)),
        ("pulse_ratio", (0.8, 1.1), (1.2, 1.2)),
    ],
)
def test_the_best_mean_is_bold(
    key: str, better: tuple[float, float], worse: tuple[float, float], made_up: MadeUp
) -> None:
    """High, low, and near to 0 or 1, as each measure says."""
    found = made_up(worse=[None], better=[None])
    found.means["worse"][key] = mean_interval(worse)
    found.means["better"][key] = mean_interval(better)
    bold = [row for row in summary_table(found).split("<tr>") if 'class="best"' in row]
    assert len(bold) == 1  # the other measures have no means
    assert ['class="best"' in cell for cell in bold[0].split("<td")[1:]] == [False, True, False]


def test_dots_are_where_the_values_are(made_up: MadeUp) -> None:
    picture = dot_pictures(made_up(one=[1.0, 2.0, 3.0]))
    assert picture.count("<figure>") == 1  # of undefined measures there is none
    at = {tag: [float(x) for x in re.findall(rf'<{tag} style="left:(-?[\d.]+)%', picture)] for tag in "iub"}
    ticks = [(float(t), float(x)) for x, t in re.findall(r'<span style="left:(-?[\d.]+)%">([\d.]+)</span>', picture)]
    (low, left), (high, right) = ticks[0], ticks[-1]

    def place(value: float) -> Any:
        return pytest.approx(left + (value - low) / (high - low) * (right - left), abs=0.05)

    assert at["i"] == [place(1.0), place(2.0), place(3.0)] and at["b"] == [place(2.0)]
    half = 4.3027 / 3**0.5
    width = re.search(r"<u [^>]*width:([\d.]+)%", picture)
    assert at["u"] == [place(2.0 - half)] and width is not None
    assert at["u"][0] + float(width[1]) == place(2.0 + half)


def test_intervals_of_two_files_do_not_squeeze_the_dots(made_up: MadeUp) -> None:
    picture = dot_pictures(made_up(one=[1.0, 2.0]))
    first, second = (float(x) for x in re.findall(r'<i style="left:([\d.]+)%', picture))
    assert second - first > 40


def test_one_value_and_many(made_up: MadeUp) -> None:
    assert "<u" not in dot_pictures(made_up(one=[2.0])) and "<b" in dot_pictures(made_up(one=[0.0]))
    many = dot_pictures(made_up(one=[i / 1000 for i in range(1000)]))
    assert many.count('<i style="left') == 200


def test_the_table_of_files(made_up: MadeUp) -> None:
    table = file_table(made_up(one=[3.5, None], two=[2.25, -1.0]))
    assert [re.sub("<.*?>", "", x) for x in re.findall(r'<th scope="row"[^>]*>(.*?)</th>', table)] == [
        "&lt;0&gt;.wav",
        "&lt;0&gt;.wav",
        "&lt;1&gt;.wav",
        "&lt;1&gt;.wav",
    ]
    cells = [row.split("<td")[3] for row in table.split("<tr>")[2:]]
    assert [cell.partition(">")[2].partition("<")[0] for cell in cells] == ["3.50", "2.25", "-", "−1.00"]


def test_systems_have_colours_of_their_own(made_up: MadeUp) -> None:
    legend = dot_pictures(made_up(**{f"<{i}>": [1.0] for i in range(7)})).partition("</div>")[0]
    assert len(set(re.findall("background:(#[0-9a-f]{6})", legend))) == 7 and "&lt;5&gt;" in legend
