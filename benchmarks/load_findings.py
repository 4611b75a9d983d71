"""What the campaign of `benchmarks.load` compares answers with, and what it finds."""

from __future__ import annotations

import argparse
import io
import re
import time
from collections import defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import tts_infer
from benchmarks.load_client import PLACEMENT
from benchmarks.load_files import CLIP

MOST_GROWTH_MB = 100.0


@dataclass
class Tally:
    """What came of the requests, by kind."""

    right: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    wrong: dict[str, list[str]] = field(default_factory=dict)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def count(self, kind: str, work: Awaitable[str]) -> None:
        """Count a request; it gives what was wrong, or nothing."""
        start = time.perf_counter()
        try:
            fault = await work
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        self.seconds[kind].append(time.perf_counter() - start)
        if fault:
            self.wrong.setdefault(kind, []).append(fault)
        else:
            self.right[kind] += 1

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "requests": kind,
                "right": self.right[kind],
                "wrong": len(self.wrong.get(kind, ())),
                "median s": float(np.median(spent)),
                "most s": max(spent),
            }
            for kind, spent in sorted(self.seconds.items())
        ]


class Truth:
    """What the API makes of the good inputs."""

    def __init__(self) -> None:
        vocoder = tts_infer.load_vocoder(placement=PLACEMENT)
        clip = tts_infer.read_audio(CLIP, vocoder.sample_rate).samples
        self.mel = vocoder.mel(clip[: 2 * vocoder.sample_rate])[0].numpy()
        self.copy = tts_infer.to_int16(vocoder(clip)[0])[0]
        self.decoded = {
            passes: tts_infer.to_int16(vocoder.decode(self.mel, refine=passes)[0])[0] for passes in (None, 0, 2)
        }

    def differs(self, content: bytes, expected: Any, whole: bool = True) -> str:
        """Why a WAV is not what the API makes; empty if it is.

        Args:
            content: the file.
            expected: of the API.
            whole: whether it was decoded at once; pieces differ by 1e-4 of the peak, and by rounding.
        """
        samples, _ = soundfile.read(io.BytesIO(content), dtype="int16")
        if samples.shape != expected.shape:
            return f"{samples.shape} instead of {expected.shape}"
        most = np.abs(samples.astype(int) - expected).max()
        return "" if most <= (0 if whole else 1e-4 * np.abs(expected).max() + 1) else f"differs by {most}"


@dataclass
class Run:
    """One run of the campaign: what it is given, and what it finds.

    Attributes:
        truth: what good answers are.
        folder: for files, of the campaign and of the servers.
        args: of the command line.
        borders: rows of what must hold, see `load_borders.row`.
        leaks: what answers told that they must not.
    """

    truth: Truth
    folder: Path
    args: argparse.Namespace
    borders: list[dict[str, Any]] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    def border(self, what: str, holds: bool, detail: object = "") -> None:
        """Note whether something holds."""
        self.borders.append(row(what, holds, detail))

    async def tried(self, what: str, work: Awaitable[list[dict[str, Any]]]) -> None:
        """Add rows; where finding them fails, that is a row, too."""
        try:
            self.borders += await work
        except Exception as error:
            self.border(what, False, f"{type(error).__name__}: {error}")


def row(what: str, holds: bool, detail: object = "") -> dict[str, Any]:
    """Whether something holds; if not, what was found instead."""
    return {"border": what, "holds": "yes" if holds else f"NO: {detail}"}


def held(pid: int) -> float:
    """Megabytes in memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024
