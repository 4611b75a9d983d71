"""A comparison as one HTML file: figures, where the time went, players, spectrograms."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from tts_infer.arguments import checked
from tts_infer.evaluation.comparison import FIGURES, Comparison, Sound
from tts_infer.report.html import bullets, escape, grid, table
from tts_infer.report.page import EXAMPLE_SECONDS, check_report, document, player, write_page
from tts_infer.report.pictures import mel_pictures, stage_waterfall


@checked()
def write_comparison(path: str | os.PathLike[str], comparison: Comparison) -> None:
    """Write the report, whole or not at all.

    Args:
        path: .html; an existing file is replaced.
        comparison: what it shows.

    Raises:
        FileError, MissingPackageError: see `check_report`; or the system refuses to write.
    """
    check_report(path)
    write_page(path, draw_comparison(comparison))


def draw_comparison(comparison: Comparison) -> str:
    """The report as an HTML document, see `write_comparison`."""
    name = Path(comparison.source).name
    sections = [
        f"<p>{escape(comparison.description)}.</p>",
        bullets(comparison.notes) if comparison.notes else "",
        _figures(comparison),
        "<h2>Where the time went</h2>",
        *_waterfalls(comparison),
        f"<h2>Listen and look</h2><p>The first {EXAMPLE_SECONDS:.0f} s of each, 16 bit, at their own level.</p>",
        *_sounds(comparison),
    ]
    return document(f"Comparison: {name}", sections)


def _figures(comparison: Comparison) -> str:
    rows = [list(map(escape, one.cells)) for one in comparison.results]
    about = bullets([f"{name}: {meaning}" for name, meaning in FIGURES.items()])
    return table("Figures", ["System", *FIGURES], rows) + about


def _waterfalls(comparison: Comparison) -> Iterator[str]:
    """The stages of the median run of each, on one time axis."""
    span_ms = max(one.ms.median for one in comparison.results)
    for one in comparison.results:
        yield f"<h3>{escape(one.label)}</h3>{stage_waterfall(one.stages, one.ms.median, span_ms=span_ms)}"


def _sounds(comparison: Comparison) -> Iterator[str]:
    """Players of the original and of everything made, and their mels, one scale per convention."""
    pairs = list(zip(comparison.results, comparison.sounds, strict=True))
    best, sound = max(pairs, key=lambda pair: pair[0].sample_rate)
    players = [] if sound.original is None else [player("Original", sound.original, best.sample_rate)]
    yield grid([*players, *(player(one.label, made.audio, one.sample_rate) for one, made in pairs)], least_px=230)
    for config in dict.fromkeys(made.system.config for _, made in pairs):
        same = [(one.label, made) for one, made in pairs if made.system.config == config and made.mel is not None]
        if same:
            yield mel_pictures(list(_panels(same)), config)


def _panels(made: Sequence[tuple[str, Sound]]) -> Iterator[tuple[str, Tensor]]:
    config = made[0][1].system.config
    frames = round(EXAMPLE_SECONDS * config.sample_rate / config.hop_length)
    yield "Input", made[0][1].input_mel[:, :frames]
    for label, one in made:
        assert one.mel is not None
        yield label, one.mel[:, :frames]
