"""Notes of reports: silence, channels that cancel, clipping."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import tts_infer
from tts_infer.cli import main

SPEECH = tts_infer.read_audio(Path(__file__).parent.parent / "examples" / "english.wav", 24000).samples[:24000]
LONG = 60 * 24000  # samples, more than are decoded at once


@pytest.mark.parametrize(
    ("audio", "codes"),
    [
        (SPEECH, []),
        (np.stack([SPEECH, 0.5 * SPEECH], 1), []),
        (np.zeros(24000, np.float32), ["silent-input", "silent-output"]),
        (np.zeros(LONG, np.float32), ["silent-input", "silent-output"]),
        (np.stack([SPEECH, -SPEECH], 1), ["channels-cancel", "silent-output"]),
        (np.stack([SPEECH, -0.9 * SPEECH], 1), ["channels-cancel"]),
        (np.clip(20 * SPEECH / np.abs(SPEECH).max(), -1, 1), ["clipped-input"]),
    ],
)
def test_notes_of_copies(audio: Any, codes: list[str], vocoder: tts_infer.Vocoder, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", audio, 24000, subtype="FLOAT")
    report = tts_infer.synthesize_file(vocoder, tmp_path / "a.wav", tmp_path / "b.wav", sample_format="float32")
    assert [note.code for note in report.notes] == codes
    for note in report.notes:
        assert f"note: {note.text}" in report.as_text("v")


def test_a_silent_mel_is_noted(vocoder: tts_infer.Vocoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", torch.full((100, 20), math.log(1e-7)).numpy())
    assert main(["decode", str(tmp_path / "a.npy"), "-o", str(tmp_path / "a.wav"), "--device", "cpu", "--json"]) == 0
    assert [note["code"] for note in json.loads(capsys.readouterr().out)["notes"]] == ["silent-output"]
