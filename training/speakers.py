"""Recordings of many speakers: which of them are used, and for what. Speakers are split, not files.

    python -m training.speakers ../shared/speech/more --out training/speakers.tsv

The folder holds an INDEX.tsv with the columns file, corpus, speaker and licence. Every file is measured first. What is
not fit for training is kept apart, with the reason.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile
from numpy.typing import NDArray

from tts_infer.errors import InputError

Role = Literal["train", "validation", "test", "apart"]

# Folders of sound that is no plain recording of the full band, or whose licence asks for more than a name.
APART = {"more-enhanced": "enhanced", "more16k": "16 kHz", "more-copyleft": "copyleft"}
KEPT_OUT = 0.06  # of the speakers of a corpus: for validation, and as many for test
LEAST_SPEAKERS = 20  # of a corpus that speakers are kept out of
FRAME_S = 0.02
# Limits. The worst of what is taken are a noisy reader at 22 dB, and a band that ends at 9.2 kHz.
QUIETEST_PEAK = 0.02
MOST_CLIPPED = 1e-3
LEAST_RANGE_DB = 20.0  # from the level of the quietest frames to that of the loudest: below it, noise or music
LEAST_BAND_HZ = 8500.0
BAND_DB = 72.0  # a band ends where the spectrum falls this far below its maximum


@dataclass(frozen=True)
class Measured:
    """What decides whether a recording is fit.

    Args:
        peak: largest sample.
        clipped: share of the samples at full scale.
        range_db: level that 5 % of the frames exceed, above the one that 95 % exceed.
        band_hz: highest frequency within BAND_DB of the strongest band.
    """

    peak: float
    clipped: float
    range_db: float
    band_hz: float

    @property
    def unfit(self) -> str:
        """Why it is not fit; "" if it is."""
        if self.peak < QUIETEST_PEAK:
            return f"silent: peak {self.peak:.3f}"
        if self.clipped > MOST_CLIPPED:
            return f"clipped: {100 * self.clipped:.2f} %"
        if self.range_db < LEAST_RANGE_DB:
            return f"noisy: {self.range_db:.0f} dB from quiet to loud"
        if self.band_hz < LEAST_BAND_HZ:
            return f"narrow: up to {self.band_hz / 1000:.1f} kHz"
        return ""


def measure(samples: NDArray[np.float32], sample_rate: int) -> Measured:
    """Measure a recording. Shape: (T,) -> `Measured`; T at least 1024"""
    length = round(FRAME_S * sample_rate)
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    quiet, loud = np.percentile(10 * np.log10(np.square(frames).mean(1) + 1e-12), [5, 95])
    windows = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::256] * np.hanning(1024)
    power = np.square(np.abs(np.fft.rfft(windows)))
    voiced = power[power.sum(1) >= np.median(power.sum(1))].mean(0)
    bands = 10 * np.log10(voiced[:512].reshape(64, 8).max(1) + 1e-12)
    top = int(np.flatnonzero(bands > bands.max() - BAND_DB).max()) + 1
    size = np.abs(samples)
    return Measured(float(size.max()), float((size >= 0.999).mean()), float(loud - quiet), top * sample_rate / 128)


@dataclass(frozen=True)
class Recording:
    """A row of the table."""

    file: str
    speaker: str
    role: Role
    reason: str


def roles(speakers: Iterable[tuple[str, str]]) -> dict[str, Role]:
    """The role of every speaker, drawn by the hash of the name: in large corpora some are kept out.

    Args:
        speakers: corpus and name of each.
    """
    found: dict[str, Role] = {}
    corpora = defaultdict(list)
    for corpus, speaker in sorted(set(speakers)):
        corpora[corpus].append(speaker)
    for names in corpora.values():
        names.sort(key=lambda name: zlib.crc32(name.encode()))
        count = round(KEPT_OUT * len(names)) if len(names) >= LEAST_SPEAKERS else 0
        for i, name in enumerate(names):
            found[name] = "validation" if i < count else "test" if i < 2 * count else "train"
    return found


def split(folder: Path) -> list[Recording]:
    """Measure and split the recordings of a folder. Those of `APART` are left out altogether.

    Raises:
        InputError: there is no INDEX.tsv, or a licence in it is copyleft outside the folder for those.
    """
    index = folder / "INDEX.tsv"
    if not index.is_file():
        raise InputError("{folder} has no INDEX.tsv; it names the speaker of each file", code="no-index", folder=folder)
    with index.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if Path(row["file"]).parts[0] not in APART]
    role_of = roles((row["corpus"], row["speaker"]) for row in rows)
    found = []
    for row in rows:
        if any(word in row["licence"] for word in ("GPL", "SA")):
            text = "{file} is under {licence}; move it to {place}, which is never trained on"
            raise InputError(text, code="copyleft", file=row["file"], licence=row["licence"], place="more-copyleft")
        samples, rate = soundfile.read(folder / row["file"], dtype="float32", always_2d=True)
        reason = measure(np.ascontiguousarray(samples[:, 0]), rate).unfit
        found.append(Recording(row["file"], row["speaker"], "apart" if reason else role_of[row["speaker"]], reason))
    return found


def read_table(path: Path, role: str) -> list[str]:
    """The files of a role, relative to the folder that was split.

    Raises:
        InputError: no such table, no such role, or no file of that role.
    """
    if role not in get_args(Role):
        raise InputError(
            "role is {got!r}; allowed: {allowed}", code="no-role", got=role, allowed=", ".join(get_args(Role))
        )
    try:
        with path.open(encoding="utf-8", newline="") as file:
            files = [row["file"] for row in csv.DictReader(file, delimiter="\t") if row["role"] == role]
    except (OSError, KeyError):
        files = []
    if not files:
        text = "{path} lists no file for {role}; make it with `python -m training.speakers FOLDER --out {path}`"
        raise InputError(text, code="no-table", path=path, role=role)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="with an INDEX.tsv")
    parser.add_argument("--out", type=Path, required=True, help="the table, a .tsv")
    args = parser.parse_args()
    recordings = split(args.folder)
    with args.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(field.name for field in fields(Recording))
        writer.writerows(astuple(recording) for recording in recordings)
    for role in get_args(Role):
        files = [recording for recording in recordings if recording.role == role]
        print(f"{role}: {len(files)} files of {len({recording.speaker for recording in files})} speakers")
    for reason, count in Counter(r.reason.partition(":")[0] for r in recordings if r.reason).items():
        print(f"apart, {reason}: {count} files")


if __name__ == "__main__":
    main()
