"""What can be heard and seen of a result, in files: its sounds, its mels, its report.

The server keeps nothing of a result in memory. The page knows the name of its scene, and asks for what it shows. Gradio
removes the files together with those of uploads.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gradio as gr
import numpy as np
import soundfile
import torch
from gradio.context import LocalContext
from gradio.data_classes import FileData

import tts_infer

RANGE_DB = 80.0  # from the loudest value of all mels down to black
MOST_COLUMNS = 4000
MOST_F0_S = 60.0  # of the window whose fundamental frequency is shown; half a second of computing
Comments = Mapping[Literal["software", "artist", "comment"], str]  # what a file says of itself
_SCENE, _MELS, _FACTS = re.compile(r"[0-9a-f]{32}"), "mels.npy", "scene.json"


@dataclass(frozen=True)
class Sound:
    """A sound of a scene, all of them at one rate.

    Attributes:
        name: what it is called, as text or as a key of `ui.texts`
        file: its file name
        samples: full scale 1.0. Shape: (T,)
        comments: what its file says of itself
    """

    name: str
    file: str
    samples: torch.Tensor
    comments: Comments = field(default_factory=dict)


def keep(
    sounds: Sequence[Sound],
    sample_rate: int,
    mels: Sequence[torch.Tensor],
    config: tts_infer.MelConfig,
    facts: dict[str, Any],
) -> str:
    """Write a scene, and return its name.

    Args:
        sounds: what can be heard.
        sample_rate: of all sounds.
        mels: of the input, and of each output: of each sound, from the last one backwards; or of the only output, if
            there is no input to compare it with. Shape: (n_mels, L) each
        config: the convention of all mels.
        facts: what else is to be known, as JSON.
    """
    files = write_sounds(sounds, sample_rate)
    folder = files[0].parent
    frames = min(mel.shape[-1] for mel in mels)
    levels = np.stack([mel[:, :frames].float().numpy() * config.db_per_unit for mel in mels])
    np.save(folder / _MELS, levels.astype(np.float16))  # to 0.03 dB
    silence_db = float(np.log(config.log_floor) * config.db_per_unit)
    scene = {
        "sounds": [{"name": sound.name, "file": str(file)} for sound, file in zip(sounds, files, strict=True)],
        "rate": sample_rate,
        "seconds": max(sound.samples.shape[-1] for sound in sounds) / sample_rate,
        "hop_s": config.hop_length / config.sample_rate,
        "hz": [round(float(hz), 1) for hz in tts_infer.mel_centres(config)],
        "top_db": max(silence_db + RANGE_DB, float(levels.max())),
        "range_db": RANGE_DB,
        "compared": len(mels) > 1,
        **facts,
    }
    (folder / _FACTS).write_text(json.dumps(scene), encoding="utf-8")
    _registered([folder / _MELS, folder / _FACTS])
    return folder.name


def write_sounds(sounds: Sequence[Sound], sample_rate: int) -> list[Path]:
    """Write sounds into a new folder, from which the page is served."""
    folder = _root() / secrets.token_hex(16)
    folder.mkdir(parents=True)
    files = [folder / sound.file for sound in sounds]
    for sound, file in zip(sounds, files, strict=True):
        tts_infer.write_audio(file, sound.samples, sample_rate, comments=sound.comments)
    _registered(files)
    return files


def _root() -> Path:
    return Path(str(gr.utils.get_upload_folder())).resolve()


def _registered(files: Sequence[Path]) -> None:
    """Have Gradio remove the files when their time has come, and when the server stops."""
    blocks = LocalContext.blocks.get(None)
    if blocks is not None:
        blocks.upload_file_set.update(map(str, files))


def _file(scene: Any, name: str) -> Path:
    """A file of a scene.

    Raises:
        InputError: there is no such scene any more.
    """
    path = _root() / str(scene) / name
    if not _SCENE.fullmatch(str(scene)) or not path.is_file():
        raise tts_infer.InputError("This result has expired: make it again.", code="page-expired")
    return path


def facts_of(scene: str) -> dict[str, Any]:
    """What is known of a scene; see `keep`.

    Raises:
        InputError: there is no such scene any more.
    """
    read: dict[str, Any] = json.loads(_file(scene, _FACTS).read_text(encoding="utf-8"))
    return read


def served(path: str) -> dict[str, Any]:
    """A file as Gradio sends its address to the page."""
    return FileData(path=path, orig_name=Path(path).name).model_dump()


def window(scene: str, which: int, start_s: float, stop_s: float, columns: int) -> dict[str, Any]:
    """Part of the mels of the input and of one output, each column the mean of its frames in decibels.

    Args:
        scene: its name.
        which: the output, from 1.
        start_s, stop_s: the part.
        columns: how many there are room for.

    Returns:
        start_s, stop_s: of whole frames; columns; frames, in each column; input and output, int16 of (n_mels, columns)
        in hundredths of a decibel, little-endian, as base64.
    """
    facts, levels = facts_of(scene), np.load(_file(scene, _MELS), mmap_mode="r")
    hop_s, frames = facts["hop_s"], levels.shape[2]
    first = min(max(0, int(start_s / hop_s)), frames - 1)
    last = max(first + 1, min(frames, int(np.ceil(stop_s / hop_s))))
    count = min(max(1, int(columns)), MOST_COLUMNS, last - first)
    starts = np.linspace(0, last - first, count, endpoint=False).astype(int)
    sizes = np.diff([*starts, last - first])
    means = [
        np.add.reduceat(levels[k, :, first:last].astype(np.float32), starts, axis=1) / sizes
        for k in (0, min(max(1, int(which)), len(levels) - 1))
    ]
    packed = [base64.b64encode(np.round(100 * mean).astype("<i2").tobytes()).decode() for mean in means]
    return {
        "start_s": first * hop_s,
        "stop_s": last * hop_s,
        "columns": count,
        "frames": (last - first) / count,
        "input": packed[0],
        "output": packed[1],
    }


def pitch(scene: str, sound: int, start_s: float, stop_s: float) -> dict[str, Any]:
    """The fundamental frequency of part of a sound: its hop in seconds, and the values in hertz, null without voice.

    Raises:
        InputError: the part is longer than `MOST_F0_S`, or the scene has expired.
    """
    facts = facts_of(scene)
    if stop_s - start_s > MOST_F0_S:
        raise tts_infer.InputError(
            "The fundamental frequency is shown of up to {most:.0f} s: zoom in.", code="page-f0", most=MOST_F0_S
        )
    path = _file(scene, Path(facts["sounds"][int(sound)]["file"]).name)
    rate, hop_s = facts["rate"], 0.01
    first = max(0, int(start_s * rate))
    samples, _ = soundfile.read(path, frames=int((stop_s - start_s) * rate), start=first, dtype="float32")
    found = tts_infer.estimate_f0(samples, rate, hop_s)
    return {
        "start_s": first / rate,
        "hop_s": hop_s,
        "hz": [None if np.isnan(hz) else round(float(hz), 1) for hz in found],
    }
