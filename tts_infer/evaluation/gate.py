"""Whether a measure has fallen below what an earlier evaluation found: the gate of a release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tts_infer.documents import parse_json
from tts_infer.errors import FileError, InputError
from tts_infer.evaluation.intervals import Interval, mean_interval
from tts_infer.evaluation.measures import OWN, Measure
from tts_infer.evaluation.results import Evaluation

VERDICTS: dict[str, str] = {
    "better": "better by more than its interval",
    "same": "no difference beyond its interval",
    "worse": "WORSE by more than its interval",
    "lost": "LOST: it has no value now, or another package measures it",
}
FAILED = ("worse", "lost")


@dataclass(frozen=True)
class Verdict:
    """What became of a measure of a system. `gain` is the mean over the files by which it is better than before."""

    system: str
    before: str  # the system of the earlier evaluation
    measure: str
    gain: Interval | None
    verdict: Literal["better", "same", "worse", "lost"]


def load_evaluation(path: str | Path) -> dict[str, Any]:
    """Read what `Evaluation.as_dict` gives from a JSON file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: it holds no JSON.
        InputError: it holds no evaluation that can be compared with.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError("cannot read {path}: {reason}", code="unreadable", path=str(path), reason=reason) from None
    document = parse_json(content, str(path))
    try:
        {row["file"]: (row["system"], dict(row["measures"])) for row in document["rows"]}
        list(document["systems"]), dict(document["measured_by"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            "{path} is no evaluation; write one with evaluate --json > FILE", code="no-evaluation", path=str(path)
        ) from None
    return document


def judge(found: Evaluation, before: Mapping[str, Any]) -> list[Verdict]:
    """Compare an evaluation with an earlier one of the same files, file by file: first system with first, and so on.

    A measure is worse if its mean has fallen by more than the 95 % confidence interval of the paired differences, and
    by more than half a unit of its last digit. Of 20 independent measures that have not changed, chance alone lets one
    fall so far in two of five evaluations. Measures that the earlier evaluation lacks are not compared.

    Args:
        found: its files must be those of the earlier one.
        before: see `load_evaluation`.

    Raises:
        InputError: other files, or another number of systems.
    """
    systems = list(before["systems"])
    if len(systems) != len(found.systems):
        text = "the earlier evaluation has {before} systems, this one {now}; evaluate the same ones, in the same order"
        raise InputError(text, code="evaluation-other-systems", before=len(systems), now=len(found.systems))
    old = {(row["system"], row["file"]): row["measures"] for row in before["rows"]}
    files = {file for _, file in old}
    if files != {row.file for row in found.rows}:
        common = len(files & {row.file for row in found.rows})
        text = "the earlier evaluation has {before} files, of which {common} of {now} are measured here; give the same"
        now = len({row.file for row in found.rows})
        raise InputError(text, code="evaluation-other-files", before=len(files), common=common, now=now)
    return [
        verdict
        for system, earlier in zip(found.systems, systems, strict=True)
        for verdict in _of_system(found, before["measured_by"], old, system, earlier)
    ]


def _of_system(
    found: Evaluation,
    by: Mapping[str, str],
    old: Mapping[tuple[str, str], Mapping[str, Any]],
    system: str,
    earlier: str,
) -> Iterator[Verdict]:
    rows = found.of(system)
    for one in found.measures:
        pairs = [(row.measures[one.key], old[earlier, row.file].get(one.key)) for row in rows]
        if all(previous is None for _, previous in pairs):
            continue
        gains = [None if a is None or b is None else one.shortfall(b) - one.shortfall(a) for a, b in pairs]
        lost = any(now is None and previous is not None for now, previous in pairs)
        lost = lost or (one.package != OWN and by.get(one.key) != found.measured_by[one.key])
        gain = mean_interval(gains, one.difference_range)
        yield Verdict(system, earlier, one.key, gain, "lost" if lost or gain is None else _verdict(one, gain))


def _verdict(one: Measure, gain: Interval) -> Literal["better", "same", "worse"]:
    least = max(gain.half_width or 0.0, 0.5 * 10**-one.digits)
    if abs(gain.mean) <= least:
        return "same"
    return "better" if gain.mean > 0 else "worse"
