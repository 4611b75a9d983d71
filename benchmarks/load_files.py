"""What the campaign of `benchmarks.load` sends: good files, and small ones that are broken or unpack to much.

Each bad file has the beginning of what must be said of it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

CLIP = Path(__file__).parent.parent / "examples" / "english.wav"
RATE = 24000


def silence(path: Path, minutes: float, rate: int = RATE, channels: int = 1) -> None:
    """A FLAC of silence, written a minute at a time: an hour has 300 KB."""
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        for _ in range(round(minutes)):
            file.write(np.zeros((60 * rate, channels), np.int16))


def slow(path: Path) -> None:
    soundfile.write(path, np.zeros(60_000, np.int16), 1)


def second_array(path: Path) -> None:
    """A good mel, and an array beside it that would take 512 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        good = io.BytesIO()
        np.save(good, np.full((100, 50), -5.0, np.float32))
        archive.writestr("mel.npy", good.getvalue())
        with archive.open("more.npy", "w") as entry:
            for _ in range(8):
                entry.write(bytes(2**26))


def spread(path: Path) -> None:
    torch.save({"mel": torch.zeros(1).expand(100, 10**10)}, path)


def long_mel(path: Path) -> None:
    np.save(path, np.full((100, 60_000), -5.0, np.float16))


def no_mel(path: Path) -> None:
    np.save(path, np.full((80, 50), -5.0, np.float32))


def zip_of(members: Sequence[tuple[str, bytes]]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return content.getvalue()


def many(path: Path) -> None:
    path.write_bytes(zip_of([(f"{i}.wav", b"x") for i in range(1001)]))


def encrypted(path: Path) -> None:
    content = bytearray(zip_of([("clip.wav", CLIP.read_bytes())]))
    for at in (6, content.rindex(b"PK\x01\x02") + 8):
        content[at] |= 1
    path.write_bytes(content)


def damaged(path: Path) -> None:
    content = bytearray(zip_of([("clip.wav", CLIP.read_bytes())]))
    content[2000:2100] = bytes(100)
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(zip_of([("clip.wav", CLIP.read_bytes())])[:-40])


def much(path: Path) -> None:
    """2 GB of zeros in 2 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for i in range(2):
            with archive.open(f"{i}.wav", "w") as entry:
                for _ in range(9):
                    entry.write(bytes(2**26))


Make = Callable[[Path], Any]
# By the endpoint that takes it: how to make it, and what is said.
BAD: dict[str, tuple[str, Make, str]] = {
    "hours.flac": ("synthesize", lambda path: silence(path, 120), "hours.flac is longer than 10 minutes"),
    "eight.flac": ("synthesize", lambda path: silence(path, 60, 8000, 8), "eight.flac is longer than 10 minutes"),
    "slow.wav": ("synthesize", slow, "audio of 1 Hz cannot be resampled"),
    "text.wav": ("synthesize", lambda path: path.write_text("no sound"), "cannot read text.wav as audio"),
    "empty.wav": ("synthesize", lambda path: path.write_bytes(b""), "cannot read empty.wav as audio"),
    "second.npz": ("decode", second_array, "cannot read second.npz as features: it unpacks to"),
    "spread.pt": ("decode", spread, "spread.pt holds few values spread over"),
    "long.npy": ("decode", long_mel, "long.npy holds 60000 frames; at most 56250 are allowed"),
    "bins.npy": ("decode", no_mel, "bins.npy: mel has shape (80, 50)"),
    "many.zip": ("batch", many, "these are more than 1000 files"),
    "much.zip": ("batch", much, "these are more than 1000 files, or 1000 MB unpacked"),
    "encrypted.zip": ("batch", encrypted, "cannot unpack clip.wav from encrypted.zip"),
    "damaged.zip": ("batch", damaged, "cannot unpack clip.wav from damaged.zip"),
    "cut.zip": ("batch", cut, "cannot read cut.zip as a zip file"),
}


def made(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Write bad files."""
    paths = {name: folder / name for name in names}
    for name, path in paths.items():
        BAD[name][1](path)
    return paths


def npy(array: Any) -> bytes:
    """What numpy.save writes."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()
