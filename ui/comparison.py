"""The reports of a comparison, and its figures: one chart of times, and one table."""

from __future__ import annotations

import html
from collections.abc import Sequence

import tts_infer
from tts_infer import pictures
from ui.common_scene import mel_as
from ui.results import table
from ui.session import Report, Result
from ui.texts import Translator

SETTINGS = ("vocoder", "placement", "istft", "dtype", "refine")
REFINE = SETTINGS.index("refine")  # named with its value, since a number alone would not say what it counts


def with_errors(
    first: tts_infer.Vocoder, settings: Sequence[tuple[str, ...]], results: Sequence[Result]
) -> list[Report]:
    """The reports, each with its settings, and its log-mel errors in the first vocoder's convention.

    A result is named after those settings that are not the same for all.
    """
    differing = [i for i, values in enumerate(zip(*settings, strict=True)) if len(set(values)) > 1]
    reference = results[0].input_mel
    mels = [mel_as(first, result) for result in results]
    return [
        {
            "name": " · ".join(f"refine {setting[i]}" if i == REFINE else setting[i] for i in differing),
            **dict(zip(SETTINGS, setting, strict=True)),
            "error_to_input_db": tts_infer.log_mel_error_db(reference, mel, first.mel_config),
            "error_to_first_db": tts_infer.log_mel_error_db(mels[0], mel, first.mel_config),
            **result.report,  # of refine, the number of passes that ran
        }
        for setting, result, mel in zip(settings, results, mels, strict=True)
    ]


def figures(reports: Sequence[Report], say: Translator) -> str:
    """Where the time of each sample went, and its times and errors."""
    runs = [(report["name"], report["stages"], report["total_ms"]) for report in reports]
    chart = pictures.stage_bars(runs, words=say.phrase)
    return f"<h3>{say('where-time-went')}</h3>{chart}{comparison_table(reports, say)}"


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
