"""An evaluation as one HTML file that needs nothing else: means, dots, players, spectrograms.

The file holds text, boxes and data URIs only: no script, no font, no request. Its colours follow the reader's light or
dark setting.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import soundfile
from torch import Tensor

from tts_infer.errors import FileError
from tts_infer.evaluation.measures import MEASURES, Measure
from tts_infer.evaluation.metrics import Samples
from tts_infer.evaluation.results import Evaluation, Row
from tts_infer.evaluation.systems import MAX_SECONDS, Copy, System, copy_file
from tts_infer.io.audio import to_int16
from tts_infer.io.writer import require_place, whole_file
from tts_infer.report.figures import FIGURE_STYLE, dot_pictures, file_table, summary_table
from tts_infer.report.html import bullets, data_uri, escape, grid
from tts_infer.report.pictures import STYLE, import_pillow, mel_pictures

EXAMPLE_SECONDS = 10.0
_STYLE = (
    STYLE
    + FIGURE_STYLE
    + """
:root { color-scheme: light dark; }
body { max-width: 1180px; margin: 0 auto; padding: 16px; font: 15px/1.45 system-ui, sans-serif; }
body { background: light-dark(#fff, #16181c); color: light-dark(#1c1e22, #e4e6ea); }
h1 { font-size: 24px; margin: 8px 0; }
h2 { font-size: 18px; margin: 32px 0 8px; }
h3 { font-size: 15px; margin: 24px 0 6px; overflow-wrap: anywhere; }
p, ul { margin: 6px 0; max-width: 80ch; }
small { opacity: .75; }
.tts-plot .view { cursor: default; }
audio { margin-bottom: 10px; display: block; width: 100%; height: 40px; }
"""
)


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
    try:
        with whole_file(path) as part:
            # file names are bytes, and some are not valid text
            part.write_text(draw(evaluation, systems, title), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        if isinstance(error, FileError):
            raise
        reason = error.strerror or str(error)
        raise FileError(
            "cannot write {path}: {reason}", code="unwritable", path=os.fspath(path), reason=reason
        ) from None


def check_report(path: str | os.PathLike[str]) -> None:
    """Refuse early what `write_report` would refuse later.

    Raises:
        FileError: the extension is not .html, the folder does not exist, or the system does not allow the name.
        MissingPackageError: no Pillow.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        text = "cannot write {path}: extension {suffix!r}; allowed: .html"
        raise FileError(text, code="report-extension", path=str(path), suffix=path.suffix)
    require_place(path)
    import_pillow()


def draw(evaluation: Evaluation, systems: Sequence[System], title: str = "Copy synthesis") -> str:
    """The report as an HTML document, see `write_report`."""
    sections = [
        f"<h1>{escape(title)}</h1>",
        *_introduction(evaluation),
        f"<h2>Means</h2>{summary_table(evaluation)}",
        f"<h2>Every file</h2>{dot_pictures(evaluation)}",
        *_examples(evaluation, systems),
        f"<h2>Values of every file</h2>{file_table(evaluation)}",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content='
        f'"width=device-width, initial-scale=1"><title>{escape(title)}</title><style>{_STYLE}</style></head>'
        f"<body>{''.join(sections)}</body></html>\n"
    )


def _introduction(evaluation: Evaluation) -> Iterator[str]:
    files = len(evaluation.of(evaluation.systems[0]))
    yield (
        f"<p>{files} recording{'s' * (files != 1)}, copied by {escape(', '.join(evaluation.systems))}. Each copy is "
        f"compared with its original. Pitch tracker: {escape(evaluation.pitch_tracker)}.</p>"
    )
    notes = {"Not copied, and not part of any mean:": evaluation.failed, "Not measured:": evaluation.missing}
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
    key = "log_mel_error_db" if "pesq_wb" in evaluation.missing else "pesq_wb"
    return next(one for one in MEASURES if one.key == key)


def _badness(row: Row, ranking: Measure) -> float:
    value = row.measures[ranking.key]
    if value is None:
        return -math.inf
    return -value if ranking.best == "high" else value


def _example(path: Path, reason: str, systems: Sequence[System], evaluation: Evaluation) -> Iterator[str]:
    """One file: players of the original and of each copy, and below them their mels, one scale per convention."""
    yield f"<h3>{escape(path.name)} <small>{escape(reason)}</small></h3>"
    made, ranking = list(copy_file(path, systems)), _ranking(evaluation)
    values = {row.system: row.measures[ranking.key] for row in evaluation.rows if row.file == str(path)}
    best = max(made, key=lambda copy: copy.system.config.sample_rate)
    players = [_player("Original", best.original, best.system.config.sample_rate)]
    for copy in made:
        label, value = copy.system.label, values.get(copy.system.label)
        note = "" if value is None else f", {ranking.title} {ranking.text(value)}"
        players.append(_player(label, copy.samples, copy.system.config.sample_rate, note))
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


def _player(label: str, samples: Samples, sample_rate: int, note: str = "") -> str:
    stored = io.BytesIO()
    clip, _ = to_int16(samples[: round(EXAMPLE_SECONDS * sample_rate)])
    soundfile.write(stored, clip, sample_rate, format="FLAC", subtype="PCM_16")
    name = escape(label)
    return (
        f'<div>{name}<small>{note}</small><audio controls preload="none" aria-label="{name}" '
        f'src="{data_uri("audio/flac", stored.getvalue())}"></audio></div>'
    )
