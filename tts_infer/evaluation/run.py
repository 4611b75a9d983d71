"""Copy files with several systems, and measure how close the copies are to the originals."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tts_infer.arguments import checked
from tts_infer.errors import FileError, InputError, TTSInferError
from tts_infer.evaluation.intervals import missing_interval
from tts_infer.evaluation.measures import Measure, chosen_measures, measure
from tts_infer.evaluation.pair import Pair, Signal
from tts_infer.evaluation.pitch import PitchTracker, tracker_name
from tts_infer.evaluation.results import Evaluation, Row, means_and_differences
from tts_infer.evaluation.systems import System, copy_file, systems_of
from tts_infer.io.sources import AUDIO_SUFFIXES, Names, as_names, file_not_found, mode_of, select, walk
from tts_infer.vocoder import Vocoder


@checked()
def find_audio(inputs: Names, limit: int | None = None) -> list[Path]:
    """Find the audio files among files and folders. Folders are searched recursively, by suffix.

    Args:
        inputs: one or several: files of any suffix, folders.
        limit: how many files of each folder count, in order of their names; None: all.

    Raises:
        FileError: an input does not exist or cannot be read, or a folder holds no audio.
        InputError: limit is less than 1.
    """
    if limit is not None and limit < 1:
        raise InputError("limit is {limit}; it must be a whole number of at least 1", code="limit-too-low", limit=limit)
    found: list[Path] = []
    for given in map(Path, as_names(inputs)):
        mode = mode_of(given)
        if stat.S_ISDIR(mode):
            found += _audio_below(given, limit)
        elif stat.S_ISREG(mode):
            found.append(given)
        else:
            raise file_not_found(given)
    return list(dict.fromkeys(found))


def _audio_below(folder: Path, limit: int | None) -> list[Path]:
    """The audio files in a folder and in its subfolders, in order of their names; so many of each folder."""
    paths = select(walk(folder), AUDIO_SUFFIXES)
    if not paths:
        allowed = ", ".join(AUDIO_SUFFIXES)
        raise FileError(
            "{path} holds no audio; wanted: {allowed}", code="folder-no-audio", path=str(folder), allowed=allowed
        )
    taken: Counter[Path] = Counter()
    found = []
    for path in paths:
        taken[path.parent] += 1
        if limit is None or taken[path.parent] <= limit:
            found.append(path)
    return found


@checked()
def evaluate(
    files: Names,
    vocoders: Sequence[Vocoder | System],
    *,
    baseline: bool = True,
    refine: Sequence[int | None] = (None,),
    pitch_tracker: PitchTracker = "crepe",
    measures: Sequence[str] | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Copy every file with every vocoder and with Griffin-Lim, and measure how close the copies are.

    If a file cannot be read or copied, its reason is recorded, and the other files go on. Each copy is compared with
    the original at the sample rate of its vocoder. Only the first 30 s of a file are measured.

    Args:
        files, limit: audio files and folders, see `find_audio`.
        vocoders: at least one. Anything else that copies audio can be given as a `System`.
        baseline: also evaluate Griffin-Lim, in each mel convention of the vocoders.
        refine: every vocoder is evaluated at each of these; None: its own default.
        pitch_tracker: finds periodicity, voicing and pitch, see `track_pitch`.
        measures: keys of `MEASURES`; None: all.
        progress: called after each file with the number of files done and of all files.

    Raises:
        FileError, InputError: see `find_audio` and `systems_of`; no files or no vocoder; no such pitch tracker or
            measure.
    """
    tracker, wanted = tracker_name(pitch_tracker), chosen_measures(measures)
    paths = find_audio(files, limit)
    systems, missing = systems_of(vocoders, refine, baseline)
    if not systems or not paths:
        raise InputError("nothing to evaluate; give at least one file and one vocoder", code="nothing-to-evaluate")
    if (reason := missing_interval()) is not None:
        missing["confidence interval"] = reason
    rows: list[Row] = []
    failed: dict[str, str] = {}
    shortened: list[str] = []
    for number, path in enumerate(paths, start=1):
        try:
            made, cut = _measure_file(path, systems, wanted, pitch_tracker, missing)
        except TTSInferError as error:
            failed[str(path)] = str(error)
        else:
            rows += made
            shortened += [str(path)] if cut else []
        if progress is not None:
            progress(number, len(paths))
    labels = tuple(system.label for system in systems)
    means, differences = means_and_differences(labels, rows, wanted)
    by = {one.key: one.measured_by(pitch_tracker) for one in wanted}
    found = tuple(rows), means, differences, failed, missing, tuple(shortened)
    return Evaluation(labels, *found, tracker, wanted, by)


def _measure_file(
    path: Path,
    systems: Sequence[System],
    measures: Sequence[Measure],
    tracker: PitchTracker,
    missing: dict[str, str],
) -> tuple[list[Row], bool]:
    """The rows of one file, and whether only its beginning was measured. Adds to `missing` what cannot be measured."""
    originals: dict[int, Signal] = {}
    rows, shortened = [], False
    for copy in copy_file(path, systems):
        config = copy.system.config
        rate = config.sample_rate
        original = originals.setdefault(rate, Signal(copy.original, rate, tracker))
        seams = copy.system.seams and copy.system.seams(len(copy.samples))
        pair = Pair(original, Signal(copy.samples, rate, tracker), copy.mels, config, seams)
        values, absent = measure(pair, measures)
        missing.update(absent)
        seconds = len(copy.samples) / rate
        rows.append(Row(str(path), copy.system.label, seconds, seconds / copy.decode_s, values))
        shortened = shortened or copy.shortened
    return rows, shortened
