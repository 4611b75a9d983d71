"""An evaluation as one HTML file: means, dots, players, spectrograms."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from tts_infer.arguments import checked
from tts_infer.evaluation.measures import MEASURES, Measure
from tts_infer.evaluation.results import Evaluation, Row
from tts_infer.evaluation.systems import MAX_SECONDS, Copy, System, copy_file
from tts_infer.report.figures import FIGURE_STYLE, dot_pictures, file_table, summary_table
from tts_infer.report.html import bullets, escape, grid
from tts_infer.report.page import EXAMPLE_SECONDS, check_report, document, player, write_page
from tts_infer.report.pictures import mel_pictures


@checked()
def write_report(
    path: str | os.PathLike[str], evaluation: Evaluation, systems: Sequence[System], title: str = "Copy synthesis"
) -> None:
    """Write the report, whole or not at all.

    Some files are copied once more, so that they can be heard and seen: for each system the two files with its lowest
    PESQ (or with its largest log-mel error, if PESQ is missing), and the median file of the first system. The report
    holds their first 10 s.

    Args:
        path: .html; an existing file is replaced.
        evaluation: what the report shows.
        systems: those that were evaluated.
        title: of the page.

    Raises:
        FileError, MissingPackageError: see `check_report`; or the system refuses to write.
    """
    check_report(path)
    write_page(path, draw(evaluation, systems, title))


def draw(evaluation: Evaluation, systems: Sequence[System], title: str = "Copy synthesis") -> str:
    """The report as an HTML document, see `write_report`."""
    sections = [
        *_introduction(evaluation),
        f"<h2>Means</h2>{summary_table(evaluation)}",
        f"<h2>Every file</h2>{dot_pictures(evaluation)}",
        *_examples(evaluation, systems),
        f"<h2>Values of every file</h2>{file_table(evaluation)}",
    ]
    return document(title, sections, FIGURE_STYLE)


def _introduction(evaluation: Evaluation) -> Iterator[str]:
    files = len(evaluation.of(evaluation.systems[0]))
    yield (
        f"<p>{files} recording{'s' * (files != 1)}, copied by {escape(', '.join(evaluation.systems))}. Each copy is "
        f"compared with its original. Pitch tracker: {escape(evaluation.pitch_tracker)}.</p>"
    )
    notes = {"Not copied, and not part of any mean:": evaluation.failed, "Not measured:": evaluation.left_out}
    for title, reasons in notes.items():
        if reasons:
            yield f"<p>{title}</p>{bullets([f'{what}: {reason}' for what, reason in reasons.items()])}"
    if evaluation.shortened:
        names = escape(", ".join(evaluation.shortened))
        yield f"<p>Only the first {MAX_SECONDS:.0f} s of these files were measured: {names}</p>"


def _examples(evaluation: Evaluation, systems: Sequence[System]) -> Iterator[str]:
    chosen, first = choose_examples(evaluation), evaluation.systems[0]
    if not chosen:
        return
    yield (
        f"<h2>Listen and look</h2><p>{len(chosen)} of {len(evaluation.of(first))} files: for each system the two with "
        f"the worst {_ranking(evaluation).title}, and the median file of {escape(first)}. The first "
        f"{EXAMPLE_SECONDS:.0f} s of each, 16 bit, at their own level.</p>"
    )
    for file, reason in chosen.items():
        yield from _example(Path(file), reason, systems, evaluation)


def choose_examples(evaluation: Evaluation) -> dict[str, str]:
    """The files that are worth hearing, each with the reason."""
    ranking = _ranking(evaluation)
    chosen: dict[str, str] = {}
    for number, system in enumerate(evaluation.systems):
        rows = sorted(evaluation.of(system), key=lambda row: _badness(row, ranking), reverse=True)
        for place, row in zip(("worst", "second worst"), rows, strict=False):
            chosen.setdefault(row.file, f"{place} of {system}")
        if rows and not number:
            chosen.setdefault(rows[len(rows) // 2].file, f"median of {system}")
    return chosen


def _ranking(evaluation: Evaluation) -> Measure:
    """PESQ, or the log-mel error, or what there is."""
    known = {one.key: one for one in MEASURES}
    shown = [one.key for one in evaluation.shown] or ["pesq_wb"]
    return known[next((key for key in ("pesq_wb", "log_mel_error_db") if key in shown), shown[0])]


def _badness(row: Row, ranking: Measure) -> float:
    value = row.measures[ranking.key]
    if value is None:
        return -math.inf
    return ranking.shortfall(value)


def _example(path: Path, reason: str, systems: Sequence[System], evaluation: Evaluation) -> Iterator[str]:
    """One file: players of the original and of each copy, and below them their mels, one scale per convention."""
    yield f"<h3>{escape(path.name)} <small>{escape(reason)}</small></h3>"
    made, ranking = list(copy_file(path, systems)), _ranking(evaluation)
    values = {row.system: row.measures[ranking.key] for row in evaluation.rows if row.file == str(path)}
    best = max(made, key=lambda copy: copy.system.config.sample_rate)
    players = [player("Original", best.original, best.system.config.sample_rate)]
    for copy in made:
        label, value = copy.system.label, values.get(copy.system.label)
        note = "" if value is None else f", {ranking.title} {ranking.text(value)}"
        players.append(player(label, copy.samples, copy.system.config.sample_rate, note))
    yield grid(players, least_px=230)
    for config in dict.fromkeys(copy.system.config for copy in made):
        panels = list(_panels([copy for copy in made if copy.system.config == config]))
        if panels:
            yield mel_pictures(panels, config)


def _panels(made: Sequence[Copy]) -> Iterator[tuple[str, Tensor]]:
    """The mel of the original and of each copy, all in one convention."""
    config = made[0].system.config
    frames = round(EXAMPLE_SECONDS * config.sample_rate / config.hop_length)
    shown = [(copy.system.label, copy.mels) for copy in made if copy.mels is not None]
    for label, (original, copied) in shown:
        if label == shown[0][0]:
            yield "Original", original[0, :, :frames]
        yield label, copied[0, :, :frames]
