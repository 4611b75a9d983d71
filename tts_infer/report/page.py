"""An evaluation as one HTML file that needs nothing else: figures, dots, players, spectrograms.

Text, boxes and data URIs only: no script, no font, no request. Colours follow the reader's light or dark setting.
"""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import soundfile
from torch import Tensor

from tts_infer.errors import FileError
from tts_infer.evaluation.evaluate import Evaluation, Row
from tts_infer.evaluation.measures import MEASURES, Measure
from tts_infer.evaluation.metrics import Samples
from tts_infer.evaluation.systems import MAX_SECONDS, Candidate, Copy, copies
from tts_infer.io.audio import to_int16
from tts_infer.io.writer import require_place, whole_file
from tts_infer.report.figures import FIGURE_STYLE, colour_key, dot_pictures, file_table, summary_table
from tts_infer.report.pictures import STYLE, mel_pictures

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
.players { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(230px, 100%), 1fr)); gap: 8px 20px; }
.players div { min-width: 0; }
.players { margin-bottom: 10px; }
audio { display: block; width: 100%; height: 40px; }
"""
)


def write_report(
    path: str | os.PathLike[str], evaluation: Evaluation, candidates: Sequence[Candidate], title: str = "Copy synthesis"
) -> None:
    """Write the report, whole or not at all.

    The files that can be heard and seen are copied once more: of each candidate those two with the lowest PESQ - or,
    where PESQ is missing, the largest log-mel error - and the median file of the first candidate. Their first 10 s.

    Args:
        path: .html; an existing file is replaced.
        evaluation: what is shown.
        candidates: those that made it.
        title: of the page.

    Raises:
        FileError: see `check_report_path`; or the system refuses to write.
    """
    check_report_path(path)
    try:
        with whole_file(path) as part:
            # names are bytes to the system, and not all of them are text
            part.write_text(draw(evaluation, candidates, title), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot write {os.fspath(path)}: {error.strerror or error}") from None


def check_report_path(path: str | os.PathLike[str]) -> None:
    """Refuse early what `write_report` would refuse late.

    Raises:
        FileError: the extension is not .html, the folder does not exist, or the system allows no such name.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise FileError(f"cannot write {path}: extension {path.suffix!r}; allowed: .html")
    require_place(path)


def draw(evaluation: Evaluation, candidates: Sequence[Candidate], title: str = "Copy synthesis") -> str:
    """The report as an HTML document, see `write_report`."""
    chosen = choose_examples(evaluation)
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        *_introduction(evaluation),
        f"<h2>Means</h2>{summary_table(evaluation)}",
        f"<h2>Every file</h2>{colour_key(evaluation.candidates)}{dot_pictures(evaluation)}",
    ]
    if chosen:
        sections.append("<h2>To hear and see</h2>")
        first = evaluation.candidates[0]
        sections.append(
            f"<p>{len(chosen)} of {len(evaluation.of(first))} files: those where the {_ranking(evaluation).title} of "
            f"each candidate is worst and second worst, and the median one of {html.escape(first)}. "
            f"Their first {EXAMPLE_SECONDS:.0f} s, 16 bit, level as it is.</p>"
        )
        for file, reason in chosen.items():
            sections += _example(Path(file), reason, candidates, evaluation)
    sections.append(f"<h2>Figures of every file</h2>{file_table(evaluation)}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content='
        f'"width=device-width, initial-scale=1"><title>{html.escape(title)}</title><style>{_STYLE}</style></head>'
        f"<body>{''.join(sections)}</body></html>\n"
    )


def choose_examples(evaluation: Evaluation) -> dict[str, str]:
    """Files that are worth hearing, with the reason."""
    ranking = _ranking(evaluation)
    chosen: dict[str, str] = {}
    for number, label in enumerate(evaluation.candidates):
        rows = sorted(evaluation.of(label), key=lambda row: _badness(row, ranking), reverse=True)
        for place, row in zip(("worst", "second worst"), rows, strict=False):
            chosen.setdefault(row.file, f"{place} of {label}")
        if rows and not number:
            chosen.setdefault(rows[len(rows) // 2].file, f"median of {label}")
    return chosen


def _ranking(evaluation: Evaluation) -> Measure:
    return next(
        one for one in MEASURES if one.key == ("log_mel_error_db" if "pesq_wb" in evaluation.missing else "pesq_wb")
    )


def _badness(row: Row, ranking: Measure) -> float:
    value = row.measures[ranking.key]
    if value is None:
        return -math.inf
    return -value if ranking.best == "high" else value


def _introduction(evaluation: Evaluation) -> Iterator[str]:
    files = len(evaluation.of(evaluation.candidates[0]))
    yield (
        f"<p>{files} recordings, copied by {html.escape(', '.join(evaluation.candidates))}, and each copy measured "
        f"against its original. Periodicity and voicing by {html.escape(evaluation.pitch_tracker)}.</p>"
    )
    notes = [f"{html.escape(file)}: {html.escape(reason)}" for file, reason in evaluation.failed.items()]
    if notes:
        yield f"<p>Not copied, and not part of any mean:</p><ul>{''.join(f'<li>{note}</li>' for note in notes)}</ul>"
    notes = [f"{html.escape(what)}: {html.escape(reason)}" for what, reason in evaluation.missing.items()]
    if notes:
        yield f"<p>Not measured:</p><ul>{''.join(f'<li>{note}</li>' for note in notes)}</ul>"
    if evaluation.shortened:
        names = html.escape(", ".join(evaluation.shortened))
        yield f"<p>Only the first {MAX_SECONDS:.0f} s were measured of: {names}</p>"


def _example(path: Path, reason: str, candidates: Sequence[Candidate], evaluation: Evaluation) -> Iterator[str]:
    """One file: the original and each copy, to hear, and below their mels, one scale for each convention."""
    yield f"<h3>{html.escape(path.name)} <small>{html.escape(reason)}</small></h3>"
    made = list(copies(path, candidates))
    rows = {row.candidate: row for row in evaluation.rows if row.file == str(path)}
    original = max(made, key=lambda copy: copy.candidate.config.sample_rate)
    players = [_player("Original", original.original, original.candidate.config.sample_rate)]
    for copy in made:
        label = copy.candidate.label
        values = ((one, rows[label].measures[one.key]) for one in (_ranking(evaluation),) if label in rows)
        figures = "".join(f", {one.title} {value:.{one.digits}f}" for one, value in values if value is not None)
        players.append(_player(label, copy.samples, copy.candidate.config.sample_rate, figures))
    yield f'<div class="players">{"".join(players)}</div>'
    for config in dict.fromkeys(copy.candidate.config for copy in made):
        panels = list(_panels([copy for copy in made if copy.candidate.config == config]))
        if panels:
            yield mel_pictures(panels, config)


def _panels(made: Sequence[Copy]) -> Iterator[tuple[str, Tensor]]:
    config = made[0].candidate.config
    frames = round(EXAMPLE_SECONDS * config.sample_rate / config.hop_length)
    shown = [copy for copy in made if copy.mels is not None]
    for copy in shown:
        assert copy.mels is not None
        if copy is shown[0]:
            yield "Original", copy.mels[0][0, :, :frames]
        yield copy.candidate.label, copy.mels[1][0, :, :frames]


def _player(label: str, samples: Samples, sample_rate: int, figures: str = "") -> str:
    stored = io.BytesIO()
    whole, _ = to_int16(samples[: round(EXAMPLE_SECONDS * sample_rate)])
    soundfile.write(stored, whole, sample_rate, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(stored.getvalue()).decode()
    name = html.escape(label)
    return (
        f'<div>{name}<small>{figures}</small><audio controls preload="none" aria-label="{name}" '
        f'src="data:audio/flac;base64,{data}"></audio></div>'
    )
