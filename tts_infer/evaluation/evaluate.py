"""Copy files with several vocoders, and measure how close the copies are."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tts_infer.deprecated import renamed
from tts_infer.dsp.mel import log_mel_error_db
from tts_infer.errors import FileError, InputError, TTSInferError
from tts_infer.evaluation.intervals import CONFIDENCE, Interval, mean_interval
from tts_infer.evaluation.measures import MEASURES, Signal, measure
from tts_infer.evaluation.pitch import TRACKER_NAMES, PitchTracker
from tts_infer.evaluation.systems import MAX_SECONDS, Candidate, candidates_of, copies
from tts_infer.io.sources import AUDIO_SUFFIXES, Names, as_names, mode_of, select, walk
from tts_infer.vocoder import Vocoder

__all__ = ["Candidate", "Evaluation", "Row", "evaluate", "find_audio", "log_mel_error_db"]

Means = dict[str, dict[str, Interval | None]]  # candidate -> measure


@dataclass(frozen=True)
class Row:
    """One copy of one file. A measure that is not defined for it, or whose package is missing, is None."""

    file: str
    candidate: str
    seconds: float
    rtfx: float  # seconds of audio per second of decoding
    measures: dict[str, float | None]

    xrt = renamed("xrt", "rtfx")


@dataclass(frozen=True)
class Evaluation:
    """All rows, and over the files that every candidate copied: means, and paired differences to the first."""

    candidates: tuple[str, ...]
    rows: tuple[Row, ...]
    means: Means
    differences: Means
    failed: dict[str, str]  # file -> reason
    missing: dict[str, str]  # measure or candidate -> reason
    shortened: tuple[str, ...]  # files of which the first 30 s were measured
    pitch_tracker: str

    def of(self, candidate: str) -> list[Row]:
        """The rows of one candidate, in the order of files."""
        return [row for row in self.rows if row.candidate == candidate]

    def rtfx(self, candidate: str) -> float | None:
        """Seconds of audio per second of decoding, over all files."""
        rows = self.of(candidate)
        spent = sum(row.seconds / row.rtfx for row in rows if row.rtfx)
        return sum(row.seconds for row in rows) / spent if spent else None

    xrt = renamed("xrt", "rtfx")

    def as_dict(self) -> dict[str, Any]:
        """The evaluation as strict JSON takes it."""
        facts = {
            "confidence": CONFIDENCE,
            "interval": "Student's t",
            "max_seconds": MAX_SECONDS,
            "measures": {measure.key: asdict(measure) for measure in MEASURES},
            "rtfx": {label: self.rtfx(label) for label in self.candidates},
        }
        return asdict(self) | facts


def find_audio(inputs: Names, limit: int | None = None) -> list[Path]:
    """Find the audio that files and folders name; folders are searched recursively, by suffix.

    Args:
        inputs: one or several: files of any suffix, folders.
        limit: how many files of each folder, in order of their names; None: all.

    Raises:
        FileError: an input that does not exist or cannot be read, or a folder without audio.
        InputError: limit is less than 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it must be a whole number of at least 1")
    found: list[Path] = []
    for given in map(Path, as_names(inputs)):
        mode = mode_of(given)
        if stat.S_ISDIR(mode):
            below = select(walk(given), AUDIO_SUFFIXES)
            if not below:
                raise FileError(f"{given} holds no audio; wanted: {', '.join(AUDIO_SUFFIXES)}")
            taken: Counter[Path] = Counter()
            for path in below:
                taken[path.parent] += 1
                if limit is None or taken[path.parent] <= limit:
                    found.append(path)
        elif stat.S_ISREG(mode):
            found.append(given)
        else:
            raise FileError(f"no such file: {given}")
    return list(dict.fromkeys(found))


def evaluate(
    files: Names,
    vocoders: Sequence[Vocoder | Candidate],
    *,
    baseline: bool = True,
    refine: Sequence[int | None] = (None,),
    pitch_tracker: PitchTracker = "crepe",
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Copy every file with every vocoder and with Griffin-Lim, and measure how close the copies are.

    A file that cannot be read or copied is recorded with its reason, and the others go on. Each vocoder is compared
    with the original at its own sample rate. Of a file longer than 30 s, the first 30 s are measured.

    Args:
        files, limit: audio files and folders, see `find_audio`.
        vocoders: at least one; or whatever else makes copies, as a `Candidate`.
        baseline: also Griffin-Lim, in each mel convention of the vocoders.
        refine: every vocoder is evaluated at each of these; None: its own default.
        pitch_tracker: of periodicity and voicing, see `track_pitch`.
        progress: called after each file with the number of files done and of all.

    Raises:
        FileError, InputError: see `find_audio` and `candidates_of`; no files or no vocoder; no such pitch tracker.
    """
    if pitch_tracker not in TRACKER_NAMES:
        raise InputError(f"pitch tracker is {pitch_tracker!r}; allowed: {', '.join(TRACKER_NAMES)}")
    paths = find_audio(files, limit)
    candidates, missing = candidates_of(vocoders, refine, baseline)
    if not candidates or not paths:
        raise InputError("nothing to evaluate; give at least one file and one vocoder")
    rows: list[Row] = []
    failed: dict[str, str] = {}
    shortened: list[str] = []
    for number, path in enumerate(paths, start=1):
        try:
            made, cut = _rows(path, candidates, pitch_tracker, missing)
        except TTSInferError as error:
            failed[str(path)] = str(error)
        else:
            rows += made
            shortened += [str(path)] if cut else []
        if progress is not None:
            progress(number, len(paths))
    return _summed_up(candidates, rows, failed, missing, shortened, TRACKER_NAMES[pitch_tracker])


def _rows(
    path: Path, candidates: Sequence[Candidate], tracker: PitchTracker, missing: dict[str, str]
) -> tuple[list[Row], bool]:
    """The rows of one file, and whether only its beginning was measured; what is missing is noted."""
    originals: dict[int, Signal] = {}
    rows, shortened = [], False
    for copy in copies(path, candidates):
        config, label = copy.candidate.config, copy.candidate.label
        rate = config.sample_rate
        original = originals.setdefault(rate, Signal(copy.original, rate, tracker))
        values, absent = measure(original, Signal(copy.samples, rate, tracker), copy.mels, config)
        missing.update(absent)
        seconds = len(copy.samples) / rate
        rows.append(Row(str(path), label, seconds, seconds / copy.decode_s, values))
        shortened = shortened or copy.shortened
    return rows, shortened


def _summed_up(
    candidates: Sequence[Candidate],
    rows: Sequence[Row],
    failed: dict[str, str],
    missing: dict[str, str],
    shortened: Sequence[str],
    tracker: str,
) -> Evaluation:
    values = {one.label: [row.measures for row in rows if row.candidate == one.label] for one in candidates}
    first, *others = values
    differences = {label: list(map(_less, values[label], values[first])) for label in others}
    return Evaluation(
        candidates=tuple(values),
        rows=tuple(rows),
        means={label: _means(measured) for label, measured in values.items()},
        differences={label: _means(measured) for label, measured in differences.items()},
        failed=failed,
        missing=missing,
        shortened=tuple(shortened),
        pitch_tracker=tracker,
    )


def _less(values: dict[str, float | None], others: dict[str, float | None]) -> dict[str, float | None]:
    pairs = {key: (values[key], others[key]) for key in values}
    return {key: None if a is None or b is None else a - b for key, (a, b) in pairs.items()}


def _means(measured: Sequence[dict[str, float | None]]) -> dict[str, Interval | None]:
    return {one.key: mean_interval([values[one.key] for values in measured]) for one in MEASURES}
