"""An evaluation against an earlier one: falls that count, and falls that do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tts_infer import FileError, InputError
from tts_infer.errors import ConfigError
from tts_infer.evaluation import MEASURES, Evaluation, Row, judge, load_evaluation

BY = {one.key: f"{one.package} 1.0" for one in MEASURES}


def made(key: str, *values: float | None, by: dict[str, str] = BY, systems: Sequence[str] = ("ours",)) -> Evaluation:
    """An evaluation with one measure."""
    empty: dict[str, float | None] = {one.key: None for one in MEASURES}
    rows = [Row(f"{i}.wav", name, 1.0, 1.0, empty | {key: value}) for name in systems for i, value in enumerate(values)]
    return Evaluation(tuple(systems), tuple(rows), {}, {}, {}, {}, (), "nobody", MEASURES, by)


def verdict(key: str, now: Sequence[float | None], before: Sequence[float | None], by: dict[str, str] = BY) -> Any:
    (one,) = judge(made(key, *now), made(key, *before, by=by).as_dict())
    return one.verdict


@pytest.mark.parametrize(
    ("key", "before", "now", "expected"),
    [
        ("pesq_wb", (3.0, 3.5, 4.0), (2.9, 3.4, 3.9), "worse"),
        ("pesq_wb", (3.0, 3.5, 4.0), (3.1, 3.6, 4.1), "better"),
        ("pesq_wb", (3.0, 3.5, 4.0), (2.9, 3.4, 4.1), "same"),  # by -0.03 +- 0.29
        ("pesq_wb", (3.0, 3.5, 4.0), (2.999, 3.499, 3.999), "same"),  # no table shows it
        ("mcd_db", (1.0, 1.0, 1.0), (1.2, 1.2, 1.2), "worse"),
        ("level_db", (-0.5, -0.5, -0.5), (0.3, 0.3, 0.3), "better"),  # nearer to 0
        ("pulse_ratio", (0.9, 0.9, 0.9), (1.3, 1.3, 1.3), "worse"),  # farther from 1
        ("pulse_ratio", (0.9, 0.9, 0.9), (1.05, 1.05, 1.05), "better"),
        ("pesq_wb", (3.0, 3.5, 4.0), (3.0, None, 4.0), "lost"),
        ("pesq_wb", (3.0, None, 4.0), (3.0, 3.5, 4.0), "same"),  # more than before is known
    ],
)
def test_verdicts(key: str, before: Sequence[float], now: Sequence[float | None], expected: str) -> None:
    assert verdict(key, now, before) == expected


def test_gains_are_paired_and_signed() -> None:
    (one,) = judge(made("f0_rmse_cents", 10.0, 30.0), made("f0_rmse_cents", 12.0, 33.0).as_dict())
    assert one.gain is not None and one.gain.mean == pytest.approx(2.5)  # less error is a gain
    assert one.gain.half_width == pytest.approx(12.7062 * 0.5, abs=1e-3)


def test_another_version_of_a_package_is_no_comparison() -> None:
    assert verdict("pesq_wb", (3.0, 3.0), (3.0, 3.0), BY | {"pesq_wb": "pesq 2.0"}) == "lost"
    assert verdict("mcd_db", (3.0, 3.0), (3.0, 3.0), BY | {"mcd_db": "tts-infer 0.9"}) == "same"  # our definition stays


def test_what_is_new_is_not_compared() -> None:
    assert judge(made("pesq_wb", 3.0, 3.0), made("stoi", None, None).as_dict()) == []


def test_systems_go_by_their_order() -> None:
    now, before = made("pesq_wb", 3.0, 3.0, systems=("a", "b")), made("pesq_wb", 3.0, 3.0, systems=("x", "y"))
    assert [(one.system, one.before) for one in judge(now, before.as_dict())] == [("a", "x"), ("b", "y")]
    with pytest.raises(InputError, match="the earlier evaluation has 1 systems, this one 2"):
        judge(now, made("pesq_wb", 3.0, 3.0).as_dict())


def test_the_files_must_be_the_same() -> None:
    with pytest.raises(InputError, match="the earlier evaluation has 3 files, of which 2 of 2 are measured here"):
        judge(made("pesq_wb", 3.0, 3.0), made("pesq_wb", 3.0, 3.0, 3.0).as_dict())


def test_what_is_no_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    path.write_text(json.dumps(made("pesq_wb", 3.0).as_dict(), allow_nan=False))
    assert load_evaluation(path)["systems"] == ["ours"]
    for text in ("{}", '{"rows": [1], "systems": [], "measured_by": {}}', '{"rows": 1, "systems": 1}'):
        path.write_text(text)
        with pytest.raises(InputError, match="is no evaluation; write one with evaluate --json"):
            load_evaluation(path)
    path.write_text("no JSON")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        load_evaluation(path)
    with pytest.raises(FileError, match="cannot read nowhere: No such file"):
        load_evaluation("nowhere")
