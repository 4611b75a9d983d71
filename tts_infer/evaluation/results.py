"""What an evaluation found: the measures of every copy, their means, and the differences between systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tts_infer.deprecated import renamed
from tts_infer.evaluation.intervals import CONFIDENCE, Interval, mean_interval
from tts_infer.evaluation.measures import MEASURES
from tts_infer.evaluation.systems import MAX_SECONDS

Values = dict[str, float | None]  # measure -> value; None: not defined, or its package is missing
Means = dict[str, dict[str, Interval | None]]  # system -> measure -> mean


@dataclass(frozen=True)
class Row:
    """The measures of one copy of one file."""

    file: str
    system: str
    seconds: float
    rtfx: float  # seconds of audio per second of decoding
    measures: Values

    candidate = renamed("candidate", "system")
    xrt = renamed("xrt", "rtfx")


@dataclass(frozen=True)
class Evaluation:
    """The measures of every copy, and their means.

    Means are over the files that every system could copy. Differences are to the first system, file by file.
    """

    systems: tuple[str, ...]
    rows: tuple[Row, ...]
    means: Means
    differences: Means
    failed: dict[str, str]  # file -> reason
    missing: dict[str, str]  # measure, system or interval -> reason
    shortened: tuple[str, ...]  # files of which only the first 30 s were measured
    pitch_tracker: str

    candidates = renamed("candidates", "systems")
    xrt = renamed("xrt", "rtfx")

    def of(self, system: str) -> list[Row]:
        """The rows of one system, in the order of files."""
        return [row for row in self.rows if row.system == system]

    def rtfx(self, system: str) -> float | None:
        """Seconds of audio per second of decoding, over all files."""
        rows = self.of(system)
        spent = sum(row.seconds / row.rtfx for row in rows if row.rtfx)
        return sum(row.seconds for row in rows) / spent if spent else None

    def as_dict(self) -> dict[str, Any]:
        """The evaluation as a dictionary that strict JSON can hold."""
        document = asdict(self)
        for row in document["rows"]:
            row["candidate"] = row["system"]  # the old key, for one release
        return document | {
            "candidates": self.systems,  # the old key, for one release
            "confidence": CONFIDENCE,
            "interval": "Student's t",
            "max_seconds": MAX_SECONDS,
            "measures": {measure.key: asdict(measure) for measure in MEASURES},
            "rtfx": {system: self.rtfx(system) for system in self.systems},
        }


def means_and_differences(systems: Sequence[str], rows: Sequence[Row]) -> tuple[Means, Means]:
    """The mean of every measure for each system, and the mean of its difference to the first system."""
    values = {system: [row.measures for row in rows if row.system == system] for system in systems}
    first, *others = systems
    differences = {system: list(map(_subtract, values[system], values[first])) for system in others}
    return _means(values), _means(differences)


def _subtract(values: Values, others: Values) -> Values:
    pairs = {key: (values[key], others[key]) for key in values}
    return {key: None if a is None or b is None else a - b for key, (a, b) in pairs.items()}


def _means(found: dict[str, list[Values]]) -> Means:
    return {
        system: {one.key: mean_interval([values[one.key] for values in rows]) for one in MEASURES}
        for system, rows in found.items()
    }
