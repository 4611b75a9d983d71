"""The reports of a comparison, and its figures: one chart of times, and one table."""

from __future__ import annotations

import html
from collections.abc import Sequence

import torch

import tts_infer
from tts_infer import pictures
from ui.results import table
from ui.session import Input, Report
from ui.synthesis import finished
from ui.texts import Translator

SETTINGS = ("vocoder", "placement", "istft", "dtype", "refine")
REFINE = SETTINGS.index("refine")  # named with its value, since a number alone would not say what it counts


def reports_of(settings: Sequence[tuple[str, ...]], found: tts_infer.Comparison) -> list[Report]:
    """The report of each system: its name and settings, errors, and what /synthesize reports, with medians.

    A system is named after those settings that are not the same for all.
    """
    differing = [i for i, values in enumerate(zip(*settings, strict=True)) if len(set(values)) > 1]
    return [
        {
            "name": " · ".join(f"refine {setting[i]}" if i == REFINE else setting[i] for i in differing),
            **dict(zip(SETTINGS, setting, strict=True)),
            "error_to_input_db": result.error_to_input_db,
            "error_to_first_db": result.error_to_first_db,
            **report_of(found, i),  # of refine, the number of passes that ran
        }
        for i, (setting, result) in enumerate(zip(settings, found.results, strict=True))
    ]


def report_of(found: tts_infer.Comparison, index: int) -> Report:
    """The report of the median run of a system."""
    result, sound = found.results[index], found.sounds[index]
    model = sound.system.vocoder
    assert model is not None and sound.original is not None and sound.mel is not None
    audio, features = torch.from_numpy(sound.audio)[None], sound.input_mel[None]
    made = tts_infer.Synthesis(audio, features, result.sample_rate, result.stages, result.ms.median)
    given = Input("audio", torch.from_numpy(sound.original)[None], list(found.input_notes))
    times = {"runs": found.runs, "least_ms": result.ms.low, "most_ms": result.ms.high}
    return finished(model, given, made, sound.mel[None]).report | times


def figures(reports: Sequence[Report], say: Translator) -> str:
    """Where the time of each sample went, and its times and errors."""
    runs = [(report["name"], report["stages"], report["total_ms"]) for report in reports]
    chart = pictures.stage_bars(runs, words=say.phrase)
    told = say("compare-runs", runs=reports[0]["runs"])
    return f"<h3>{say('where-time-went')}</h3><p>{told}</p>{chart}{comparison_table(reports, say)}"


def comparison_table(reports: Sequence[Report], say: Translator) -> str:
    """One row per setting."""
    heads = ("sample", "settings", "ms", "times-real-time", "error-to-input-db", "error-to-first-db", "clipped-samples")
    rows = [
        [
            str(i + 1),
            html.escape(report["name"]),
            f"{report['total_ms']:.2f}",
            f"{report['rtfx']:.1f}",
            f"{report['error_to_input_db']:.2f}",
            f"{report['error_to_first_db']:.4f}",
            str(report["clipped_samples"]),
        ]
        for i, report in enumerate(reports)
    ]
    return f'<div class="tts-wrap">{table(say("compare"), [say(head) for head in heads], rows, texts=2)}</div>'
