"""Names of what the page makes: `english-refine16.wav` says of what it is, and with which settings."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import tts_infer
from ui.session import AUTO, Report

LONGEST_BYTES = 240  # of a name; file systems take 255 with the extension and a number
LONGEST_PART = 40  # of a placement that was written out


def in_short(report: Report) -> str:
    """The settings of a result, those that were left to the page's choice not named."""
    first = [report[key] for key in ("voice", "vocoder") if report.get(key)]
    return " · ".join([*first, *_stated(report)])


def named(stem: str, report: Report) -> str:
    """The name of an output without its extension: that of the input, and the settings.

    The vocoder is named if it is not the one that everybody has; of speech, if it is not the voice's own.

    Args:
        stem: name of the input without its extension.
        report: of the output: voice or none, vocoder, refine or none, settings.
    """
    usual = None if "voice" in report else tts_infer.DEFAULT_VOCODER
    parts = [report["voice"].rpartition("/")[2]] if "voice" in report else []
    parts += [report["vocoder"]] if report["vocoder"] != usual else []
    parts += [part.replace("refine ", "refine").replace("speed ", "speed") for part in _stated(report)]
    end = "".join(f"-{file_part(part)[:LONGEST_PART]}" for part in parts)
    return stem.encode("utf-8", "replace")[: LONGEST_BYTES - len(end.encode())].decode("utf-8", "ignore") + end


def file_part(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def free_names(stems: Sequence[str]) -> list[str]:
    """For each stem the name of a WAV file that no other one has, with a number where that is needed."""
    taken: dict[str, str] = {}  # by the name that a file system may take it for
    for stem in stems:
        numbered = (f"{stem}{number}.wav" for number in itertools.chain([""], (f"-{i}" for i in itertools.count(2))))
        free = next(candidate for candidate in numbered if candidate.casefold() not in taken)
        taken[free.casefold()] = free
    return list(taken.values())


def _stated(report: Report) -> list[str]:
    """What was chosen, in words."""
    settings = report.get("settings", {})
    stated = [f"refine {report['refine']}"] if "refine" in report else []
    stated += [f"speed {report['speed']:g}"] if report.get("speed", 1.0) != 1.0 else []
    stated += [f"{key} {settings[key]}" for key in ("device", "placement", "istft") if settings.get(key, AUTO) != AUTO]
    dtype = settings.get("dtype", "float32")
    return stated + ([f"dtype {dtype}" if dtype == AUTO else dtype] if dtype != "float32" else [])
